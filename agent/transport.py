"""A frame reaches the agent only with the user who sent it, as the kernel told at the connection.

A peer is read only while no answer waits for it, and every buffer has a limit: whatever peers do,
and however short of memory or descriptors the process is, they cost a connection, never the
process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.agent import zmtp
from zdpatch.agent.here import LOG
from zdpatch.agent.messages import MAX_BLOB_BYTES, MAX_FRAMES, MAX_HEADER_BYTES
from zdpatch.agent.native import Lock, original
from zdpatch.agent.shares import Rounds, one_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Settings
    from zdpatch.agent.home import Door

_ROOT: Final = 0
_KEPT_FRAMES: Final = MAX_FRAMES + 1  # one more than allowed shows that there were too many
_MESSAGE_BYTES: Final = MAX_BLOB_BYTES + MAX_HEADER_BYTES + 4096
_READ_BYTES: Final = 256 * 1024
_BACKLOG: Final = 128
_SO_PEERGROUPS: Final = 59
_GROUPS_BYTES: Final = 1024  # the most that Python asks a socket for
_SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as the kernel knew it when it connected."""

    uid: int
    gid: int
    pid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """Frames of one peer, and where a reply goes."""

    connection: Connection
    peer: Peer
    frames: list[bytes]


class Connection:
    """One peer: what came and is not whole yet, and what it has not read yet."""

    def __init__(self, stream: socket.socket, peer: Peer, since: float) -> None:
        self.stream: Final = stream
        self.number: Final = stream.fileno()
        self.peer: Final = peer
        self.uid: Final = peer.uid
        self.since = since  # of the handshake, request or answer in progress, in time of the rounds
        self.decoder: Final = zmtp.Decoder(
            kept=_KEPT_FRAMES, frame=MAX_BLOB_BYTES, message=_MESSAGE_BYTES
        )
        self.unsent = memoryview(zmtp.GREETING + zmtp.READY)

    @property
    def held(self) -> int:
        """Bytes of requests that are not whole."""
        return self.decoder.held

    @property
    def midway(self) -> bool:
        """Whether it is the peer's turn to finish something."""
        return self.decoder.midway or bool(self.unsent)


class Transport:
    """The ROUTER of one agent, used by one thread; only `wake` may be called from others."""

    def __init__(self, door: Door, settings: Settings, clock: Clock) -> None:
        self._door: Final = door
        self._settings: Final = settings
        self._clock: Final = clock
        self._rounds: Final = Rounds(clock, settings.round_s)
        self._first: Final = frozenset((_ROOT, os.geteuid()))
        self._connections: Final[dict[int, Connection]] = {}
        self._bell: Final = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._bell_lock: Final = Lock()
        self._closed = False
        self._paused_until: float | None = None  # no descriptors: nobody is let in until then
        self._say_from: float | None = None  # the log hears of that again from then on
        self._poll: Final[select.epoll] = original("epoll", "select")()
        self._listener: Final[socket.socket] = original("socket", "socket")(socket.AF_UNIX)
        self._listener.setblocking(False)
        try:
            self._listener.bind(str(door.socket))
            self._listener.listen(_BACKLOG)
            for readable in (self._listener.fileno(), self._bell):
                self._poll.register(readable, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float | None) -> list[Message]:
        """Messages that came within `timeout_s` (None: wait for ever, or for `wake`).

        At most one of each peer, so that none keeps others waiting.
        """
        found: dict[int, Message] = {}
        for connection in list(self._connections.values()):
            self._take(connection, found)
        for number, event in self._poll.poll(0 if found else self._patience(timeout_s)):
            if number == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            elif number == self._listener.fileno():
                self._accept()
            elif number in self._connections and number not in found:
                self._serve(self._connections[number], event, found)
        self._expire()
        return list(found.values())

    def reply(self, message: Message, frames: Sequence[bytes]) -> None:
        """Send a reply; a peer that is gone gets none, one that does not read it is not read."""
        connection = message.connection
        if self._connections.get(connection.number) is connection:
            connection.unsent = memoryview(zmtp.encode(frames))
            connection.since = self._rounds.now
            self._send(connection)

    def wake(self) -> None:
        """End a `wait` in the agent's thread."""
        with self._bell_lock:
            if not self._closed:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close the socket and the connections."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._listener.close()
        self._poll.close()
        with self._bell_lock:
            self._closed = True
            os.close(self._bell)

    def abandon(self) -> None:
        """In a forked child: let go of the copies of what belongs to the parent."""
        self._closed = True
        for connection in list(self._connections.values()):
            connection.stream.close()
        self._listener.close()
        self._poll.close()
        os.close(self._bell)

    def _serve(self, connection: Connection, event: int, found: dict[int, Message]) -> None:
        if event & select.EPOLLOUT:
            self._send(connection)
        else:
            self._read(connection)
            self._take(connection, found)
            self._make_room()

    def _patience(self, timeout_s: float | None) -> float | None:
        """Until the next thing that is due: the caller's, a round's end, or letting in again."""
        waits = [] if timeout_s is None else [timeout_s]
        if any(one.midway for one in self._connections.values()):
            waits.append(self._rounds.most_s)
        if self._paused_until is not None:
            waits.append(max(0.0, self._paused_until - self._clock.steady()))
        return min(waits, default=None)

    def _expire(self) -> None:
        """End what takes too long; after a pause, let people in again."""
        self._rounds.turn()
        for connection in list(self._connections.values()):
            ready = connection.decoder.ready
            limit_s = self._settings.step_s if ready else self._settings.handshake_s
            if connection.midway and connection.since + limit_s <= self._rounds.now:
                self._drop(connection)
        if self._paused_until is not None and self._paused_until <= self._clock.steady():
            self._paused_until = None
            self._poll.modify(self._listener.fileno(), select.EPOLLIN)

    def _accept(self) -> None:
        try:
            # not `accept`: where gevent has replaced the class, that makes one of gevent's
            stream = type(self._listener)(fileno=cast("Any", self._listener)._accept()[0])
        except OSError as error:
            if error.errno in _SHORT_OF:
                self._pause(error)
            return
        stream.setblocking(False)
        peer = _peer(stream)
        theirs = sum(one.peer.uid == peer.uid for one in self._connections.values())
        if not admits(peer, self._door.gid) or theirs >= self._settings.connections:
            stream.close()
            return
        connection = Connection(stream, peer, self._rounds.now)
        self._connections[connection.number] = connection
        self._poll.register(connection.number, select.EPOLLIN)
        self._send(connection)

    def _pause(self, error: OSError) -> None:
        """Who waits stays in the kernel's queue; asking again at once would only burn time."""
        now = self._clock.steady()
        if self._say_from is None or self._say_from <= now:
            LOG.warning("nobody can reach the agent for now: %s", error.strerror)
            self._say_from = now + self._settings.accept_say_s
        self._paused_until = now + self._settings.accept_pause_s
        self._poll.modify(self._listener.fileno(), 0)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.stream.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        if not connection.midway:
            connection.since = self._rounds.now
        connection.decoder.feed(data)

    def _take(self, connection: Connection, found: dict[int, Message]) -> None:
        """The next whole message of a peer that has read all its answers."""
        if connection.unsent or self._connections.get(connection.number) is not connection:
            return
        try:
            frames = connection.decoder.message()
        except zmtp.ProtocolError:
            self._drop(connection)
            return
        if frames is not None:
            connection.since = self._rounds.now
            found[connection.number] = Message(connection, connection.peer, frames)

    def _make_room(self) -> None:
        """End those who hold too much of what they do not finish."""
        settings = self._settings
        while connection := one_to_end(
            self._connections.values(),
            self._rounds.now,
            share=settings.share_bytes,
            total=settings.unfinished_bytes,
            first=self._first,
        ):
            self._drop(connection)

    def _send(self, connection: Connection) -> None:
        try:
            # an application may have given SIGPIPE its deadly default back
            sent = connection.stream.send(connection.unsent, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        connection.unsent = connection.unsent[sent:]
        event = select.EPOLLOUT if connection.unsent else select.EPOLLIN
        self._poll.modify(connection.number, event)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.number, None) is not None:
            # a copy in a child that was forked meanwhile would keep it in the poll
            self._poll.unregister(connection.number)
            connection.stream.close()


def _peer(stream: socket.socket) -> Peer:
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("iII", raw)
    try:
        raw = stream.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # more groups than fit, or a kernel before 4.13
        return Peer(uid, gid, pid, _groups(pid))
    return Peer(uid, gid, pid, struct.unpack(f"{len(raw) // 4}I", raw))


def _groups(pid: int) -> tuple[int, ...]:
    """Supplementary groups of a process, from the kernel: those of /etc/group may differ."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"Groups:"):
                return tuple(int(group) for group in line[7:].split())
    return ()


def admits(peer: Peer, gid: int | None) -> bool:
    """Root, this process's own user, and members of the operators' group may speak."""
    if peer.uid in (_ROOT, os.geteuid()):
        return True
    return gid is not None and gid in (peer.gid, *peer.groups)
