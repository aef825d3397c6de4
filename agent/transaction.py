"""A patch comes in or goes out whole: intent on disk, one flip, outcome on disk.

Killed before the flip, a restart finds the intent and does it; an undo is wanted from the moment
its intent is on disk. A flip that fails leaves process and journal as they were.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent import intake, owed, retreat
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.protocol import ApplyResult, ConfirmResult, RevertResult
from zdpatch.patcher.adoption import Adoption
from zdpatch.patcher.errors import OperatorError, ProcessError, Refused, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.engine import Planned, Undone
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger, Wanted
    from zdpatch.agent.lifecycle import State
    from zdpatch.agent.protocol import Apply, Confirm, Revert


def apply(here: Here, header: Apply, by: Actor) -> ApplyResult:
    """Bring a staged patch in; again, the same answer. Raises Refused, ProcessError, ZDP-301."""
    owed.settle(here)
    mine = here.runs(header.digest)
    if mine is None:
        mine = _bring_in(here, header, by)
    if header.confirm and mine.state == "trial":
        _confirm(here, mine, by)
    return _answer(here, mine)


def confirm(here: Here, header: Confirm, by: Actor) -> ConfirmResult:
    """End the trial of a patch that runs here.

    Raises ProcessError ZDP-212, ZDP-213, ZDP-303, and what `Verifier.reverify` raises: a bundle
    revoked since is not kept.
    """
    owed.settle(here)
    with here.journal.read() as ledger:
        patch = intake.find(ledger, header.patch)
    mine = here.runs(patch.digest)
    if mine is None:
        raise ProcessError("ZDP-213", f"{patch.id} does not run here: it is {patch.state}")
    if mine.state == "trial":
        intake.still_trusted(here, patch)
        _confirm(here, mine, by)
    return ConfirmResult(patch.digest, patch.id, mine.state)


def revert(here: Here, header: Revert, by: Actor) -> RevertResult:
    """Take a patch out, and want it out. Raises ProcessError ZDP-209, ZDP-212, nothing changed."""
    owed.settle(here)
    with here.journal.read() as ledger:
        patch = intake.find(ledger, header.patch)
    mine = here.runs(patch.digest)
    if mine is None:
        return _want_out(here, patch, by)
    undone = take_out(here, mine, by=by, verb="revert", reason="")
    return RevertResult(
        patch.digest, patch.id, mine.state, undone.flip_us, dict(undone.born_on_trial)
    )


def _bring_in(here: Here, header: Apply, by: Actor) -> Mine:
    patch, bundle = intake.load(here, header.digest)
    intake.check_allowed(here, patch)
    adoption = Adoption(frozenset(header.adopt), frozenset(header.replace))
    try:
        plan = here.engine.plan(bundle.patch(), drain_s=here.settings.drain_s, adoption=adoption)
    except Refused as refusal:
        _refuse(here, patch, refusal, by)
        raise
    until = here.clock.wall() + (header.trial_s or here.settings.trial_s)
    mine = Mine(patch, "applying", here.clock.wall(), until, reason=header.reason)
    with here.journal.write("apply.intent") as ledger:
        _intend(here, ledger, mine, by, adoption)
    return flip(here, mine, plan, by=by, verb="apply", confirm=header.confirm)


def _refuse(here: Here, patch: Wanted, refusal: Refused, by: Actor) -> None:
    """Keep the reason for status, unless the patch is wanted for other processes."""
    with here.journal.write("apply.outcome") as ledger:
        now = ledger.find(patch.digest)
        if now is not None and now.state == "staged":
            ledger.want(now, "refused", until=None, reason=refusal.cause, by=by)


def _intend(here: Here, ledger: Ledger, mine: Mine, by: Actor, adoption: Adoption) -> None:
    """Where another process has the patch already, what is wanted stays wanted."""
    now = ledger.find(mine.patch.digest)
    assert now is not None
    words = {"adopted": sorted(adoption.adopt), "replaced": sorted(adoption.replace)}
    if now.state in ("trial", "confirmed"):
        words["adopted"] = sorted({*words["adopted"], *now.facts.adopted})
        words["replaced"] = sorted({*words["replaced"], *now.facts.replaced})
    now = replace(now, facts=msgspec.structs.replace(now.facts, **words))
    ledger.add(now)  # a process that starts later is told the same
    mine.patch = now
    ledger.learn(now.digest, now.seq)
    if now.state not in ("trial", "confirmed"):
        ledger.take_place(now.digest)
        ledger.want(now, "applying", until=mine.until, reason=mine.reason, by=by)
    elif now.state == "trial":
        until = max(now.until or 0, mine.until or 0)
        ledger.want(now, "trial", until=until, reason=mine.reason, by=by)
    here.write(ledger, mine, None, by)
    said = [f"{word} {', '.join(paths)}" for word, paths in words.items() if paths]
    ledger.note(by, "apply", "begun", patch=now, detail="; ".join([mine.reason, *said]).strip("; "))


def flip(  # noqa: PLR0913 - what, who, why
    here: Here,
    mine: Mine,
    plan: Planned,
    *,
    by: Actor = SYSTEM,
    verb: str = "replay",
    confirm: bool = False,
) -> Mine:
    """The point of no return, between intent and outcome. `verb` is "apply" or "replay".

    With `confirm` the outcome ends the trial at once, unless the patch is not wanted any more.
    """
    try:
        done = here.engine.apply(plan)
    except Exception as error:
        if not retreat.give_up(here, mine, by, verb, error) and isinstance(error, ZdpatchError):
            error.state = f"{mine.patch.id} is not in this process. {retreat.COMING}"
        raise
    here.gate(f"{verb}.flipped")
    mine.flip_us, mine.functions, mine.notices = done.flip_us, done.functions, done.notices
    try:
        with here.journal.write(f"{verb}.outcome") as ledger:
            _arrive(here, ledger, mine, by, verb, confirm=confirm)
    except OperatorError as error:
        raise retreat.put_back(here, mine, error) from error
    here.mine[mine.patch.digest] = mine
    here.moved(mine.patch.id)
    LOG.info("%s is in (%s), %d functions", mine.patch.id, mine.state, mine.functions)
    return mine


def _arrive(  # noqa: PLR0913 - what, who, why
    here: Here, ledger: Ledger, mine: Mine, by: Actor, verb: str, *, confirm: bool
) -> None:
    now = ledger.find(mine.patch.digest)
    assert now is not None
    until = None if confirm and now.state in WANTED_IN else mine.until
    had = become(mine, "confirmed" if until is None else "trial", ledger.now, mine.reason)
    mine.until, mine.deadline = until, here.deadline_in(until)
    if confirm and until is None:
        ledger.want(now, "confirmed", until=None, reason=mine.reason, by=by)
    elif now.state == "applying":
        ledger.want(now, "trial", until=until, reason=mine.reason, by=by)
    here.write(ledger, mine, had, by)
    ledger.note(by, verb, "ok", patch=now, detail=f"{mine.functions} functions")
    if confirm and until is None:
        ledger.note(by, "confirm", "ok", patch=now)


def _confirm(here: Here, mine: Mine, by: Actor) -> None:
    with here.journal.write("confirm") as ledger:
        now = ledger.find(mine.patch.digest)
        assert now is not None
        if now.state == "quarantined":
            raise ProcessError("ZDP-303", f"{now.id}: {now.reason}", next="zdpatch build")
        if now.state not in ("trial", "confirmed"):
            raise ProcessError(
                "ZDP-213", f"{now.id} was {now.state} for the application: {now.reason}"
            )
        ledger.want(now, "confirmed", until=None, reason=now.reason, by=by)
        became = Mine(now, "confirmed", ledger.now, reason=mine.reason)
        here.write(ledger, became, mine.state, by)
        ledger.note(by, "confirm", "ok", patch=now)
    become(mine, "confirmed", became.since, mine.reason)
    LOG.info("%s is confirmed", mine.patch.id)


def _want_out(here: Here, patch: Wanted, by: Actor) -> RevertResult:
    """The patch does not run here; a process that starts later must not bring it back."""
    state: State = "staged" if patch.state == "staged" else "reverted"
    if patch.state != state or patch.digest in here.mine:
        with here.journal.write("revert.intent") as ledger:
            now = ledger.find(patch.digest)
            assert now is not None
            if now.state not in ("staged", "reverted"):
                ledger.want(now, "reverted", until=None, reason="", by=by)
            ledger.lose(patch.digest)
            ledger.note(by, "revert", "ok", patch=now, detail="it did not run here")
        here.mine.pop(patch.digest, None)
    return RevertResult(patch.digest, patch.id, state, 0.0, {})


def take_out(here: Here, mine: Mine, *, by: Actor, verb: str, reason: str) -> Undone:
    """Undo a patch that runs here. `verb` is "revert" or "expire". Raises ProcessError ZDP-209."""
    with here.journal.write(f"{verb}.intent") as ledger:
        before = ledger.find(mine.patch.digest)
        assert before is not None
        # at the end of one process's trial another one may have time left
        late = before.until is None or before.until <= ledger.now + 1
        if before.state in ("applying", "trial", "confirmed") and (verb == "revert" or late):
            ledger.want(before, "reverted", until=None, reason=reason, by=by)
        ledger.note(by, verb, "begun", patch=before, detail=reason)
    return _undo(here, mine, by=by, verb=verb, reason=reason, before=before)


def follow(here: Here, mine: Mine, reason: str) -> bool:
    """Take out what is not wanted any more; False when it is wanted again. Raises as `take_out`."""
    with here.journal.write("revert.intent") as ledger:
        now = ledger.find(mine.patch.digest)
        if now is None or now.state in WANTED_IN:
            return False
        ledger.note(SYSTEM, "revert", "begun", patch=now, detail=reason)
    _undo(here, mine, by=SYSTEM, verb="revert", reason=reason, before=None)
    return True


def _undo(  # noqa: PLR0913 - who, what, why, and the way back
    here: Here, mine: Mine, *, by: Actor, verb: str, reason: str, before: Wanted | None
) -> Undone:
    """The flip between intent and outcome; one that fails leaves wanted what was `before`."""
    try:
        undone = here.engine.revert(mine.patch.id)
    except Exception as error:
        code = error.code if isinstance(error, ZdpatchError) else "ZDP-901"
        with here.journal.write(f"{verb}.outcome") as ledger:
            if before is not None:
                ledger.restore(before)
            ledger.note(by, verb, code, patch=mine.patch, detail=str(error))
        raise
    here.gate(f"{verb}.flipped")
    had = become(mine, "reverted", here.clock.wall(), reason)
    here.moved(mine.patch.id)
    LOG.info("%s is out", mine.patch.id)
    _record_exit(here, mine, had, by, verb)
    return undone


def _record_exit(here: Here, mine: Mine, had: State, by: Actor, verb: str) -> None:
    def write(ledger: Ledger) -> None:
        here.write(ledger, mine, had, by)
        outcome = "ZDP-501" if verb == "expire" else "ok"
        ledger.note(by, verb, outcome, patch=mine.patch, detail=mine.reason)

    try:
        owed.record(here, mine.patch.digest, f"{verb}.outcome", write)
    except OperatorError as error:
        raise OperatorError(
            error.code,
            error.cause,
            state=f"{mine.patch.id} is out of this process, and wanted out in the journal.",
            next=error.next,
        ) from error


def expire(here: Here) -> None:
    """Revert every trial whose time is over, unless it was confirmed for the application."""
    for mine in list(here.mine.values()):
        due = mine.deadline is not None and mine.deadline <= here.clock.steady()
        if mine.state == "trial" and due:
            _expire(here, mine)


def _expire(here: Here, mine: Mine) -> None:
    # set first: whatever fails below is tried again, not at once and not never
    mine.deadline = here.clock.steady() + here.settings.trial_retry_s
    with here.journal.read() as ledger:
        now = ledger.find(mine.patch.digest)
    if now is not None and now.state == "confirmed":
        _confirm(here, mine, SYSTEM)
        return
    try:
        take_out(here, mine, by=SYSTEM, verb="expire", reason="nobody confirmed it in time")
    except ZdpatchError as error:
        if mine.state == "trial":
            mine.reason = f"its trial is over and it cannot be taken out: {error.cause}"
            here.say(f"{mine.patch.id}: {mine.reason}", mine.patch.id)
            return
    here.say(f"{mine.patch.id} was reverted: nobody confirmed it in time", mine.patch.id)


def end_trials(here: Here) -> None:
    """Take out what is on trial in this process; other processes keep theirs."""
    with here.lock:
        for mine in list(here.mine.values()):
            if mine.state == "trial":
                reason = "the agent was stopped during its trial"
                try:
                    take_out(here, mine, by=SYSTEM, verb="expire", reason=reason)
                except ZdpatchError as error:
                    here.say(f"{mine.patch.id} stays in, unconfirmed: {error.cause}", mine.patch.id)


def next_deadline(here: Here) -> float | None:
    """When `expire` has something to do, on the steady clock."""
    ends = [mine.deadline for mine in here.mine.values() if mine.deadline is not None]
    return min(ends, default=None)


def _answer(here: Here, mine: Mine) -> ApplyResult:
    return ApplyResult(
        digest=mine.patch.digest,
        id=mine.patch.id,
        state=mine.state,
        until=mine.until,
        flip_us=mine.flip_us,
        functions=mine.functions,
        outstanding=dict(here.outstanding(mine)),
        notices=list(mine.notices),
    )
