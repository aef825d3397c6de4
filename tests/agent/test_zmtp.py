"""Whatever bytes a peer sends, they are a bounded message, too few yet, or the end of it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdpatch.agent import zmtp

READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
HELLO = zmtp.GREETING + READY


def decoder() -> zmtp.Decoder:
    """Small limits, so that each can be reached."""
    return zmtp.Decoder(kept=3, frame=1000, message=2000)


def messages(raw: bytes, step: int) -> list[list[bytes]]:
    """All messages in bytes that come `step` at a time."""
    found: list[list[bytes]] = []
    one = decoder()
    for at in range(0, len(raw), step):
        one.feed(raw[at : at + step])
        while (frames := one.message()) is not None:
            found.append(frames)
    return found


FRAMES = st.lists(st.binary(max_size=600), min_size=1, max_size=3)


@given(st.lists(FRAMES, max_size=4), st.integers(1, 3000))
def test_what_is_encoded_is_decoded(sent: list[list[bytes]], step: int) -> None:
    """Messages come out as they went in, however the stream is cut."""
    raw = b"".join(map(zmtp.encode, sent))
    assert messages(HELLO + raw, step) == sent


@given(st.binary(max_size=300), st.integers(0, len(HELLO)), st.integers(1, 80))
def test_any_bytes(noise: bytes, after: int, step: int) -> None:
    """Nothing else than the one error, and nothing kept beyond what was sent."""
    one = decoder()
    raw = HELLO[:after] + noise
    try:
        for at in range(0, len(raw), step):
            one.feed(raw[at : at + step])
            while one.message() is not None:
                pass
            assert one.held <= len(raw)
    except zmtp.ProtocolError:
        pass


@pytest.mark.parametrize("at", range(len(HELLO)))
def test_every_cut_waits(at: int) -> None:
    """A handshake that is not whole is not ready, and says nothing."""
    one = decoder()
    one.feed(HELLO[:at])
    assert one.message() is None
    assert not one.ready


def test_frames_too_many_cost_nothing() -> None:
    """Frames beyond those kept are skipped, not stored, and end the connection at their limit."""
    one = decoder()
    one.feed(HELLO)
    for _ in range(1024):
        one.feed(b"\x03" + (600).to_bytes(8) + bytes(600))
        assert one.message() is None
        assert one.held <= 1800
    one.feed(b"\x01\x00")
    with pytest.raises(zmtp.ProtocolError, match="too large"):
        one.message()


def test_kept_frames_have_a_limit_together() -> None:
    """Three frames of the largest size are more than a message may have."""
    one = decoder()
    one.feed(HELLO + zmtp.encode([bytes(1000)] * 3))
    with pytest.raises(zmtp.ProtocolError, match="too large"):
        one.message()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n",
        zmtp.GREETING[:10] + b"\x02" + zmtp.GREETING[11:],  # another version
        zmtp.GREETING.replace(b"NULL\0", b"PLAIN"),
        zmtp.GREETING + zmtp.encode([b"hello"]),  # a message before READY
        zmtp.GREETING + READY.replace(b"DEALER", b"PUBPUB"),
        zmtp.GREETING + READY[:-4] + b"\xff\xff\xff\xff",  # a property longer than its command
        HELLO + b"\x10\x00",  # unknown flags
        HELLO + b"\x05\x00",  # a command with more to come
        HELLO + b"\x02" + (1001).to_bytes(8),
        HELLO + b"\x06" + (2**63).to_bytes(8),
    ],
)
def test_what_ends_a_connection(raw: bytes) -> None:
    """Another protocol, another mechanism, and sizes above the limits."""
    one = decoder()
    one.feed(raw)
    with pytest.raises(zmtp.ProtocolError):
        one.message()


def test_commands_between_messages_are_passed_over() -> None:
    """A heartbeat does not disturb."""
    raw = HELLO + b"\x04\x05\x04PING" + zmtp.encode([b"a", b"b" * 300])
    assert messages(raw, 7) == [[b"a", b"b" * 300]]


@pytest.mark.timeout(20)
def test_many_small_chunks_are_not_copied_again_and_again() -> None:
    """A large frame that comes in pieces takes time in proportion to its size."""
    one = zmtp.Decoder(kept=3, frame=8 << 20, message=8 << 20)
    one.feed(HELLO + b"\x02" + (8 << 20).to_bytes(8))
    piece = os.urandom(4096)
    for _ in range(2047):
        one.feed(piece)
        assert one.message() is None
    one.feed(piece)
    assert one.message() == [piece * 2048]
