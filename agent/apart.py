"""A program runs apart from the application: with its own time limit, ended with all it started,
and without anything of the application's threads, signals or descriptors being used for it.

The operating system starts it, not a fork of this process; what it reads and writes are files in
memory, so nobody has to look after pipes while it runs. Who else waits for all children of this
process (a server's master does) may learn of its end first: what counts is what it has written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posix  # gevent replaces what `os` has of it
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent.native import original

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

SPEC_FD: Final = 3  # what the program is to do; it stands at its start
REPORT_FD: Final = 4
_FIRST_NUMBER: Final = 10  # of descriptors here: none is one of those there
_OUTPUT_BYTES: Final = 8 << 20  # what it may print before it is ended
_LOOK_S: Final = 0.01
# a program keeps what its parent ignores, which was not chosen for it
_DEFAULTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `report` and `output` are what it wrote; `ended` says why it was ended,
    "" when it ended by itself. `took_s` is seconds.
    """

    report: bytes
    output: bytes
    ended: str
    took_s: float


def run(
    command: Sequence[str], spec: bytes, env: Mapping[str, str], *, start_s: float, limit_s: float
) -> Ran:
    """Run a program to its end: it says that it begins by the first byte of its report, after
    `start_s` seconds at most, and ends `limit_s` later. Raises OSError when it cannot start.
    """
    with _memory() as given, _memory() as report, _memory() as output:
        view = memoryview(spec)
        while view:
            view = view[os.write(given, view) :]
        os.lseek(given, 0, os.SEEK_SET)
        begun = time.monotonic()
        pid = _start(command, {1: output, 2: output, SPEC_FD: given, REPORT_FD: report}, env)
        try:
            ended = _begins(pid, report, start_s) or _ends(pid, output, limit_s)
        finally:
            _end(pid)
        return Ran(_content(report), _content(output), ended, time.monotonic() - begun)


def _start(command: Sequence[str], files: Mapping[int, int], env: Mapping[str, str]) -> int:
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, here, there) for there, here in files.items()]
    return posix.posix_spawn(
        command[0],
        list(command),
        dict(env),
        file_actions=actions,
        setpgroup=0,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )


def _begins(pid: int, report: int, limit_s: float) -> str:
    """Wait until it has begun or ended: why it must be ended, "" when it need not be."""
    sleep, end = original("sleep", "time"), time.monotonic() + limit_s
    while os.fstat(report).st_size == 0 and not _has_ended(pid):
        if time.monotonic() >= end:
            return f"it did not begin within {limit_s:g} s"
        sleep(_LOOK_S)
    return ""


def _ends(pid: int, output: int, limit_s: float) -> str:
    """Wait until it has ended: as `_begins`."""
    sleep, end = original("sleep", "time"), time.monotonic() + limit_s
    while not _has_ended(pid):
        if time.monotonic() >= end:
            return f"it did not end within {limit_s:g} s"
        if os.fstat(output).st_size > _OUTPUT_BYTES:
            return f"it printed more than {_OUTPUT_BYTES >> 20} MiB"
        sleep(_LOOK_S)
    return ""


def _has_ended(pid: int) -> bool:
    """Its remains are left, so that its number is nobody else's."""
    try:
        found = posix.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody else has taken them
        return True
    return found is not None


def _end(pid: int) -> None:
    """It, and all that it started and that is left."""
    try:
        posix.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        posix.waitpid(pid, 0)


def _content(number: int) -> bytes:
    size = os.fstat(number).st_size
    return os.pread(number, size, 0)


@contextlib.contextmanager
def _memory() -> Generator[int]:
    low = os.memfd_create("zdpatch")
    try:
        number = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _FIRST_NUMBER)
    finally:
        os.close(low)
    try:
        yield number
    finally:
        os.close(number)
