"""Answers about this process change nothing, and hide nothing that is not as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent import children, intake, underway
from zdpatch.agent.lifecycle import ACTIVE, WANTED_IN
from zdpatch.agent.protocol import (
    PROTOCOL,
    Held,
    HelloResult,
    PatchRow,
    StatusResult,
)
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Wanted
    from zdpatch.agent.protocol import AgentState, History, HistoryResult, Status


def hello(here: Here) -> HelloResult:
    """Who is here, in numbers."""
    with here.journal.read() as ledger:
        floor, held = ledger.floor(), ledger.held()
    return HelloResult(
        protocol=PROTOCOL,
        trusted=here.verifier.doubt(here.clock.wall()) is None,
        held=held is not None or here.no_apply,
        floor=floor,
        patches=len(here.active()),
    )


def state(here: Here) -> AgentState:
    """ "ready", "held", or "off" when the journal cannot be read."""
    try:
        with here.journal.read() as ledger:
            held = ledger.held()
    except ZdpatchError:
        return "off"
    return "held" if held is not None or here.no_apply else "ready"


def status(here: Here, header: Status) -> StatusResult:
    """Every patch of this release as this process has it."""
    with here.journal.read() as ledger:
        wanted, held, known = ledger.wanted(), ledger.held(), ledger.pids()
    afresh = children.spawned(known) if here.active() else []
    if here.no_apply:
        held = Held("ZDPATCH=no-apply", "set in the environment of this process", 0.0)
    damaged = [(each.patch, each.path) for each in here.engine.damaged()]
    set_back = here.engine.set_back()
    rows = [
        msgspec.structs.replace(
            _row(here, patch, detail=header.detail),
            set_back=set_back.get(patch.id, []) if here.runs(patch.digest) else [],
            damaged=[path for one, path in damaged if one == patch.id and here.runs(patch.digest)],
        )
        for patch in wanted
    ]
    words = children.not_covered(afresh) if here.active() else ""
    warnings = [*here.notices, *_warnings(here, wanted), *([words] if words else [])]
    return StatusResult(rows, held, warnings, afresh)


def history(here: Here, header: History) -> HistoryResult:
    """The newest transitions; or the newest audit rows, and whether the whole chain holds."""
    with here.journal.read() as ledger:
        return ledger.history(header)


def _row(here: Here, patch: Wanted, *, detail: bool) -> PatchRow:
    mine = here.mine.get(patch.digest)
    since, until, reason = patch.since, patch.until, patch.reason
    if mine is not None:
        since, until, reason = mine.since, mine.until, mine.reason
        if mine.state == patch.state == "trial" and not mine.overdue:
            until = max(until or 0, patch.until or 0)
    elif patch.state in WANTED_IN:
        until, reason = None, "wanted, and not in this process"
    runs, way = here.runs(patch.digest), underway.of(here, patch.digest)
    return PatchRow(
        id=patch.id,
        digest=patch.digest,
        seq=patch.seq,
        state=here.state_of(patch),
        since=since,
        until=until,
        wanted=patch.state,
        fixes=patch.facts.fixes,
        origin=patch.facts.origin,
        modules=patch.facts.modules,
        signed_by=patch.facts.signed_by,
        reason=reason,
        outstanding=dict(here.outstanding(runs)) if detail and runs is not None else {},
        left=here.engine.left(patch.id) if detail and mine is not None else None,
        notices=list(runs.notices) if detail and runs is not None else [],
        overdue=runs is not None and runs.overdue,
        doubt="" if runs is None else _doubt(here, patch),
        not_after=None if runs is None else runs.not_after,
        way=None if way is None else way.told,
    )


def _doubt(here: Here, patch: Wanted) -> str:
    """A bundle, or its key, may have been revoked since it came in."""
    try:
        intake.still_trusted(here, patch)
    except ZdpatchError as error:
        return str(error)
    return ""


def _warnings(here: Here, wanted: list[Wanted]) -> Iterator[str]:
    doubt = here.verifier.doubt(here.clock.wall())
    if doubt is not None:
        yield f"nothing can be pushed here: {doubt.cause}"
    elif soon := here.verifier.ends_soon(here.clock.wall()):
        yield soon
    for patch in wanted:
        mine = here.mine.get(patch.digest)
        runs = mine is not None and mine.state in ACTIVE
        if runs and patch.state not in WANTED_IN:
            yield f"{patch.id} runs in this process, and is {patch.state} for the application"
        elif mine is None and patch.state in WANTED_IN:
            yield f"{patch.id} is {patch.state} for the application, and not in this process"
