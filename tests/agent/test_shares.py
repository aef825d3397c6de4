"""Whoever stalls ends, for time or for memory; whoever sends gets through on any machine."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.agent.conftest import Clock
from zdpatch.agent import zmtp
from zdpatch.agent.config import Settings
from zdpatch.agent.home import Door
from zdpatch.agent.messages import MAX_BLOB_BYTES, MAX_HEADER_BYTES
from zdpatch.agent.shares import one_to_end
from zdpatch.agent.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zdpatch.agent.transport import Message

MIB = 1 << 20
ROOT, OWN, FIRST, SECOND, THIRD = 0, 7, 1001, 1002, 1003


@dataclasses.dataclass(frozen=True)
class One:
    """A connection that holds so much since then."""

    uid: int
    held: int
    since: float = 0.0


def ends(*holders: One, now: float = 10.0) -> One | None:
    """Who must go, with the limits of an agent."""
    settings = Settings()
    return one_to_end(
        holders,
        now,
        share=settings.share_bytes,
        total=settings.unfinished_bytes,
        first=frozenset((ROOT, OWN)),
    )


def test_two_bundles_of_each_user_have_room() -> None:
    """The largest message, twice, and what is read ahead of it."""
    largest = MAX_BLOB_BYTES + MAX_HEADER_BYTES + 4096 + 256 * 1024
    assert ends(*(One(uid, largest) for uid in (ROOT, ROOT, OWN, OWN))) is None
    assert ends(One(FIRST, largest), One(FIRST, largest), One(ROOT, largest)) is None


def test_a_user_has_a_share() -> None:
    """Beyond it one of that user's ends: who stalled longest, not who came last."""
    stalled = One(FIRST, 8 * MIB, since=1)
    other = One(SECOND, 8 * MIB, since=0)
    assert ends(stalled, other, One(FIRST, 8 * MIB, since=9), One(FIRST, 2 * MIB, 9.5)) is stalled


def test_root_and_the_service_come_first() -> None:
    """They end for their own share alone, whatever others hold and however long they take."""
    slow = One(ROOT, 8 * MIB, since=0)
    own = One(OWN, 8 * MIB, since=0)
    others = [One(uid, 8 * MIB, since=9.9) for uid in (FIRST, SECOND, THIRD)]
    assert ends(slow, own, *others) in others
    assert ends(slow, One(ROOT, 8 * MIB, 9), One(ROOT, 2 * MIB, 9), *others) is slow


def test_several_users_together() -> None:
    """Who stalls goes before who has just begun to send more."""
    first, second = One(FIRST, 16 * MIB, since=1), One(SECOND, 16 * MIB, since=2)
    assert ends(first, second, One(THIRD, 8 * MIB, since=9)) is first
    assert ends(second, One(THIRD, 8 * MIB, since=9)) is None
    assert ends(One(FIRST, 0), now=0) is None


class Wire:
    """A transport on a clock that is moved by hand, and one peer of it."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock(1_800_000_000.0)
        self.transport = Transport(Door(path, path, None), Settings(), self.clock)
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.connect(str(path / "s"))
        self.peer.settimeout(20)

    def ready(self) -> None:
        """Let the peer say what it is."""
        self.peer.sendall(zmtp.GREETING + zmtp.READY.replace(b"ROUTER", b"DEALER"))
        for _ in range(3):
            assert self.transport.wait(0) == []

    def after(self, seconds: float) -> list[Message]:
        """What comes in a round that ends so much later."""
        self.clock.tick(seconds)
        return self.transport.wait(0)

    def rounds(self, seconds: float) -> None:
        """So much time in rounds of an agent that has nothing else to do."""
        for _ in range(int(seconds / 0.2)):
            assert self.after(0.2) == []

    def gone(self) -> bool:
        """Whether the agent ended the connection."""
        self.peer.setblocking(False)
        try:
            while data := self.peer.recv(1 << 16):
                assert data.startswith(zmtp.GREETING)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.peer.settimeout(20)
        return True


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    """One peer, connected."""
    made = Wire(tmp_path)
    yield made
    made.transport.close()
    made.peer.close()


def test_a_slow_machine_is_no_reason(wire: Wire) -> None:
    """An hour passes at each read: a bundle of the largest size gets through all the same."""
    wire.ready()
    raw = memoryview(zmtp.encode([b"stage", b"m" * 16, b"{}", os.urandom(MAX_BLOB_BYTES)]))
    found: list[Message] = []
    for at in range(0, len(raw), 64 * 1024):
        assert found == []
        wire.peer.sendall(raw[at : at + 64 * 1024])
        found = wire.after(3600)
    assert [len(frame) for frame in found[0].frames] == [5, 16, 2, MAX_BLOB_BYTES]


@pytest.mark.parametrize("trickle", [False, True])
def test_a_request_without_end(wire: Wire, *, trickle: bool) -> None:
    """A minute after its first byte a request that is not whole ends, also if bytes still come."""
    wire.ready()
    wire.rounds(300)  # nothing has begun
    wire.peer.sendall(b"\x02" + (8 * MIB).to_bytes(8))
    assert wire.transport.wait(0) == []
    for _ in range(58):
        if trickle:
            wire.peer.sendall(b"x")
        wire.rounds(1)
    assert not wire.gone()
    wire.rounds(3)
    assert wire.gone()


def test_commands_do_not_prolong_a_request(wire: Wire) -> None:
    """A heartbeat between two frames of one message is no new beginning."""
    wire.ready()
    for _ in range(62):
        if not wire.gone():
            wire.peer.sendall(b"\x01\x05hello" + b"\x04\x05\x04PING")
        wire.rounds(1)
    assert wire.gone()


def test_an_answer_that_nobody_reads(wire: Wire) -> None:
    """It is not kept for ever."""
    wire.ready()
    wire.peer.sendall(zmtp.encode([b"hello", b"m" * 16, b"{}"]))
    (message,) = wire.transport.wait(0)
    wire.rounds(300)
    wire.transport.reply(message, [bytes(4 * MIB)])
    wire.rounds(58)
    assert message.connection.unsent
    wire.rounds(3)
    with pytest.raises(OSError, match="Bad file descriptor"):
        message.connection.stream.getpeername()


def test_who_says_nothing(wire: Wire) -> None:
    """The handshake has two seconds, of an agent that listens."""
    wire.after(3600)
    assert not wire.gone()
    wire.rounds(2.6)
    assert wire.gone()
