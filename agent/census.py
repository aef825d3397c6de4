"""A process that died counts once: against the patch it had on trial, and never again.

Runs inside the transaction with which a process enters the journal: it clears away the rows of dead
processes, quarantines what crashed too often, and takes over from the release that ran before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from zdpatch.agent.identity import life
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.told import file_of, forget, was_told

if TYPE_CHECKING:
    from pathlib import Path

    from zdpatch.agent.config import Settings
    from zdpatch.agent.identity import Identity, ProcessKey
    from zdpatch.agent.ledger import Ledger, Process, Wanted

_CARRIED: Final = frozenset({*WANTED_IN, "reverted", "quarantined"})


class Notice(NamedTuple):
    """A plain sentence; `about` is a patch whose next way in or out makes it untrue."""

    sentence: str
    about: str = ""


def enter(
    ledger: Ledger,
    me: Identity,
    settings: Settings,
    app_dir: Path,
    parent: ProcessKey | None = None,
) -> list[Notice]:
    """Enter this process; what that brought to light.

    `app_dir` holds what the processes were told. A `parent` that is gone went into the background:
    this process goes on for it.
    """
    notices: list[Notice] = []
    alone, crashed = True, set[str]()
    for process in ledger.processes():
        if _lives(process, ledger.now, me, settings):
            alone = alone and process.release != me.release
            continue
        file = file_of(app_dir, process.key)
        excused = process.key == parent or was_told(file)
        if process.release == me.release and not excused:
            crashed |= _on_trial(ledger, process, me)
        if process.key != me.key:
            forget(file)
        ledger.drop_process(process.key)
    for digest in sorted(crashed):
        notices += _count(ledger, digest, settings)
    if alone:
        notices += _take_over(ledger)
    ledger.add_process()
    return notices


def _lives(process: Process, now: float, me: Identity, settings: Settings) -> bool:
    if process.key == me.key:
        return False
    seen = life(process.key, me.key)
    # another pid namespace may hold a process that runs; its rows are kept for a while
    return seen == "alive" or (seen == "unknown" and now - process.since < settings.foreign_row_s)


def _on_trial(ledger: Ledger, process: Process, me: Identity) -> set[str]:
    # a reboot ends every process and says nothing about the patch
    if process.key == me.key or process.key.boot != me.key.boot:
        return set()
    states = ledger.states_of(process.key)
    return {digest for digest, state in states.items() if state in ("applying", "trial")}


def _count(ledger: Ledger, digest: str, settings: Settings) -> list[Notice]:
    patch = ledger.find(digest)
    if patch is None or patch.state not in WANTED_IN:
        return []
    crashes = ledger.count_crash(patch)
    if crashes < settings.crash_limit:
        told = f"{patch.id}: a process ended without a word while it had it on trial ({crashes})"
        return [Notice(told)]
    reason = f"{crashes} processes ended without a word while they had it on trial"
    ledger.want(patch, "quarantined", until=None, reason=reason, by=SYSTEM)
    ledger.note(SYSTEM, "quarantine", "ZDP-303", patch=patch, detail=reason)
    return [Notice(f"{patch.id} is quarantined: {reason}", patch.id)]


def _take_over(ledger: Ledger) -> list[Notice]:
    """Nobody runs this release, so what was decided since under another one is the truth."""
    before = ledger.release_before()
    if before is None:
        return []
    notices: list[Notice] = []
    for theirs in ledger.wanted(before):
        mine = ledger.find(theirs.digest)
        newer = mine is None or mine.since < theirs.since
        # what a release lost by itself, by silence or by crashes, is no word about another one
        kept = mine is not None and mine.state == "confirmed" and theirs.state not in WANTED_IN
        if kept and not ledger.decided_by_people(theirs, before):
            continue
        if theirs.state in _CARRIED and newer:
            notices.append(_carry(ledger, theirs, mine, before))
    return notices


def _carry(ledger: Ledger, theirs: Wanted, mine: Wanted | None, before: str) -> Notice:
    reason = f"taken over from release {before}"
    ledger.add(replace(theirs, place=0, crashes=0))
    ledger.take_place(theirs.digest)
    ledger.log_move(theirs, "staged" if mine is None else mine.state, theirs.state, reason, SYSTEM)
    ledger.note(SYSTEM, "carry", "ok", patch=theirs, detail=f"{theirs.state}, {reason}")
    return Notice(f"{theirs.id} ({theirs.state}) {reason}")
