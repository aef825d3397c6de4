"""No process of the tour outlives it, also where nobody else would bury an orphan."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Generator

_PR_SET_CHILD_SUBREAPER = 36
_END_S = 10.0


@contextlib.contextmanager
def family() -> Generator[None]:
    """Whoever is begun inside, by this process or by its children, has ended afterwards."""
    # orphans become children of this process: in a container there may be no init that buries them
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(psutil.Process().children(recursive=True))
        _bury()
        signal.signal(signal.SIGTERM, before)


def _end(processes: list[psutil.Process]) -> None:
    """End what still runs, each process by its own pid."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_END_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_END_S)


def _bury() -> None:
    """Take the status of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
