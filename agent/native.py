"""Threads and locks here are the operating system's, also where gevent has replaced them.

A patched thread that waits for its socket stops the whole application, so the originals are taken
back from gevent's own register of what it patched.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def original(name: str, module: str = "_thread") -> Any:  # noqa: ANN401 - function or type
    """`<module>.<name>` as the interpreter made it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def spawn(run: Callable[[], None]) -> None:
    """Run `run` on a daemon thread of the operating system; it must not raise."""
    original("start_new_thread")(run, ())


class Lock:
    """A reentrant lock between native threads that can be given up and remade after a fork."""

    def __init__(self) -> None:
        self._lock: Final = original("allocate_lock")()
        self._ident: Final = original("get_ident")
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, timeout_s: float = -1) -> bool:
        """Take it; False when `timeout_s` passed first."""
        me = self._ident()
        if self._owner == me:
            self._depth += 1
            return True
        if not self._lock.acquire(timeout=timeout_s):
            return False
        self._owner, self._depth = me, 1
        return True

    def release(self) -> None:
        """Give back one `acquire` of this thread."""
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._lock.release()

    @property
    def owned(self) -> bool:
        """Whether this thread has it."""
        return self._owner is not None and self._owner == int(self._ident())

    @property
    def depth(self) -> int:
        """How often its owner took it."""
        return self._depth

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Alarm:
    """A one-shot event that a native thread waits for with a limit."""

    def __init__(self) -> None:
        self._lock: Final = original("allocate_lock")()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait, now and for ever; safe to call twice."""
        if self._lock.locked():
            self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """True when it rang within `timeout_s`."""
        if self._lock.acquire(timeout=timeout_s):
            self._lock.release()
            return True
        return False
