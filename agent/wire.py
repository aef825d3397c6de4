"""What supervisor, workers and operators say to each other: one JSON packet each, all listed here.

They meet at one socket, in a directory that only its user can enter; the kernel says who connects.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent.native import original

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_SOCKET: Final = "s"
_PARTIAL: Final = "s.part"


class Message(msgspec.Struct, frozen=True, tag_field="verb", tag=str.lower):
    """Anything that is said."""


# -- a worker says


class Hello(Message, frozen=True):
    """A process of worker `unit` that serves with `adapter`, or, with `leads`, forks those."""

    unit: int
    adapter: str
    leads: int = 0  # how many of its children serve
    gated: bool = True  # it accepts when it is told, and not before
    lacks: str = ""  # what this adapter cannot do here, for people
    orphan: bool = False  # it serves, and its supervisor is gone; listeners come along


class Ready(Message, frozen=True):
    """It could serve now. `active`: its patches; `agent`: what its agent says is not as it should
    be.
    """

    active: list[str]
    agent: list[str] = []


class Stopped(Message, frozen=True):
    """It accepts no more."""


class Drained(Message, frozen=True):
    """Nothing is in flight any more: so many connections were handed over, so many closed."""

    handed: int = 0
    closed: int = 0


class Worn(Message, frozen=True):
    """It cannot get to what is wanted of it, but a new worker can."""

    reason: str


# -- the supervisor says


class Go(Message, frozen=True):
    """Accept."""


class Stop(Message, frozen=True):
    """Accept no more."""


class Drain(Message, frozen=True):
    """Finish, within these limits; a descriptor comes along where connections can be handed to."""

    spread_s: float = 10.0
    linger_s: float = 5.0


class Adopt(Message, frozen=True):
    """The descriptor that comes along brings connections."""


# -- an operator says


class Ask(Message, frozen=True):
    """`what`: "status" or "replace"; with `wait`, events follow until it is done.

    `needs`: ids of patches; a new worker that gets ready without one of them is not used.
    """

    what: str
    wait: bool = False
    needs: list[str] = []


# -- and hears


class WorkerRow(msgspec.Struct, frozen=True):
    """One worker, as people see it."""

    pid: int
    generation: int
    slot: int
    state: str
    age_s: float
    adapter: str
    memory: int
    waits_for: str
    started_with: list[str]
    lacks: str


class Shown(Message, frozen=True):
    """How a fleet is."""

    name: str
    pid: int
    generation: int
    binds: list[str]
    wanted: int
    workers: list[WorkerRow]
    warm: int | None
    last: str


class Event(Message, frozen=True):
    """What happens meanwhile."""

    phase: str
    generation: int
    done: int
    of: int
    detail: str


class Done(Message, frozen=True):
    """How it ended. `output`: the last words of a worker that did not get ready."""

    ok: bool
    generation: int
    reason: str = ""
    output: str = ""
    ready_s: float = 0.0
    flip_ms: float = 0.0
    drain_s: float = 0.0
    handed: int = 0
    closed: int = 0
    cut: int = 0


Said = (
    Hello
    | Ready
    | Stopped
    | Drained
    | Worn
    | Go
    | Stop
    | Drain
    | Adopt
    | Ask
    | Shown
    | Event
    | Done
)

encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Said)


def decode(data: bytes) -> Said:
    """One message. Raises msgspec.MsgspecError and UnicodeDecodeError."""
    said: Said = _decoder.decode(data)
    return said


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one fleet. Its socket is reached through /proc, so no path is too long."""

    directory: Path

    def listen(self) -> socket.socket:
        """The socket where all meet: it is there when it listens. Raises OSError."""
        partial = self.directory / _PARTIAL
        partial.unlink(missing_ok=True)
        meeting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._short() as short:
            meeting.bind(f"{short}/{_PARTIAL}")
        partial.chmod(0o600)
        meeting.listen(128)
        meeting.setblocking(False)
        partial.rename(self.directory / _SOCKET)
        return meeting

    def leave(self) -> None:
        """Nobody listens there any more."""
        (self.directory / _SOCKET).unlink(missing_ok=True)

    def connect(self) -> socket.socket:
        """Go there. Raises OSError when nobody listens."""
        channel: socket.socket = original("socket", "socket")(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with self._short() as short:
                channel.connect(f"{short}/{_SOCKET}")
        except OSError:
            channel.close()
            raise
        return channel

    @contextmanager
    def _short(self) -> Generator[str]:
        descriptor = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
