"""Every frame is bounded and strictly typed before anything acts on it; nothing is ever unpickled.

A request is `[verb, msgid, header]` and, for `stage` and `source`, a blob; a reply is
`[b"ok" | b"error", msgid, body]`. Headers and bodies are the JSON of what `protocol` has. This
module opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from zdpatch.agent.protocol import VERBS, AgentInfo, ErrorBody, Header, Reply, VerdictRow
from zdpatch.patcher.errors import (
    CATALOGUE,
    AuthorError,
    BugError,
    OperatorError,
    ProcessError,
    Refused,
    Verdict,
    ZdpatchError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MSGID_BYTES: Final = 16
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BLOB_BYTES: Final = 8 * 1024 * 1024
MAX_FRAMES: Final = 4  # verb, msgid, header, blob
_WITH_BLOB: Final = frozenset({b"stage", b"source"})
_NAMES: Final = {kind: name for name, kind in VERBS.items()}


class _WireReply(msgspec.Struct, frozen=True):
    # an optional Raw cannot be decoded, an empty one can
    agent: AgentInfo
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorBody | None = None


class Request(msgspec.Struct, frozen=True):
    """One request that passed every check on its frames."""

    verb: str
    msgid: bytes
    header: Header
    blob: bytes | None


class MalformedError(OperatorError):
    """Frames that are no request. `msgid` is set when a reply can still be addressed."""

    def __init__(self, cause: str, msgid: bytes | None) -> None:
        super().__init__("ZDP-404", cause)
        self.msgid = msgid


_encoder: Final = msgspec.json.Encoder()
_reply_decoder: Final = msgspec.json.Decoder(_WireReply)
_decoders: Final = {name: msgspec.json.Decoder(kind) for name, kind in VERBS.items()}


def encode_request(header: Header, msgid: bytes, blob: bytes | None = None) -> list[bytes]:
    """The frames of a request; the verb follows from the header's type."""
    frames = [_NAMES[type(header)], msgid, _encoder.encode(header)]
    return frames if blob is None else [*frames, blob]


def parse_request(frames: Sequence[bytes]) -> Request:
    """Check frame count, sizes, verb and header. Raises MalformedError, whatever the bytes are."""
    msgid = frames[1] if len(frames) > 1 and len(frames[1]) == MSGID_BYTES else None
    if not 3 <= len(frames) <= MAX_FRAMES:
        raise MalformedError(f"a request has 3 or 4 frames, this one has {len(frames)}", msgid)
    if msgid is None:
        raise MalformedError(f"the message id is not {MSGID_BYTES} bytes", None)
    verb, _, raw = frames[:3]
    decoder = _decoders.get(verb)
    if decoder is None:
        raise MalformedError(f"unknown verb {verb[:20]!r}", msgid)
    blob = frames[3] if len(frames) == MAX_FRAMES else None
    if (verb == b"stage" and blob is None) or (blob is not None and verb not in _WITH_BLOB):
        raise MalformedError("stage carries a blob, source may, and no other verb does", msgid)
    if len(raw) > MAX_HEADER_BYTES or len(blob or b"") > MAX_BLOB_BYTES:
        raise MalformedError("header or blob is too large", msgid)
    try:
        header = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"bad header of {verb.decode()}: {error}", msgid) from None
    return Request(verb.decode(), msgid, header, blob)


def encode_ok(
    agent: AgentInfo, msgid: bytes, result: msgspec.Struct | dict[str, Any]
) -> list[bytes]:
    """The frames of a successful reply."""
    return [
        b"ok",
        msgid,
        _encoder.encode(Reply(agent, result=msgspec.Raw(_encoder.encode(result)))),
    ]


def encode_error(agent: AgentInfo, msgid: bytes, error: ZdpatchError) -> list[bytes]:
    """The frames of a refusal."""
    return [b"error", msgid, _encoder.encode(Reply(agent, error=error_body(error)))]


def parse_reply(frames: Sequence[bytes], msgid: bytes) -> Reply:
    """Check and decode a reply to `msgid`. Raises OperatorError ZDP-404 when it is none."""
    if len(frames) != 3 or frames[0] not in (b"ok", b"error") or frames[1] != msgid:
        raise OperatorError("ZDP-404", "the answer is not a reply to this request")
    try:
        wire = _reply_decoder.decode(frames[2])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OperatorError("ZDP-404", f"the answer cannot be read: {error}") from None
    result = wire.result if bytes(wire.result) else None
    if (result is None) == (wire.error is None) or (frames[0] == b"ok") != (wire.error is None):
        raise OperatorError("ZDP-404", "the answer is neither a result nor an error")
    return Reply(wire.agent, result, wire.error)


def error_body(error: ZdpatchError) -> ErrorBody:
    """The wire form of an error."""
    verdicts = [
        VerdictRow(v.path, v.line, v.edit, v.row, v.reason, v.remedy)
        for v in getattr(error, "verdicts", ())
    ]
    return ErrorBody(error.code, error.title, error.cause, error.state, error.next, verdicts)


def to_exception(body: ErrorBody) -> ZdpatchError:
    """The error a reply carries, of the root that says who must act; unknown ids become ZDP-901."""
    code = body.code if body.code in CATALOGUE else "ZDP-901"
    if body.verdicts:
        rows = tuple(
            Verdict(v.path, v.line, v.edit, v.row, v.reason, v.remedy) for v in body.verdicts
        )
        return Refused(code, body.cause, rows, next=body.next)
    roots = {"1": AuthorError, "2": ProcessError, "5": ProcessError, "9": BugError}
    root: type[ZdpatchError] = roots.get(code[4], OperatorError)
    return root(code, body.cause, state=body.state, next=body.next)
