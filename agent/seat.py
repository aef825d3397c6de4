"""There is one seat for an agent in a process: who wants to sit down waits for who is doing so.

A fork does not wait: a child copied in the middle of a start has a free seat, and nobody on it.
This module is imported before all the others, and imports next to nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Final

from zdpatch.agent.native import Lock

if TYPE_CHECKING:
    from collections.abc import Generator

    from zdpatch.agent.runtime import Runtime

_START_WAIT_S: Final = 20.0  # four times what a start gives to bringing patches up


class Seat:
    """`runtime` is the agent of this process, once it has been brought up."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self._lock = Lock()

    @contextlib.contextmanager
    def taken(self) -> Generator[None]:
        """One thread at a time; the same one may come again. Raises TimeoutError."""
        lock = self._lock
        if not lock.acquire(_START_WAIT_S):
            # whoever starts it may wait for a module that this thread is importing
            raise TimeoutError("another thread is still starting the agent")
        try:
            yield
        finally:
            lock.release()

    def before_fork(self) -> None:
        """No transaction is in progress while the process is copied."""
        if self.runtime is not None:
            self.runtime.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self.runtime is not None:
            self.runtime.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """An agent of its own, and a lock that no thread of the parent has."""
        if self.runtime is not None:
            self.runtime.after_fork_in_child()
        if not self._lock.owned:  # else the thread that forked in the middle of its start goes on
            self._lock = Lock()

    def leave(self) -> None:
        """The process ends."""
        if self.runtime is not None:
            self.runtime.stop()


SEAT: Final = Seat()
# hooks cannot be taken back: they are set once and look at who sits there
os.register_at_fork(
    before=SEAT.before_fork,
    after_in_parent=SEAT.after_fork_in_parent,
    after_in_child=SEAT.after_fork_in_child,
)
atexit.register(SEAT.leave)
