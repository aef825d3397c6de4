"""A descriptor that arrives is claimed or closed at once; a message is whole or nothing.

Messages go over SOCK_SEQPACKET sockets, one packet each. `socket.recv_fds` is not used: in Python
3.11 it ignores its flags and hands out inheritable descriptors, a leak into every child.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

PACKET_BYTES: Final = 65536
FDS_MOST: Final = 32
_SIZE: Final = struct.calcsize("i")
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Packet:
    """One message. Empty `data` without descriptors is the end of the connection."""

    data: bytes
    fds: list[int]

    @property
    def ended(self) -> bool:
        """Whether the other side is gone."""
        return not self.data and not self.fds

    def claim(self) -> list[int]:
        """The descriptors; whoever calls this owns them."""
        claimed = self.fds[:]
        self.fds.clear()
        return claimed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for descriptor in self.claim():
            with contextlib.suppress(OSError):
                os.close(descriptor)


def send(channel: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet. Raises OSError; BlockingIOError when the other side does not read."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> Packet:
    """One packet. Raises OSError, also for a message that was cut off."""
    data, rights, flags, _ = channel.recvmsg(
        PACKET_BYTES, socket.CMSG_SPACE(FDS_MOST * _SIZE), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, content in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % _SIZE])
    packet = Packet(data, list(fds))
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        with packet:
            raise OSError("a message or its descriptors were cut off")
    return packet


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is on the other side, as the kernel told when it connected, or with its datagram."""

    pid: int
    uid: int


def peer(channel: socket.socket) -> Credentials:
    """Who connected."""
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return credentials(raw)


def credentials(raw: bytes) -> Credentials:
    """A struct ucred."""
    pid, uid, _ = _CREDENTIALS.unpack(raw[: _CREDENTIALS.size])
    return Credentials(pid, uid)
