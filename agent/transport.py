"""A frame reaches the agent only with the user who sent it, as the kernel told at the connection.

The credentials travel with the connection through ZeroMQ's authentication hook, so a descriptor
that was closed and reused cannot lend its user to another's frames.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq

from zdpatch.agent.native import Lock
from zdpatch.agent.protocol import MAX_BLOB_BYTES, MAX_FRAMES

if TYPE_CHECKING:
    from zdpatch.agent.config import Settings
    from zdpatch.agent.home import Door

_ROOT: Final = 0
_KEPT_FRAMES: Final = MAX_FRAMES + 1  # one more than allowed shows that there were too many
_AT_ONCE: Final = 64  # messages served before deadlines are looked at again
_LINGER_MS: Final = 200
_HANDSHAKE_MS: Final = 2000  # a connection that does not say who it is ends


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Message:
    """Frames of one peer, and where a reply goes."""

    route: bytes
    peer: Peer
    frames: list[bytes]


class Transport:
    """The ROUTER of one agent, used by one thread; only `wake` may be called from others."""

    def __init__(self, door: Door, settings: Settings) -> None:
        self._door: Final = door
        self._bell: Final = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._bell_lock: Final = Lock()
        self._closed = False
        # a context of its own: one that came over a fork hangs
        self._context: Final = zmq.Context(io_threads=1)
        self._zap: Final = self._context.socket(zmq.ROUTER)
        self._router: Final = self._context.socket(zmq.ROUTER)
        self._poller: Final = zmq.Poller()
        try:
            self._open(settings)
        except BaseException:
            self.close()
            raise

    def _open(self, settings: Settings) -> None:
        self._zap.bind("inproc://zeromq.zap.01")
        router = self._router
        router.set(zmq.LINGER, _LINGER_MS)
        router.set(zmq.ZAP_DOMAIN, b"zdpatch")
        router.set(zmq.MAXMSGSIZE, MAX_BLOB_BYTES)
        router.set(zmq.RCVHWM, settings.queue_messages)
        router.set(zmq.SNDHWM, settings.queue_messages)
        router.set(zmq.ROUTER_MANDATORY, 1)
        router.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        if self._door.gid is None:
            # libzmq closes everybody else's connection before a byte is read
            router.set(zmq.IPC_FILTER_UID, os.geteuid())
            router.set(zmq.IPC_FILTER_UID, _ROOT)
        router.bind(self._door.endpoint)
        for readable in (self._zap, router, self._bell):
            self._poller.register(readable, zmq.POLLIN)

    def wait(self, timeout_s: float | None) -> list[Message]:
        """Messages that came within `timeout_s` (None: wait for ever, or for `wake`)."""
        timeout_ms = None if timeout_s is None else max(0, int(timeout_s * 1000) + 1)
        ready = {source for source, _ in self._poller.poll(timeout_ms)}
        if self._bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        if self._zap in ready:
            self._admit()
        return self._receive() if self._router in ready else []

    def reply(self, message: Message, frames: list[bytes]) -> None:
        """Send a reply; a peer that is gone or does not read gets none."""
        with contextlib.suppress(zmq.Again, zmq.ZMQError):
            self._router.send_multipart([message.route, *frames], zmq.DONTWAIT)

    def wake(self) -> None:
        """End a `wait` in the agent's thread."""
        with self._bell_lock:
            if not self._closed:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close the socket, the connections and the context."""
        self._router.close()
        self._zap.close()
        self._context.term()
        with self._bell_lock:
            self._closed = True
            os.close(self._bell)

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent, without touching it."""
        self._closed = True
        os.close(self._bell)

    def _admit(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                frames = self._zap.recv_multipart(zmq.DONTWAIT)
                route, version, request, address = frames[0], frames[2], frames[3], frames[5]
                peer = _peer(address)
                admitted = peer is not None and admits(peer, self._door.gid)
                code = b"200" if admitted else b"400"
                # the user id given here is what ZeroMQ attaches to every message of the connection
                self._zap.send_multipart([route, b"", version, request, code, b"", address, b""])

    def _receive(self) -> list[Message]:
        messages: list[Message] = []
        with contextlib.suppress(zmq.Again):
            while len(messages) < _AT_ONCE:
                message = self._one()
                if message is not None:
                    messages.append(message)
        return messages

    def _one(self) -> Message | None:
        first = self._router.recv(zmq.DONTWAIT, copy=False)
        kept: list[zmq.Frame] = []
        more = first.more
        while more:
            frame = self._router.recv(zmq.DONTWAIT, copy=False)
            more = frame.more
            if len(kept) < _KEPT_FRAMES:
                kept.append(frame)
        peer = None
        if kept:
            with contextlib.suppress(zmq.ZMQError):
                peer = _peer(str(kept[-1].get("User-Id")).encode())
        if peer is None:
            return None
        return Message(first.bytes, peer, [frame.bytes for frame in kept])


def _peer(address: bytes) -> Peer | None:
    """`localhost:uid:gid:pid`, as libzmq writes the credentials of an ipc connection."""
    parts = address.split(b":")
    if len(parts) != 4 or not all(part.isdigit() for part in parts[1:]):
        return None
    return Peer(int(parts[1]), int(parts[2]), int(parts[3]))


def admits(peer: Peer, gid: int | None) -> bool:
    """Root, this process's own user, and members of the operators' group may speak."""
    if peer.uid in (_ROOT, os.geteuid()):
        return True
    return gid is not None and (peer.gid == gid or gid in _groups(peer.pid))


def _groups(pid: int) -> list[int]:
    """Supplementary groups of a process, from the kernel: those of /etc/group may differ."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"Groups:"):
                return [int(group) for group in line[7:].split()]
    return []
