"""Whatever bytes arrive, they are a request, a reply, or refused with a word."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdpatch.agent import messages, protocol
from zdpatch.agent.messages import MalformedError
from zdpatch.patcher.errors import OperatorError, ProcessError, Refused, Verdict, ZdpatchError

MSGID = b"m" * 16
INFO = protocol.AgentInfo(
    agent="shop-1-abc",
    app="shop",
    release="1",
    pid=1,
    python="cp313",
    labels={},
    host="h",
    user="u",
    state="ready",
    started=1.0,
    zdpatch="0",
)
HEADERS = [
    protocol.Hello(),
    protocol.Status(detail=True),
    protocol.Stage("a" * 64),
    protocol.Plan("a" * 64),
    protocol.Apply("a" * 64, trial_s=5, confirm=True, reason="why"),
    protocol.Want("a" * 64, trial_s=5, reason="slots"),
    protocol.Confirm("FIX-1"),
    protocol.Revert("abcdef01"),
    protocol.Hold(on=True, reason="freeze"),
    protocol.History(limit=3, audit=True),
    protocol.Source({"shop.cart": "", "shop": "a" * 64}, ["shop"]),
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: type(header).__name__)
def test_a_request_survives_the_wire(header: protocol.Header) -> None:
    """What is encoded is what is parsed, for every verb."""
    blob = b"zip" if isinstance(header, protocol.Stage) else None
    request = messages.parse_request(messages.encode_request(header, MSGID, blob))
    assert (request.header, request.msgid, request.blob) == (header, MSGID, blob)


def test_every_verb_has_a_header() -> None:
    """The table of verbs and these tests speak of the same."""
    assert {type(header) for header in HEADERS} == set(protocol.VERBS.values())


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"hello"],
        [b"hello", MSGID],
        [b"hello", b"short", b"{}"],
        [b"hello", MSGID, b"{}", b"blob"],
        [b"stage", MSGID, b'{"digest":"' + b"a" * 64 + b'"}'],
        [b"hello", MSGID, b"{}", b"", b""],
        [b"__class__", MSGID, b"{}"],
        [b"answer", MSGID, b"{}"],
        [b"hello", MSGID, b"{", b""],
        [b"hello", MSGID, b""],
        [b"hello", MSGID, b"\xff\xfe"],
        [b"hello", MSGID, b'{"x":1}'],
        [b"status", MSGID, b'{"detail":1}'],
        [b"plan", MSGID, b'{"digest":"../../etc/passwd"}'],
        [b"plan", MSGID, b'{"digest":"' + b"A" * 64 + b'"}'],
        [b"plan", MSGID, b'{"digest":"' + b"a" * 64 + b'\\n"}'],
        [b"confirm", MSGID, b'{"patch":"a b"}'],
        [b"apply", MSGID, b'{"digest":"' + b"a" * 64 + b'","trial_s":0}'],
        [b"history", MSGID, b'{"limit":100000}'],
        [b"hello", MSGID, b"[" * 60_000],
        [b"hello", MSGID, b" " * 65_537],
        [b"hold", MSGID, b'{"on":true,"reason":"' + b"x" * 501 + b'"}'],
    ],
)
def test_malformed_requests(frames: list[bytes]) -> None:
    """Wrong counts, ids, verbs, headers and sizes are refused as ZDP-404."""
    with pytest.raises(MalformedError) as caught:
        messages.parse_request(frames)
    assert caught.value.code == "ZDP-404"


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_frames(frames: list[bytes]) -> None:
    """No bytes make the parser raise anything else."""
    with contextlib.suppress(MalformedError):
        messages.parse_request(frames)


@given(st.sampled_from(sorted(protocol.VERBS)), st.binary(max_size=200))
def test_any_header(verb: bytes, header: bytes) -> None:
    """No header of a known verb makes the parser raise anything else."""
    with contextlib.suppress(MalformedError):
        messages.parse_request([verb, MSGID, header])


def test_every_flipped_byte_of_a_request() -> None:
    """A request with one byte changed is parsed or refused, and never has another message id."""
    frames = messages.encode_request(protocol.Apply("a" * 64, reason="why"), MSGID)
    for number, frame in enumerate(frames):
        for position in range(len(frame)):
            flipped = bytearray(frame)
            flipped[position] ^= 0xFF
            attempt = [*frames[:number], bytes(flipped), *frames[number + 1 :]]
            with contextlib.suppress(MalformedError):
                assert messages.parse_request(attempt).msgid == attempt[1]


def test_a_result_survives_the_wire() -> None:
    """A reply names its agent and carries its result."""
    frames = messages.encode_ok(INFO, MSGID, protocol.HoldResult(held=True))
    reply = messages.parse_reply(frames, MSGID)
    assert reply.agent == INFO
    assert reply.result is not None
    assert msgspec.json.decode(reply.result, type=protocol.HoldResult).held


def test_an_error_survives_the_wire() -> None:
    """Id, cause, state, next and verdicts arrive, with the root that says who must act."""
    verdict = Verdict("shop.cart:price", 3, "body", "R", "runs for ever", "replace the worker")
    sent = Refused("ZDP-202", "not safe", (verdict,), next="zdpatch check")
    reply = messages.parse_reply(messages.encode_error(INFO, MSGID, sent), MSGID)
    assert reply.error is not None
    got = messages.to_exception(reply.error)
    assert isinstance(got, Refused)
    assert (got.code, got.cause, got.next, got.verdicts) == (
        "ZDP-202",
        "not safe",
        "zdpatch check",
        (verdict,),
    )


@pytest.mark.parametrize("code", ["ZDP-103", "ZDP-204", "ZDP-301", "ZDP-501", "ZDP-901"])
def test_error_roots(code: str) -> None:
    """The id survives; an unknown one becomes a bug."""
    body = messages.error_body(ProcessError(code, "cause", state="s"))
    assert (messages.to_exception(body).code, messages.to_exception(body).state) == (code, "s")
    unknown = msgspec.structs.replace(body, code="ZDP-777")
    assert messages.to_exception(unknown).code == "ZDP-901"


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_reply(frames: list[bytes]) -> None:
    """No bytes from an agent make the operator's side raise anything else."""
    with contextlib.suppress(ZdpatchError):
        messages.parse_reply(frames, MSGID)


@pytest.mark.parametrize("body", [b"{}", b'{"agent":1}', b"[]", b"\xff\x00" * 20])
def test_not_a_reply(body: bytes) -> None:
    """A body that says nothing is refused."""
    with pytest.raises(OperatorError):
        messages.parse_reply([b"ok", MSGID, body], MSGID)


def test_a_reply_is_a_result_or_an_error() -> None:
    """Neither both nor none, and the first frame says which."""
    ok = messages.encode_ok(INFO, MSGID, protocol.HoldResult(held=True))
    with pytest.raises(OperatorError):
        messages.parse_reply([b"error", *ok[1:]], MSGID)
    with pytest.raises(OperatorError):
        messages.parse_reply(ok, b"x" * 16)
    with pytest.raises(OperatorError):
        messages.parse_reply([b"ok", MSGID, msgspec.json.encode({"agent": INFO})], MSGID)
