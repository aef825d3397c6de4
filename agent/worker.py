"""What this process is to its supervisor: a worker that serves, or the leader of such.

Adapters ask here; without a supervisor every answer is that there is none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

from zdpatch import agent
from zdpatch.agent import passing, relief, wire
from zdpatch.agent.sockets import FIRST_FD
from zdpatch.agent.station import Told, Worker, connected

if TYPE_CHECKING:
    from zdpatch.agent.handle import Handle
    from zdpatch.agent.station import Server

__all__ = ["Worker"]


class Leader:
    """A process that forks `number` others which serve, and does not serve itself.

    Its connection only tells how its worker is; what it forks closes its copy.
    """

    def __init__(self, told: Told, hello: wire.Hello) -> None:
        self._told: Final = told
        self._hello: Final = hello
        self._channel: socket.socket | None = connected(told, hello)
        self._deserted_at = 0.0
        self.serves = False

    def forget(self) -> None:
        """This is a forked process."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def look(self) -> None:
        """Read what the supervisor says; when it is gone, knock, or end."""
        if self._channel is None:
            self._knock()
            return
        try:
            while True:
                self._channel.setblocking(False)
                with passing.receive(self._channel) as packet:
                    if packet.ended:
                        break
                    self._hear(wire.decode(packet.data))
        except BlockingIOError:
            return
        except OSError:
            pass
        self._channel.close()
        self._channel, self._deserted_at = None, time.monotonic()
        if not self.serves:
            os.kill(os.getpid(), signal.SIGTERM)

    def _hear(self, said: wire.Said) -> None:
        self.serves = not isinstance(said, wire.Drain)  # after a Stop alone it may be to go on
        if isinstance(said, wire.Go):
            print_for_yourself(self._told)

    def _knock(self) -> None:
        hello = wire.Hello(
            unit=self._hello.unit,
            adapter=self._hello.adapter,
            leads=self._hello.leads,
            orphan=True,
        )
        try:
            self._channel = connected(self._told, hello, _kept)
        except OSError:
            if time.monotonic() - self._deserted_at >= self._told.orphan_s:
                os.kill(os.getpid(), signal.SIGTERM)


_told: Told | None = None
_pid = 0
"""The process that has joined; a fork is another one."""
_leader: Leader | None = None
_handle: Handle | None = None
"""The agent's, here and in forked processes."""
_kept: list[int] = []
"""Copies of the listeners: a server may close those that it got."""


def board(told: Told) -> None:
    """This process, and what it forks, are worker `told.unit`."""
    global _told  # noqa: PLW0603 - a process is one worker
    _told = told
    _kept[:] = [os.dup(FIRST_FD + index) for index in range(told.listeners)]


def boarded() -> bool:
    """Whether this process was started by a supervisor."""
    return _told is not None


def listeners() -> list[socket.socket]:
    """New copies of the listeners; closing them changes nothing for others."""
    return [socket.socket(fileno=os.dup(descriptor)) for descriptor in _kept]


def join(adapter: str, lacks: str = "") -> Worker | None:
    """Make this process a worker; it is one until it ends, so call this once it has its server.

    None for a second server in one process, and without a supervisor: those serve as always.
    Raises OSError when the supervisor is gone, unless the worker's other processes serve on.
    """
    global _pid  # noqa: PLW0603 - as above
    if _told is None or _pid == os.getpid():
        return None
    _pid = os.getpid()
    if _leader is not None:
        _leader.forget()
    hello = wire.Hello(unit=_told.unit, adapter=adapter, lacks=lacks)
    return Worker(_told, hello, _kept, alone=_leader is not None and _leader.serves)


def ready(here: Worker, server: Server) -> None:
    """The application is loaded and `server` could serve: patches are in before it says so."""
    assert _told is not None
    active, how = _patched()
    print_for_yourself(_told)
    relief.comes_from(here.worn)
    here.ready(server, active, how)


def lead(adapter: str, number: int) -> None:
    """Make this process the leader of `number` others, which it forks and which serve."""
    global _leader  # noqa: PLW0603 - as above
    hush()
    if _told is not None and _leader is None:
        _leader = Leader(_told, wire.Hello(unit=_told.unit, adapter=adapter, leads=number))


def look() -> None:
    """Have the leader that this process is hear its supervisor. To be called now and then."""
    if _leader is not None:
        _leader.look()


def print_for_yourself(told: Told) -> None:
    """Have stdout and stderr where the supervisor has them, and need it no more for that."""
    first = FIRST_FD + told.listeners
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it did so before
            os.dup2(first + number - 1, number)


def hush() -> None:
    """An adapter says when this worker is ready: what it, or its application, would tell a service
    manager by itself says less, and comes earlier.
    """
    if _told is not None:
        os.environ.pop("NOTIFY_SOCKET", None)


def prepare() -> None:
    """A server that has an adapter begins to import its application.

    Start the agent before that, where `--app` names the application.
    Patches are then in its modules from their first instruction; without this call they go in
    when the worker gets ready. Never raises.
    """
    global _handle  # noqa: PLW0603 - as above
    hush()
    if _told is not None and _told.app and _handle is None:
        _handle = agent.start(app=_told.app)


def _patched() -> tuple[list[str], list[str]]:
    """The patches that are in, and what the agent says is not as it should be."""
    prepare()
    if _handle is None:
        return list(agent.active()), []
    status = _handle.status()
    why = [str(status["reason"])] if status["state"] == "off" else []
    return list(status["active"]), [*why, *status["warnings"]]
