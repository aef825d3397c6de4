"""A patch comes in whole: intent on disk, one flip, outcome on disk.

Killed before the flip, a restart finds the intent and does it; so it does when a patch was on its
way, consistently. A flip that fails leaves process and journal as they were.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent import intake, owed, retreat, trials, underway
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.preflight import preflight
from zdpatch.agent.protocol import ApplyResult, Consistently
from zdpatch.patcher.adoption import Adoption
from zdpatch.patcher.errors import OperatorError, Refused, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.engine import Flipped, Planned
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger, Wanted
    from zdpatch.agent.protocol import Apply
    from zdpatch.patcher.trust import VerifiedBundle


def apply(here: Here, header: Apply, by: Actor) -> ApplyResult:
    """Bring a staged patch in; again, the same answer, but that a trial lasts `trial_s` from now at
    least. Raises Refused, ProcessError, ZDP-301."""
    owed.settle(here)
    if underway.of(here, header.digest) is not None:
        return _answer(here, here.mine[header.digest])
    mine = here.runs(header.digest)
    if mine is None:
        mine = _bring_in(here, header, by)
    elif header.trial_s is not None and mine.state == "trial" and not header.confirm:
        trials.prolong(here, mine, header.trial_s, by)
    if header.confirm and mine.state == "trial":
        trials.keep(here, mine, by)
    return _answer(here, mine)


def _bring_in(here: Here, header: Apply, by: Actor) -> Mine:
    patch, bundle = intake.load(here, header.digest)
    intake.check_allowed(here, patch)
    if header.confirm:
        trials.check_stands(here, bundle)
    adoption = Adoption(frozenset(header.adopt), frozenset(header.replace))
    wish = _wish(header, bundle)
    try:
        # on the way there is time for calls to end: it has a limit of its own
        drain_s = here.settings.drain_s if wish is None else None
        plan = here.engine.plan(bundle.patch(), drain_s=drain_s, adoption=adoption)
        preflight(here, bundle)
    except Refused as refusal:
        _refuse(here, patch, refusal, by)
        raise
    until = here.clock.wall() + (header.trial_s or here.settings.trial_s)
    if wish is not None:
        until += wish.limit_s or here.settings.consistent_s
    mine = Mine(patch, "applying", here.clock.wall(), until, reason=header.reason)
    mine.not_after = bundle.manifest.not_after
    with here.journal.write("apply.intent") as ledger:
        _intend(here, ledger, mine, by, adoption)
    if wish is not None:
        return _set_off(here, mine, plan, wish, by=by, confirm=header.confirm)
    return flip(here, mine, plan, by=by, verb="apply", confirm=header.confirm)


def _wish(header: Apply, bundle: VerifiedBundle) -> Consistently | None:
    """How it goes in, when not at one instant: as its author says, but where the operator does."""
    asked, said = bundle.manifest.consistent, header.consistent
    if asked is None:
        return said
    said = said or Consistently()
    return Consistently(said.limit_s or asked.limit_s, said.on_limit or asked.on_limit)


def _set_off(  # noqa: PLR0913 - what, how, who
    here: Here, mine: Mine, plan: Planned, wish: Consistently, *, by: Actor, confirm: bool
) -> Mine:
    """Between intent and outcome time passes: the patch is "applying" meanwhile."""

    def back(error: ZdpatchError) -> None:
        del here.mine[mine.patch.digest]
        mine.patch = replace(mine.patch, reason=str(error))
        retreat.give_up(here, mine, by, "apply", error)
        here.say(f"{mine.patch.id} did not come in: {error}", mine.patch.id)

    try:
        entered = here.engine.begin(plan)
    except Exception as error:
        if not retreat.give_up(here, mine, by, "apply", error) and isinstance(error, ZdpatchError):
            error.state = f"{mine.patch.id} is not in this process. {retreat.COMING}"
        raise
    here.gate("apply.entered")
    here.mine[mine.patch.digest] = mine

    def arrive(done: Flipped) -> None:
        _arrived(here, mine, done, by=by, verb="apply", confirm=confirm)

    underway.set_off(here, mine, entered, wish, arrive=arrive, back=back)
    return mine


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
        mine.until = max(now.until or 0, mine.until or 0)
        ledger.want(now, "trial", until=mine.until, reason=mine.reason, by=by)
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
        if mine.patch.id in here.active():
            retreat.stays(here, mine, str(error))
            raise
        if not retreat.give_up(here, mine, by, verb, error) and isinstance(error, ZdpatchError):
            error.state = f"{mine.patch.id} is not in this process. {retreat.COMING}"
        raise
    return _arrived(here, mine, done, by=by, verb=verb, confirm=confirm)


def _arrived(  # noqa: PLR0913 - as `flip`
    here: Here, mine: Mine, done: Flipped, *, by: Actor, verb: str, confirm: bool
) -> Mine:
    """The outcome of a flip. Raises OperatorError ZDP-301, as `retreat.put_back` says."""
    here.mine.pop(mine.patch.digest, None)
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
    kept = now.state == "confirmed"  # for the application, and so in each of its processes
    until = None if kept or (confirm and now.state in WANTED_IN) else mine.until
    had = become(mine, "confirmed" if until is None else "trial", ledger.now, mine.reason)
    mine.until, mine.deadline = until, here.deadline_in(until)
    if confirm and until is None:
        ledger.want(now, "confirmed", until=None, reason=mine.reason, by=by)
        ledger.want_elsewhere(now.digest, "confirmed", by)
    elif now.state == "applying":
        ledger.want(now, "trial", until=until, reason=mine.reason, by=by)
    here.write(ledger, mine, had, by)
    ledger.note(by, verb, "ok", patch=now, detail=f"{mine.functions} functions")
    if confirm and until is None:
        ledger.note(by, "confirm", "ok", patch=now)


def _answer(here: Here, mine: Mine) -> ApplyResult:
    way = underway.of(here, mine.patch.digest)
    return ApplyResult(
        digest=mine.patch.digest,
        id=mine.patch.id,
        state=mine.state,
        until=mine.until,
        flip_us=mine.flip_us,
        functions=mine.functions,
        outstanding=dict(here.outstanding(mine)),
        notices=list(mine.notices),
        way=None if way is None else way.told,
    )
