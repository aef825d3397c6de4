"""A process that starts comes up with what is wanted, each patch whole, or without it and says why.

Nothing that goes wrong here stops the application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent import census, intake, relief, transaction, trials, undo
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Wanted
    from zdpatch.agent.lifecycle import State
    from zdpatch.patcher.trust import VerifiedBundle

_REVOKED: Final = "ZDP-112"
_ELSEWHERE: Final = frozenset({"ZDP-107", "ZDP-108"})  # another release or another Python


def enter(here: Here) -> None:
    """Enter the journal with what this process has from its parent. Raises ZDP-301."""
    with here.journal.write("enter") as ledger:
        app_dir = here.journal.path.parent
        notices = census.enter(ledger, here.identity, here.settings, app_dir, here.parent)
        for mine in here.mine.values():
            here.write(ledger, mine, mine.state, SYSTEM)
    for notice in notices:
        here.say(notice.sentence, notice.about)


def undecided(here: Here) -> bool:
    """Whether a push has begun of which nobody knows yet what comes of it."""
    with here.journal.read() as ledger:
        return any(patch.state in {"staged", "applying"} for patch in ledger.wanted())


def agree(here: Here) -> bool:
    """Take out what runs here and is not wanted any more, and keep what was confirmed elsewhere;
    False when something had to stay.
    """
    with here.journal.read() as ledger:
        wanted = {patch.digest: patch for patch in ledger.wanted()}
    agreed = True
    for mine in [mine for mine in here.mine.values() if here.runs(mine.patch.digest)]:
        now = wanted.get(mine.patch.digest)
        if now is not None and now.state == "confirmed" and mine.state == "trial":
            trials.follow(here, mine)
        if now is None or now.state in WANTED_IN:
            continue
        try:
            if undo.follow(here, mine, f"{now.state} for the application"):
                here.say(
                    f"{mine.patch.id} was taken out: it is {now.state} for the application",
                    now.id,
                )
        except ZdpatchError as error:
            said = f"{mine.patch.id} is {now.state} and stays in this process: {error.cause}"
            here.say(said, now.id)
            relief.wanted(said)
            agreed = False
    return agreed


def bring_up(here: Here, limit_s: float | None) -> bool:
    """Apply what is wanted, in the order it was applied; False when `limit_s` was not enough."""
    if here.no_apply:
        return True
    end = None if limit_s is None else here.clock.steady() + limit_s
    with here.journal.read() as ledger:
        wanted = [patch for patch in ledger.wanted() if patch.state in WANTED_IN]
    for patch in wanted:
        if patch.digest in here.mine:
            continue
        if end is not None and here.clock.steady() >= end:
            here.say("the time for the replay is over; the rest comes in while the process serves")
            return False
        _bring_up(here, patch)
    return True


def _bring_up(here: Here, patch: Wanted) -> None:
    try:
        if patch.state != "confirmed" and (patch.until or 0) <= here.clock.wall():
            if _goes_on_elsewhere(here, patch):
                return
            _drop(here, patch, "ZDP-501", "its trial ended while no process had it")
            return
        bundle = _trusted(here, patch)
        if bundle is not None:
            _apply(here, patch, bundle)
    except ZdpatchError as error:
        settle(here, patch, "refused", f"{error.code}: {error.cause}", error.code)
    except Exception as error:  # noqa: BLE001 - the application comes first
        LOG.exception("%s was not brought up", patch.id)
        settle(here, patch, "refused", f"ZDP-901: {error!r}", "ZDP-901")


def _goes_on_elsewhere(here: Here, patch: Wanted) -> bool:
    """Whether a living process has it on trial still: its time is up when that one says so,
    whatever the clock of the day was set to.
    """
    with here.journal.read() as ledger:
        goes_on = ledger.others_have(patch.digest)
    if goes_on:
        here.say(f"{patch.id} is on trial elsewhere, and is not brought up here", patch.id)
    return goes_on


def _trusted(here: Here, patch: Wanted) -> VerifiedBundle | None:
    try:
        bundle = intake.still_trusted(here, patch)
    except ZdpatchError as error:
        if error.code == _REVOKED:
            _drop(here, patch, error.code, error.cause)
            return None
        if error.code in _ELSEWHERE:
            settle(here, patch, "superseded", error.cause, "ZDP-302")
            return None
        raise
    for warning in bundle.warnings:
        here.say(warning)
    return bundle


def _apply(here: Here, patch: Wanted, bundle: VerifiedBundle) -> None:
    change = bundle.patch()
    adoption = patch.facts.adoption
    standing = here.engine.standing(change, adoption, here.identity.started)
    if standing == "absorbed":
        settle(here, patch, "absorbed", "this release has the fix already", "ok")
        return
    if standing != "base":
        reason = (
            "this release changed what it fixes: the fix is NOT in, or not whole;"
            " ship it or build it anew"
        )
        settle(here, patch, "superseded", reason, "ZDP-302")
        return
    plan = here.engine.plan(change, drain_s=here.settings.drain_s, adoption=adoption)
    until = None if patch.state == "confirmed" else patch.until
    mine = Mine(patch, "applying", here.clock.wall(), until, reason=patch.reason)
    mine.not_after = bundle.manifest.not_after
    with here.journal.write("replay.intent") as ledger:
        here.write(ledger, mine, None, SYSTEM)
    transaction.flip(here, mine, plan)


def settle(here: Here, patch: Wanted, state: State, reason: str, outcome: str) -> None:
    """This process goes without the patch, though it is wanted; the next one looks again."""
    mine = here.mine.setdefault(patch.digest, Mine(patch, patch.state, here.clock.wall()))
    mine.reason = reason
    try:
        had = become(mine, state, here.clock.wall(), reason)
        with here.journal.write("replay.outcome") as ledger:
            here.write(ledger, mine, had, SYSTEM)
            ledger.note(SYSTEM, "replay", outcome, patch=patch, detail=f"{state}: {reason}")
    except ZdpatchError as error:
        LOG.error("%s: %s", patch.id, error)
    if state == "absorbed":
        LOG.info("%s is absorbed: %s", patch.id, reason)
    else:
        here.say(f"{patch.id} is {state}: {reason}", patch.id)


def _drop(here: Here, patch: Wanted, outcome: str, reason: str) -> None:
    """The patch is not wanted any more, for any process."""
    with here.journal.write("replay.outcome") as ledger:
        now = ledger.find(patch.digest)
        if now is not None and now.state in WANTED_IN:
            ledger.want(now, "reverted", until=None, reason=reason, by=SYSTEM)
            ledger.note(SYSTEM, "replay", outcome, patch=now, detail=reason)
    here.say(f"{patch.id} is not brought up: {reason}", patch.id)
