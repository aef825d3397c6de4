"""Every frame is bounded and strictly typed before anything acts on it; nothing is ever unpickled.

A request is `[verb, msgid, header]` and, for `stage` alone, a blob; a reply is
`[b"ok" | b"error", msgid, body]`. Headers and bodies are JSON. Both the agent and the operator's
side speak through this module; it opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

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
from zdpatch.patcher.left import Left  # noqa: TC001 - msgspec reads it at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL: Final = 1
MSGID_BYTES: Final = 16
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BLOB_BYTES: Final = 8 * 1024 * 1024
MAX_FRAMES: Final = 4  # verb, msgid, header, blob
MAX_TRIAL_S: Final = 7 * 24 * 3600

AgentState = Literal["ready", "held", "busy", "off"]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PatchRef = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]
MaybeDigest = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
Path = Annotated[str, msgspec.Meta(max_length=300, pattern=r"\A[^:\s]+:[^:\s]+\Z")]
Paths = Annotated[list[Path], msgspec.Meta(max_length=100)]
ModuleName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of one verb; unknown fields are refused."""


class Hello(Header, frozen=True):
    """Who are you?"""


class Status(Header, frozen=True):
    """What is here; `detail` adds what still runs old code."""

    detail: bool = False


class Stage(Header, frozen=True):
    """Verify and keep the bundle in the blob frame; `digest` is its patch identity."""

    digest: Digest


class Plan(Header, frozen=True):
    """Say what applying the staged bundle would do; touches nothing.

    `adopt`: paths of what was replaced at run time, and is left alone. `replace`: paths at which
    what the base has is put back first.
    """

    digest: Digest
    adopt: Paths = []
    replace: Paths = []


class Apply(Header, frozen=True):
    """Bring the staged bundle in, on trial: silence for `trial_s` seconds reverts it.

    None means the agent's default; `confirm` ends the trial at once. A patch that is on trial stays
    so for `trial_s` from now, or longer.
    """

    digest: Digest
    trial_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRIAL_S)] | None = None
    confirm: bool = False
    reason: Reason = ""
    adopt: Paths = []
    replace: Paths = []


class Confirm(Header, frozen=True):
    """End the trial of a patch: it stays. `patch` is its id or >= 8 characters of its digest."""

    patch: PatchRef


class Revert(Header, frozen=True):
    """Take a patch out again."""

    patch: PatchRef


class Hold(Header, frozen=True):
    """Block (`on`) or allow again every apply of this application; reverting stays possible."""

    on: bool
    reason: Reason = ""


class Source(Header, frozen=True):
    """The source of what runs as these modules: name to sha256 of a source one has, "" for none.

    What is had already is not sent. The blob, if any, is a source for the one module that is asked
    for. `below` names packages of which to tell what else is loaded.
    """

    modules: Annotated[dict[ModuleName, MaybeDigest], msgspec.Meta(max_length=200)]
    below: Annotated[list[ModuleName], msgspec.Meta(max_length=50)] = []


class History(Header, frozen=True):
    """The newest `limit` transitions, or audit rows with `audit`."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    audit: bool = False


VERBS: Final[dict[bytes, type[Header]]] = {
    b"hello": Hello,
    b"status": Status,
    b"stage": Stage,
    b"plan": Plan,
    b"apply": Apply,
    b"confirm": Confirm,
    b"revert": Revert,
    b"hold": Hold,
    b"history": History,
    b"source": Source,
}
_WITH_BLOB: Final = frozenset({b"stage", b"source"})
_NAMES: Final = {kind: name for name, kind in VERBS.items()}


class AgentInfo(msgspec.Struct, frozen=True):
    """Names the answering agent; part of every reply.

    `started` is the creation of the process in unix seconds.
    """

    agent: str
    app: str
    release: str
    pid: int
    python: str
    labels: dict[str, str]
    host: str
    user: str
    state: AgentState
    started: float
    zdpatch: str


class VerdictRow(msgspec.Struct, frozen=True):
    """One edit's verdict, as in `zdpatch.patcher.errors.Verdict`."""

    path: str
    line: int
    edit: str
    row: str
    reason: str
    remedy: str = ""


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused or failed request: an id, a cause, what state things are in, the next command."""

    code: str
    title: str
    cause: str
    state: str
    next: str
    verdicts: list[VerdictRow] = []


class HelloResult(msgspec.Struct, frozen=True):
    """`patches` counts active ones; `floor` is the highest sequence number ever accepted."""

    protocol: int
    trusted: bool
    held: bool
    floor: int
    patches: int


class PatchRow(msgspec.Struct, frozen=True):
    """One patch as this process has it.

    `since` and `until` are unix seconds, `wanted` is the state wanted of the whole application,
    `notices` are what was said of it when it went in. `overdue`: its trial is over and it could
    not be taken out. `doubt`: why its bundle, which runs, would not be trusted now. `damaged`: data
    files that it serves, and that somebody changed since.
    """

    id: str
    digest: str
    seq: int
    state: str
    since: float
    until: float | None
    wanted: str
    fixes: list[str]
    origin: dict[str, str]
    modules: list[str]
    signed_by: dict[str, list[str]]
    reason: str
    outstanding: dict[str, int] = {}
    left: Left | None = None
    notices: list[str] = []
    overdue: bool = False
    doubt: str = ""
    damaged: list[str] = []


class Held(msgspec.Struct, frozen=True):
    """Who stopped applying, why, and since when (unix seconds)."""

    by: str
    reason: str
    since: float


class StatusResult(msgspec.Struct, frozen=True):
    """What this agent has, and plain sentences about what is not as it should be.

    `children`: pids of living ones that do not have what is in this process.
    """

    patches: list[PatchRow]
    held: Held | None
    warnings: list[str]
    children: list[int] = []


class StageResult(msgspec.Struct, frozen=True):
    """The bundle is verified and kept. `until`: the end of its trial, where it is on trial."""

    digest: str
    id: str
    state: str
    warnings: list[str] = []
    until: float | None = None


class ApplyResult(msgspec.Struct, frozen=True):
    """The patch is in; `flip_us` is 0 when it was in already."""

    digest: str
    id: str
    state: str
    until: float | None
    flip_us: float
    functions: int
    outstanding: dict[str, int]
    notices: list[str]


class ConfirmResult(msgspec.Struct, frozen=True):
    """The patch stays."""

    digest: str
    id: str
    state: str


class RevertResult(msgspec.Struct, frozen=True):
    """The patch is out.

    `born_on_trial` counts objects made meanwhile which could not be taken back.
    """

    digest: str
    id: str
    state: str
    flip_us: float
    born_on_trial: dict[str, int]


class HoldResult(msgspec.Struct, frozen=True):
    """Whether applies are blocked now."""

    held: bool


class HistoryResult(msgspec.Struct, frozen=True):
    """Rows, newest first.

    With audit rows `intact` says whether the chain holds, and `broken_at` where it does not.
    """

    rows: list[dict[str, Any]]
    intact: bool | None = None
    broken_at: int | None = None


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every reply: the agent, and a result or an error."""

    agent: AgentInfo
    result: msgspec.Raw | None = None
    error: ErrorBody | None = None


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
