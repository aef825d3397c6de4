"""A start that failed for want of descriptors or memory is tried again; nothing else ever is.

Imported before there is such a shortage: during one, nothing can be imported.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from zdpatch.agent.native import Alarm, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.handle import Handle

_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FIRST_S: Final = 1.0
_MOST_S: Final = 60.0
_LONGEST_CHAIN: Final = 20


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is one that passes.

    An extension module that could not be opened says so in words only. What `/proc` did not show
    has no number.
    """
    words = tuple(os.strerror(number) for number in _SHORT)
    for _ in range(_LONGEST_CHAIN):
        if error is None:
            return False
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and (error.errno is None or error.errno in _SHORT):
            return True
        if isinstance(error, ImportError) and str(error).endswith(words):
            return True
        error = error.__cause__ or error.__context__
    return False


class Again:
    """Starts the agent later, and puts it into the handle that was given."""

    def __init__(self, handle: Handle, begin: Callable[[], Handle]) -> None:
        self._handle: Final = handle
        self._begin: Final = begin
        self._pid = os.getpid()
        self._halt = Alarm()

    @property
    def goes_on(self) -> bool:
        """Whether it tries again: in this process, and not once it was stopped."""
        return self._pid == os.getpid() and not self._halt.wait(0)

    def stop(self) -> None:
        """Try no more."""
        self._halt.ring()

    def launch(self) -> None:
        """Start the thread, and one in each child that is forked meanwhile. Raises RuntimeError
        when there can be none.
        """
        os.register_at_fork(after_in_child=self._after_fork)
        spawn(self._run)

    def _after_fork(self) -> None:
        if not self._halt.wait(0):
            self._pid, self._halt = os.getpid(), Alarm()
            spawn(self._run)

    def _run(self) -> None:
        pause = _FIRST_S
        while not self._halt.wait(pause):
            try:
                self._handle.take(self._begin())
            except Exception as error:  # noqa: BLE001 - the thread has nobody to tell but the handle
                short = is_shortage(error)
                self._handle.reason = f"{type(error).__name__}: {error}"
                if not short:
                    self.stop()
            else:
                self.stop()
            pause = min(_MOST_S, 2 * pause)
