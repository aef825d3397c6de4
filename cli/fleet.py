"""A bundle goes to every target or to none: stage and plan everywhere, apply everywhere, or undo.

No terminal here: `push` prints, and programs that keep a warm `Client` call these directly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from zdpatch.agent.identity import own_key
from zdpatch.agent.protocol import (
    Apply,
    ApplyResult,
    Confirm,
    ConfirmResult,
    Plan,
    Revert,
    RevertResult,
    Stage,
    StageResult,
    Status,
    StatusResult,
    VerdictRow,
)
from zdpatch.cli.errors import error_json
from zdpatch.cli.select import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from zdpatch.agent.home import AgentFile
    from zdpatch.agent.identity import ProcessKey
    from zdpatch.agent.protocol import AgentInfo, Header
    from zdpatch.cli.client import Client
    from zdpatch.patcher.errors import ZdpatchError

IN_PLACE: Final = frozenset({"trial", "confirmed", "absorbed"})
OUT: Final = frozenset({"reverted", "quarantined", "refused", "superseded", "staged"})
_NOT_THERE: Final = frozenset({"ZDP-212", "ZDP-213", "ZDP-215"})
NO_ANSWER: Final = "ZDP-402"
_Result = TypeVar("_Result", bound=msgspec.Struct)


class Foreseen(msgspec.Struct, frozen=True):
    """Which functions a consistent apply dispatches, why they flip together if they do, and who
    calls them from outside of the patch.
    """

    group: list[str]
    together: list[str]
    callers: dict[str, list[str]]


class PlanResult(msgspec.Struct, frozen=True):
    """What applying would do to one process (the engine's summary)."""

    patch: str = ""
    verdicts: list[VerdictRow] = []
    modules: list[str] = []
    functions: int = 0
    steps: int = 0
    heap_scan: bool = False
    notices: list[str] = []
    deferred: list[str] = []
    heap_objects: int = 0
    heap_ms: float = 0.0
    consistent: Foreseen | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One agent on the way of a push.

    `outcome` is one of planned, already, refused, applied, failed, unknown, reverted, stuck, ended.
    `state` is the last state of the patch there that is known, "" if none.
    """

    ref: AgentFile
    outcome: str
    state: str = ""
    agent: AgentInfo | None = None
    plan: PlanResult | None = None
    applied: ApplyResult | None = None
    error: ZdpatchError | None = None
    warnings: tuple[str, ...] = ()
    ends: float | None = None  # of a trial that was there before this push

    @property
    def until(self) -> float | None:
        """When the trial ends, in seconds since 1970."""
        return self.ends if self.applied is None else self.applied.until


def prepare(  # noqa: PLR0913 - what is pushed, where, and what is said of it
    client: Client,
    digest: str,
    raw: bytes,
    agents: Sequence[AgentFile],
    *,
    adopt: Sequence[str] = (),
    put_back: Sequence[str] = (),
    consistent: bool = False,
    timeout_s: float | None = None,
) -> list[Target]:
    """Stage and plan on every agent; changes nothing. Outcomes: planned, already, refused.

    A process that ends meanwhile needs no patch, and is none of the targets unless it is the last.
    """
    targets: list[Target] = []
    for answer in client.ask(agents, Stage(digest), StageResult, raw, timeout_s=timeout_s):
        if answer.result is None:
            targets.append(Target(answer.ref, "refused", agent=answer.agent, error=answer.error))
            continue
        state, warnings = answer.result.state, tuple(answer.result.warnings)
        outcome = "already" if state in IN_PLACE else "planned"
        ends = answer.result.until
        told = Target(answer.ref, outcome, state, answer.agent, warnings=warnings, ends=ends)
        targets.append(told)
    going = [target.ref for target in targets if target.outcome == "planned"]
    question = Plan(digest, list(adopt), list(put_back), consistent)
    plans = client.ask(going, question, PlanResult, timeout_s=timeout_s)
    by_agent = {answer.ref.agent: answer for answer in plans}
    for i, target in enumerate(targets):
        if plan := by_agent.get(target.ref.agent):
            outcome = "planned" if plan.error is None else "refused"
            targets[i] = replace(target, outcome=outcome, plan=plan.result, error=plan.error)
    here = own_key()
    left = [target for target in targets if not _is_gone(target, here)]
    return left or targets


def _is_gone(target: Target, here: ProcessKey) -> bool:
    silent = target.error is not None and target.error.code == NO_ANSWER
    return silent and has_ended(target.ref, here)


def apply(
    client: Client, header: Apply, targets: Sequence[Target], *, timeout_s: float | None = None
) -> list[Target]:
    """Apply on all planned targets at once. Outcomes: applied, failed, unknown, ended."""
    going = [target.ref for target in targets if target.outcome == "planned"]
    answers = client.ask(going, header, ApplyResult, timeout_s=timeout_s)
    by_agent = {answer.ref.agent: answer for answer in answers}
    result: list[Target] = []
    for target in targets:
        answer = by_agent.get(target.ref.agent)
        if answer is None:
            result.append(target)
        elif answer.result is not None:
            state = answer.result.state
            result.append(replace(target, outcome="applied", state=state, applied=answer.result))
        else:
            silent = answer.error is not None and answer.error.code in {NO_ANSWER, "ZDP-404"}
            outcome = "unknown" if silent else "failed"
            result.append(replace(target, outcome=outcome, error=answer.error))
    return _ask_again(client, header, result)


def _ask_again(client: Client, header: Apply, targets: list[Target]) -> list[Target]:
    """Find out what became of targets whose answer to `apply` never came."""
    here = own_key()
    unsure = [target.ref for target in targets if target.outcome == "unknown"]
    states = {ref.agent: state for ref, state in patch_states(client, header.digest, unsure)}
    for i, target in enumerate(targets):
        if target.outcome != "unknown":
            continue
        state = states.get(target.ref.agent)
        if state in IN_PLACE or (state == "applying" and header.consistent is not None):
            targets[i] = replace(target, outcome="applied", state=state, error=None)
        elif state is not None:
            outcome = "failed" if state in OUT else "unknown"
            targets[i] = replace(target, outcome=outcome, state=state)
        elif has_ended(target.ref, here):
            targets[i] = replace(target, outcome="ended", state="")
    return targets


def patch_states(
    client: Client, digest: str, agents: Sequence[AgentFile], *, timeout_s: float = 5.0
) -> Iterator[tuple[AgentFile, str | None]]:
    """The state of a patch at each agent; "" when it is not there, None without an answer."""
    for answer in client.ask(agents, Status(), StatusResult, timeout_s=timeout_s):
        if answer.result is None:
            yield answer.ref, None
            continue
        states = [row.state for row in answer.result.patches if row.digest == digest]
        yield answer.ref, states[-1] if states else ""


def undo(
    client: Client, header: Apply, targets: Sequence[Target], *, timeout_s: float | None = None
) -> list[Target]:
    """Take the patch out where this push brought it in, as it did. Outcomes: reverted, or stuck."""
    going = [target.ref for target in targets if target.outcome in {"applied", "unknown"}]
    question = Revert(header.digest, header.consistent)
    answers = client.ask(going, question, RevertResult, timeout_s=timeout_s)
    by_agent = {answer.ref.agent: answer for answer in answers}
    result: list[Target] = []
    for target in targets:
        answer = by_agent.get(target.ref.agent)
        if answer is None:
            result.append(target)
        elif answer.error is None:
            result.append(replace(target, outcome="reverted", state="reverted"))
        elif target.outcome == "unknown" and answer.error.code in _NOT_THERE:
            result.append(replace(target, outcome="failed", state="staged"))
        else:
            result.append(replace(target, outcome="stuck", error=answer.error))
    return result


def confirm(
    client: Client, digest: str, targets: Sequence[Target], *, timeout_s: float | None = None
) -> list[Target]:
    """Confirm where the patch is on trial already (a push again, with --confirm)."""
    question = Confirm(digest)
    return [
        target if answer is None else replace(target, state="confirmed")
        for target, answer in _on_trial(client, question, ConfirmResult, targets, timeout_s)
    ]


def prolong(
    client: Client, header: Apply, targets: Sequence[Target], *, timeout_s: float | None = None
) -> list[Target]:
    """Let trials that there are last as long as `header` says from now, or longer."""
    return [
        target if answer is None else replace(target, state=answer.state, ends=answer.until)
        for target, answer in _on_trial(client, header, ApplyResult, targets, timeout_s)
    ]


def _on_trial(
    client: Client,
    header: Header,
    kind: type[_Result],
    targets: Sequence[Target],
    timeout_s: float | None,
) -> Iterator[tuple[Target, _Result | None]]:
    """Ask where the patch is on trial: each target with its answer; "failed" and None where that is
    an error, None for all others.
    """
    going = [target.ref for target in targets if target.state == "trial"]
    answers = client.ask(going, header, kind, timeout_s=timeout_s)
    by_agent = {answer.ref.agent: answer for answer in answers}
    for target in targets:
        answer = by_agent.get(target.ref.agent)
        if answer is not None and answer.result is None:
            yield replace(target, outcome="failed", error=answer.error), None
        else:
            yield target, None if answer is None else answer.result


def follow(
    client: Client,
    digest: str,
    targets: Sequence[Target],
    *,
    deadline: float,
    changed: Callable[[Target], None],
) -> list[Target]:
    """Watch until no target is on trial, or `deadline` (monotonic seconds) is over.

    `changed` hears each change of state. A process that ends meanwhile has outcome "ended".
    """
    current = list(targets)
    pause_s = 0.25
    while any(target.state == "trial" for target in current):
        if time.monotonic() >= deadline:
            break
        time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
        pause_s = min(pause_s * 1.5, 2.0)
        watched = [target.ref for target in current if target.state == "trial"]
        states = {ref.agent: state for ref, state in patch_states(client, digest, watched)}
        for i, target in enumerate(current):
            if target.ref.agent not in states:
                continue
            now = _advance(target, states[target.ref.agent])
            if now is not target:
                current[i] = now
                changed(now)
    return current


def _advance(target: Target, state: str | None) -> Target:
    if state is None:
        return replace(target, outcome="ended", state="")
    if state == target.state:
        return target
    return replace(target, outcome="applied" if state in IN_PLACE else "reverted", state=state)


def facts(ref: AgentFile, agent: AgentInfo | None) -> dict[str, Any]:
    """What is known about an agent, as JSON: what it said itself, else what it announced."""
    known: dict[str, Any] = msgspec.to_builtins(ref if agent is None else agent)
    return {
        key: known.get(key)
        for key in ("agent", "app", "release", "pid", "python", "labels", "host", "state")
    }


def target_json(target: Target) -> dict[str, object]:
    """One target as `--json` shows it."""
    applied = target.applied
    return {
        **facts(target.ref, target.agent),
        "outcome": target.outcome,
        "patch_state": target.state,
        "until": target.until,
        "plan": None if target.plan is None else msgspec.to_builtins(target.plan),
        "flip_us": None if applied is None else applied.flip_us,
        "functions": None if applied is None else applied.functions,
        "outstanding": {} if applied is None else applied.outstanding,
        "notices": [] if applied is None else applied.notices,
        "warnings": list(target.warnings),
        "error": None if target.error is None else error_json(target.error)["error"],
    }


def count_of(targets: Iterable[Target], *outcomes: str) -> int:
    """How many targets have one of these outcomes."""
    return sum(target.outcome in outcomes for target in targets)
