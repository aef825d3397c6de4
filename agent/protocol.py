"""What agents can be asked and what they answer: one strict type for each, and a closed table.

Both the agent and the operator's side speak in these; `messages` makes frames of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from zdpatch.patcher.left import Left  # noqa: TC001 - msgspec reads it at run time

PROTOCOL: Final = 1
MAX_TRIAL_S: Final = 7 * 24 * 3600

AgentState = Literal["ready", "held", "busy", "off"]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PatchRef = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]
MaybeDigest = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
Path = Annotated[str, msgspec.Meta(max_length=300, pattern=r"\A[^:\s]+:[^:\s]+\Z")]
Paths = Annotated[list[Path], msgspec.Meta(max_length=100)]
ModuleName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]


OnLimit = Literal["abort", "flip"]
MAX_LIMIT_S: Final = 3600


class Consistently(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A patch goes in or out so that nothing that has begun sees both versions.

    That may take `limit_s` seconds. Then "abort" leads back, and "flip" goes on at once. None: as
    the agent's settings say.
    """

    limit_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT_S)] | None = None
    on_limit: OnLimit | None = None


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
    what the base has is put back first. `consistent`: say which functions would be dispatched, and
    who calls them from outside.
    """

    digest: Digest
    adopt: Paths = []
    replace: Paths = []
    consistent: bool = False


class Apply(Header, frozen=True):
    """Bring the staged bundle in, on trial: silence for `trial_s` seconds reverts it.

    None means the agent's default; `confirm` ends the trial at once. A patch that is on trial stays
    so for `trial_s` from now, or longer. `consistent`: by and by; the answer may come before it has
    arrived, in state "applying".
    """

    digest: Digest
    trial_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRIAL_S)] | None = None
    confirm: bool = False
    reason: Reason = ""
    adopt: Paths = []
    replace: Paths = []
    consistent: Consistently | None = None


class Want(Header, frozen=True):
    """Want the staged bundle, on trial, of processes that start from now on; this one is as it was.

    For edits that cannot go in place: somebody then replaces the processes.
    """

    digest: Digest
    trial_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRIAL_S)] | None = None
    reason: Reason = ""


class Confirm(Header, frozen=True):
    """End the trial of a patch: it stays. `patch` is its id or >= 8 characters of its digest."""

    patch: PatchRef


class Revert(Header, frozen=True):
    """Take a patch out again, at once or `consistent`; the answer may come before it is out.

    One that is on its way in goes back.
    """

    patch: PatchRef
    consistent: Consistently | None = None


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
    b"want": Want,
    b"confirm": Confirm,
    b"revert": Revert,
    b"hold": Hold,
    b"history": History,
    b"source": Source,
}


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


class Way(msgspec.Struct, frozen=True):
    """A patch is on its way in or, with `leaves`, out; `turned`: it goes back.

    Until `until` (unix seconds), then `on_limit` says what becomes of it. `group` are the functions
    that are dispatched, `together` why they flip in one instant in which nobody is inside, if they
    do. `blockers`: what has begun before and is not over, by name; and how many `more`.
    """

    leaves: bool
    turned: bool
    until: float
    on_limit: str
    group: list[str]
    together: list[str]
    blockers: list[str]
    more: int = 0


class PatchRow(msgspec.Struct, frozen=True):
    """One patch as this process has it.

    `since` and `until` are unix seconds, `wanted` is the state wanted of the whole application,
    `notices` are what was said of it when it went in. `overdue`: its trial is over and it could
    not be taken out. `doubt`: why its bundle, which runs, would not be trusted now. `damaged`: data
    files that it serves, and that somebody changed since. `set_back`: what of it somebody has
    changed since, so that it is not in any more. `not_after`: of one that runs, when its fix should
    be in a release.
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
    set_back: list[str] = []
    not_after: int | None = None
    way: Way | None = None


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
    """The patch is in, or on its `way`; `flip_us` is 0 when it was in already."""

    digest: str
    id: str
    state: str
    until: float | None
    flip_us: float
    functions: int
    outstanding: dict[str, int]
    notices: list[str]
    way: Way | None = None


class WantResult(msgspec.Struct, frozen=True):
    """What is wanted of the application now. `until`: the end of its trial."""

    digest: str
    id: str
    state: str
    until: float | None


class ConfirmResult(msgspec.Struct, frozen=True):
    """The patch stays."""

    digest: str
    id: str
    state: str


class RevertResult(msgspec.Struct, frozen=True):
    """The patch is out, or on its `way`.

    `born_on_trial` counts objects made meanwhile which could not be taken back.
    """

    digest: str
    id: str
    state: str
    flip_us: float
    born_on_trial: dict[str, int]
    way: Way | None = None


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
