"""A worker's process is addressed by its pidfd, so no signal reaches a pid that came back.

Until it is ready what it prints goes into memory, and from there to where the supervisor prints:
what a bad worker said last is known. From then on it prints for itself, so it needs nobody to read.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.agent.sockets import FIRST_FD

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

_TAIL_BYTES: Final = 4096
_CLEAR_OF: Final = 64  # descriptors are duplicated above this before they get their numbers
_PUNCH_HOLE: Final = 0x03  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of fallocate(2)
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Output:
    """What a worker prints before it prints for itself."""

    def __init__(self) -> None:
        self.descriptor: Final = os.memfd_create("zdpatch-output", os.MFD_CLOEXEC)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_APPEND)
        self._read = 0
        self._tail = b""

    def take(self) -> bytes:
        """What came since the last call; its memory is given back."""
        size = os.fstat(self.descriptor).st_size
        if size == self._read:
            return b""
        new = os.pread(self.descriptor, size - self._read, self._read)
        self._read += len(new)
        self._tail = (self._tail + new)[-_TAIL_BYTES:]
        _libc.fallocate(self.descriptor, _PUNCH_HOLE, 0, self._read)
        return new

    @property
    def tail(self) -> str:
        """Its last lines."""
        return self._tail.decode("utf-8", "replace")

    def close(self) -> None:
        """Forget it."""
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: an exit status, or minus a signal; None: that cannot be known."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None:
            return "ended"
        if self.code < 0:
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"ended with status {self.code}"


class Process:
    """One process, of which we know that it is the one that we mean."""

    def __init__(self, pid: int, output: Output) -> None:
        """Raises OSError when there is none."""
        self.pid: Final = pid
        self.output: Final = output
        self.pidfd: Final = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self.pidfd

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it; with `group`, to the processes it started as well."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)
            if group:  # it is not reaped, so the group's number cannot be another's
                os.killpg(self.pid, number)

    def reap(self) -> Ended | None:
        """How it ended. It was another supervisor's child, and ended when this is asked."""
        return Ended(None)

    def close(self) -> None:
        """Forget it."""
        os.close(self.pidfd)
        self.output.close()


class Child(Process):
    """A process of ours. Close it after it ended."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        listeners: Sequence[socket.socket],
    ) -> None:
        """Start it, with its listeners from descriptor 3 on. Raises OSError."""
        path = shutil.which(command[0], path=environ.get("PATH"))
        if path is None:
            raise FileNotFoundError(2, "no such command", command[0])
        output = Output()
        try:
            pid = _spawn(path, command, environ, listeners, output.descriptor)
        except OSError:
            output.close()
            raise
        try:
            super().__init__(pid, output)
        except OSError:  # no descriptor is left to watch it with
            os.kill(pid, signal.SIGKILL)  # it is not reaped: the number is its own
            os.waitpid(pid, 0)
            output.close()
            raise

    def reap(self) -> Ended | None:
        """How it ended; None while it runs. What is left of its group is told to end too."""
        status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        return Ended(status.si_status if status.si_code == os.CLD_EXITED else -status.si_status)


def _spawn(
    path: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    listeners: Sequence[socket.socket],
    output: int,
) -> int:
    """Listeners get 3 and on, then come our own stdout and stderr, for later."""
    wanted = [*(listener.fileno() for listener in listeners), 1, 2]
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _CLEAR_OF) for number in wanted]
    try:
        return os.posix_spawn(
            path,
            list(command),
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                *((os.POSIX_SPAWN_DUP2, high[i], FIRST_FD + i) for i in range(len(high))),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE),
        )
    finally:
        for descriptor in high:
            os.close(descriptor)
