"""ZMTP 3.0, ZeroMQ's wire protocol, as one ROUTER sees one peer; bytes in, bytes out, all bounded.

Not libzmq: inside somebody's service it ends the process when descriptors run out, and holds any
number of frames of a message that is not complete. Mechanism NULL; the kernel says who it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
_GREETING_BYTES: Final = 64
_MECHANISM: Final = b"NULL".ljust(20, b"\0")
GREETING: Final = _SIGNATURE + b"\x03\x00" + _MECHANISM + bytes(32)
_COMMAND_BYTES: Final = 4096
_FRAMES: Final = 1024  # of one message; kept ones and others
_PEERS: Final = frozenset({b"DEALER", b"REQ", b"ROUTER"})


class ProtocolError(Exception):
    """These bytes are no ZMTP, or more than allowed: the connection ends."""


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4) + value


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | _LONG]) + len(body).to_bytes(8) + body


READY: Final = _frame(
    _COMMAND, b"\x05READY" + _property(b"Socket-Type", b"ROUTER") + _property(b"Identity", b"")
)


def encode(frames: Sequence[bytes]) -> bytes:
    """The bytes of one message."""
    last = len(frames) - 1
    return b"".join(_frame(_MORE if i < last else 0, body) for i, body in enumerate(frames))


class Decoder:
    """Takes the bytes of one peer apart. `kept` frames of a message are kept, the rest is skipped.

    `frame` is the most bytes of one, `message` of all that are kept of one message.
    """

    def __init__(self, *, kept: int, frame: int, message: int) -> None:
        self._kept: Final = kept
        self._frame_limit: Final = frame
        self._limit: Final = message
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._size = 0  # of the kept frames
        self._count = 0  # frames of this message
        self._skip = 0  # bytes of a frame that nobody wants
        self._greeted = False
        self.ready = False  # the peer said what it is

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._buffer) + self._size

    @property
    def midway(self) -> bool:
        """Whether something began that is not whole, the greeting included."""
        return not self.ready or bool(self._buffer) or self._count > 0 or self._skip > 0

    def feed(self, data: bytes) -> None:
        """Bytes that came."""
        thrown = min(self._skip, len(data))
        self._skip -= thrown
        self._buffer += data[thrown:] if thrown else data

    def message(self) -> list[bytes] | None:
        """The next whole message; None when more bytes are needed. Raises ProtocolError."""
        if not self._greeted and not self._greeting():
            return None
        while (frame := self._next()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                self._command(body)
                continue
            if not self.ready:
                raise ProtocolError("a message before READY")
            self._keep(body)
            if not flags & _MORE:
                frames, self._frames, self._size, self._count = self._frames, [], 0, 0
                return frames
        return None

    def _keep(self, body: bytes) -> None:
        self._count += 1
        if len(self._frames) < self._kept:
            self._frames.append(body)
            self._size += len(body)
        if self._size > self._limit or self._count > _FRAMES:
            raise ProtocolError("a message is too large")

    def _greeting(self) -> bool:
        start = bytes(self._buffer[:_GREETING_BYTES])
        if start[:1] != _SIGNATURE[: len(start[:1])]:
            raise ProtocolError("no greeting")
        if len(start) < _GREETING_BYTES:
            return False
        if start[9] != _SIGNATURE[9] or start[10] < 3 or start[12:32] != _MECHANISM:
            raise ProtocolError("not ZMTP 3 with mechanism NULL")
        del self._buffer[:_GREETING_BYTES]
        self._greeted = True
        return True

    def _next(self) -> tuple[int, bytes] | None:
        """Flags and body of the next frame; the body is empty when nobody wants it."""
        buffer = self._buffer
        if len(buffer) < 2 or self._skip:
            return None
        flags = buffer[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise ProtocolError("unknown flags")
        head = 9 if flags & _LONG else 2
        if len(buffer) < head:
            return None
        size = int.from_bytes(buffer[1:head])
        if size > (_COMMAND_BYTES if flags & _COMMAND else self._frame_limit):
            raise ProtocolError("a frame is too large")
        if not flags & _COMMAND and len(self._frames) >= self._kept:
            self._skip = max(0, head + size - len(buffer))
            del buffer[: head + size]
            return flags, b""
        if len(buffer) < head + size:
            return None
        body = bytes(memoryview(buffer)[head : head + size])
        del buffer[: head + size]
        return flags, body

    def _command(self, body: bytes) -> None:
        """READY once; other commands (heartbeats) are not asked for and not answered."""
        if self.ready:
            return
        if not body.startswith(b"\x05READY") or _properties(body[6:]).get("socket-type") not in (
            _PEERS
        ):
            raise ProtocolError("no READY of a DEALER")
        self.ready = True


def _properties(raw: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        name_end = at + 1 + raw[at]
        value_at = name_end + 4
        size = int.from_bytes(raw[name_end:value_at])
        if value_at + size > len(raw):
            raise ProtocolError("a property is cut short")
        name = raw[at + 1 : name_end].decode("latin-1").lower()
        found[name] = raw[value_at : value_at + size]
        at = value_at + size
    return found
