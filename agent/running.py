"""One supervisor has a name at a time; it has its listeners before it starts anybody."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from zdpatch.agent import sockets
from zdpatch.agent.supervisor import Supervisor
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Generator

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.fleet import Fleet

_LOCK: Final = "lock"


def supervise(fleet: Fleet, clock: Clock) -> None:
    """Run a fleet until it is told to end. Raises OperatorError ZDP-001, ZDP-008 and ZDP-009."""
    with _alone(fleet):
        Supervisor(fleet, sockets.inherited(os.environ), clock).run()


@contextmanager
def _alone(fleet: Fleet) -> Generator[None]:
    """The lock goes with the process, however that ends."""
    descriptor = os.open(fleet.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                "ZDP-009",
                f"a supervisor called {fleet.name} runs already",
                next=f"zdpatch replace {fleet.name}, or  zdpatch run --name OTHER ...",
            ) from None
        yield
    finally:
        os.close(descriptor)
