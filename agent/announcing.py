"""Whoever started the supervisor as a service hears how it is, with sd_notify(3).

A reload is over when the new workers serve, or when it is sure that the old ones do.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class Announcer:
    """NOTIFY_SOCKET of this very process; it is taken out of the environment."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self._path: Final = f"\0{path[1:]}" if path.startswith("@") else path

    def serving(self, status: str) -> None:
        """All workers serve."""
        self._tell(f"READY=1\nSTATUS={status}")

    def replacing(self) -> None:
        """New workers get ready. Both fields in one datagram, as Type=notify-reload wants."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def ending(self) -> None:
        """It was told to end."""
        self._tell("STOPPING=1")

    def _tell(self, words: str) -> None:
        if not self._path:
            return
        with (
            contextlib.suppress(OSError),  # nothing here depends on who listens
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling,
        ):
            telling.sendto(words.encode(), self._path)
