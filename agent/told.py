"""A process that is told to end, and then ends in whatever way, did not crash.

Servers like uvicorn shut down in order when SIGTERM comes, and then let the very signal kill them,
past the interpreter's exit functions. The interpreter itself writes the number of each signal that
has a Python handler to a descriptor, if nobody else wants that; here it is a file, so it is there
however soon the process ends. Nobody's handler is replaced; a signal without one leaves no word.
Event loops (uvloop always) want that descriptor for themselves; then the word comes when the
process raises the signal for itself, which is what ends those servers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from zdpatch.agent.identity import ProcessKey

_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_ROOM: Final = bytes(64)  # written beforehand, so that a full disk does not matter later
_FIRST_NUMBER: Final = 800  # a number that is not used again when somebody closed all descriptors


def file_of(app_dir: Path, key: ProcessKey) -> Path:
    """Where the signals of one process are."""
    boot = hashlib.sha256(key.boot.encode()).hexdigest()[:16]
    return app_dir / "told" / f"{key.pid}-{key.ticks}-{boot}"


def was_told(file: Path) -> bool:
    """Whether a process got a signal to end."""
    try:
        return any(number in _ENDS for number in file.read_bytes())
    except OSError:
        return False


def forget(file: Path) -> None:
    """The process is accounted for."""
    with contextlib.suppress(OSError):
        file.unlink()


class Told:
    """Listens for this process; made in its main thread, elsewhere it hears nothing."""

    def __init__(self) -> None:
        # nowhere, until the process has a name in the journal: many children end before
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self._number: Final = _high(os.open(os.devnull, flags))
        self._is: tuple[int, int] = _identity(self._number)
        self._file: Path | None = None
        self._since: float | None = None
        self._look_at = float("-inf")
        self._excused = False
        self._raise: Final = signal.raise_signal
        signal.raise_signal = self._raised
        self._listens = self._listen()

    def _listen(self) -> bool:
        if "trio" in sys.modules:  # takes the slot itself, and warns of anybody who had it before
            return False
        with contextlib.suppress(ValueError):  # only the main thread may
            before = signal.set_wakeup_fd(self._number, warn_on_full_buffer=False)
            if before == -1:
                return True
            # an event loop's: it needs them more, and says itself when it ends
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        return False

    def _raised(self, number: int, /) -> None:
        """`signal.raise_signal`: this may be the last that happens here."""
        if self._file is not None and number in _ENDS:
            _note(self._file, number)
        self._raise(number)

    def write_to(self, file: Path) -> None:
        """What comes from now on goes there; when it cannot be made, nowhere."""
        if not self._mine():
            return
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC
            number = os.open(file, flags, 0o600)
            try:
                os.pwrite(number, _ROOM, 0)
                os.dup2(number, self._number, inheritable=False)
                self._is, self._file = _identity(number), file
            finally:
                os.close(number)

    def excuse(self, file: Path) -> None:
        """No end of this process is a crash: its parent ends it at will, and sees how it ended."""
        self._excused = True
        self._file = self._file or file
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _note(file, signal.SIGTERM)

    def tend(self, now: float, goes_on_s: float) -> None:
        """A process that goes on so long (steady seconds) was told something else."""
        if self._file is None or self._excused or now < self._look_at:
            return
        self._look_at = now + goes_on_s / 4
        if not was_told(self._file):
            return
        if self._since is None:
            self._since = now
        elif now - self._since >= goes_on_s and self._mine():
            self._since = None
            os.ftruncate(self._number, 0)
            os.pwrite(self._number, _ROOM, 0)
            os.lseek(self._number, 0, os.SEEK_SET)

    def close(self) -> None:
        """Listen no more, where that can be said; otherwise into a file that is gone."""
        if self._file is not None:
            forget(self._file)
            self._file = None
        if self._unset() and self._mine():
            os.close(self._number)

    def again(self) -> Told:
        """In a forked child: listen for the child. Its main thread is the one that forked."""
        self._file = None
        if self._unset() and self._mine():
            os.close(self._number)
        return Told()

    def _unset(self) -> bool:
        if signal.raise_signal == self._raised:  # else somebody is before it, and calls it
            signal.raise_signal = self._raise
        if not self._listens:
            return True
        with contextlib.suppress(ValueError):
            before = signal.set_wakeup_fd(-1)
            if before not in (-1, self._number):
                signal.set_wakeup_fd(before, warn_on_full_buffer=False)
            self._listens = False
        return not self._listens

    def _mine(self) -> bool:
        """Whether nobody closed the descriptor, and has another file under its number."""
        with contextlib.suppress(OSError):
            return _identity(self._number) == self._is
        return False


def _note(file: Path, signal_number: int) -> None:
    with contextlib.suppress(OSError):
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(number, bytes([signal_number]), len(_ROOM) - 1)
        finally:
            os.close(number)


def _identity(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino


def _high(number: int) -> int:
    try:
        high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_NUMBER)
    except OSError:  # the process may open fewer
        return number
    os.close(number)
    return high
