"""Whoever comes is known by what the kernel says, and heard only for what it may say.

A worker's process descends from that worker; an operator is this user, or root.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from zdpatch.agent import passing, sockets, wire
from zdpatch.agent.posts import Post
from zdpatch.agent.readiness import NotifySocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.loop import Loop
    from zdpatch.agent.readiness import Notice

_SHORT_S: Final = 0.02
_UNREADABLE: Final = (OSError, msgspec.MsgspecError, UnicodeDecodeError)


class Host(Protocol):
    """Who is told of it."""

    def unit_of(self, pid: int) -> int | None:
        """Which worker a process belongs to, by descent."""
        ...

    def came(self, unit: int, post: Post) -> None:
        """A process of that worker is here."""
        ...

    def said(self, unit: int, post: Post, said: wire.Said) -> None:
        """It says that."""
        ...

    def left(self, unit: int, post: Post) -> None:
        """Its connection ended."""
        ...

    def noted(self, unit: int, notice: Notice) -> None:
        """A process of that worker says that with sd_notify."""
        ...

    def asked(self, channel: socket.socket, ask: wire.Ask) -> None:
        """An operator asks that."""
        ...


class Reception:
    """The socket where all meet, and NOTIFY_SOCKET."""

    def __init__(self, place: wire.Place, loop: Loop, host: Host) -> None:
        """Raises OSError."""
        self._loop: Final = loop
        self._host: Final = host
        self._place: Final = place
        self._meeting: Final = place.listen()
        self._notify: Final = NotifySocket()
        self.environ_value: Final = self._notify.environ_value
        self.returned: list[socket.socket] | None = []  # what orphans bring; None: no more needed
        loop.watch(self._meeting, self._meet)
        loop.watch(self._notify, self._notified)

    def close(self) -> None:
        """Nobody else comes."""
        self._place.leave()
        self._meeting.close()
        self._notify.close()

    def _notified(self) -> None:
        while (notice := self._notify.receive()) is not None:
            unit = self._host.unit_of(notice.sender.pid)
            if unit is not None:
                self._host.noted(unit, notice)

    def _meet(self) -> None:
        try:
            channel, _ = self._meeting.accept()
        except OSError:  # no descriptor is left; whoever it is waits, and asks again and again
            time.sleep(_SHORT_S)
            return
        channel.setblocking(False)
        if passing.peer(channel).uid in (0, os.geteuid()):
            self._loop.watch(channel, lambda: self._introduced(channel))
        else:
            channel.close()

    def _introduced(self, channel: socket.socket) -> None:
        """The first thing that is said tells a worker from an operator."""
        self._loop.unwatch(channel)
        try:
            with passing.receive(channel) as packet:
                said = wire.decode(packet.data)
                brought = [socket.socket(fileno=descriptor) for descriptor in packet.claim()]
        except _UNREADABLE:
            channel.close()
            return
        if isinstance(said, wire.Hello):
            self._welcome(channel, said, brought)
            return
        sockets.forget(brought)
        if isinstance(said, wire.Ask):
            self._host.asked(channel, said)
        else:
            channel.close()

    def _welcome(
        self, channel: socket.socket, hello: wire.Hello, brought: list[socket.socket]
    ) -> None:
        pid = passing.peer(channel).pid
        unit = self._host.unit_of(pid)
        if unit is None or unit != hello.unit:
            sockets.forget(brought)
            if hello.orphan:  # another generation serves: it finishes, and ends
                Post(channel, pid, hello).say(wire.Drain())
            channel.close()
            return
        if self.returned is None:
            sockets.forget(brought)
        else:
            self.returned += brought
        post = Post(channel, pid, hello, ready=hello.orphan)
        self._host.came(unit, post)
        self._loop.watch(post, self._hearing(unit, post))

    def _hearing(self, unit: int, post: Post) -> Callable[[], None]:
        return lambda: self._heard(unit, post)

    def _heard(self, unit: int, post: Post) -> None:
        try:
            with passing.receive(post.channel) as packet:
                said = None if packet.ended else wire.decode(packet.data)
        except BlockingIOError:
            return
        except _UNREADABLE:
            said = None
        if said is None:
            self._loop.unwatch(post)
            self._host.left(unit, post)
        else:
            self._host.said(unit, post, said)
