"""A server that waits with select or poll waits at a gate: its own descriptor. It knows nothing.

Closed, the descriptor is a listener that nobody can reach; open, it is the shared one. Whoever is
asleep in the kernel with the other one is woken, finds nothing to accept, and goes on.
"""

from __future__ import annotations

import os
import socket
from typing import Final


class Gate:
    """A gate at the descriptor of a listener; it is closed at first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._listener: Final = os.dup(descriptor)
        self._nobody: str | bytes | None = None
        self.close()

    def open(self) -> None:
        """Accept from here on; who waits is woken."""
        if self._nobody is None:
            return
        name, self._nobody = self._nobody, None
        kept = os.dup(self._descriptor)
        os.dup2(self._listener, self._descriptor, inheritable=False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waking:
            waking.setblocking(False)
            waking.connect_ex(name)
        os.close(kept)

    def close(self) -> None:
        """Accept no more: what arrives stays with the kernel, for others."""
        if self._nobody is not None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as nobody:
            nobody.bind("")  # the kernel finds it an abstract name
            nobody.listen(8)
            nobody.setblocking(False)
            self._nobody = nobody.getsockname()
            os.dup2(nobody.fileno(), self._descriptor, inheritable=False)
