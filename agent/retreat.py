"""A patch that cannot come in leaves process and journal as they were, or it is said what is so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zdpatch.agent import owed
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.patcher.errors import OperatorError, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger
    from zdpatch.agent.lifecycle import State

COMING: Final = (
    "The journal says that it is coming in, until there is room to correct that:"
    " a process that starts before brings it up, on trial."
)


def give_up(here: Here, mine: Mine, by: Actor, verb: str, error: Exception) -> bool:
    """The flip changed nothing; the journal goes back to what it said before, False: later."""
    code = error.code if isinstance(error, ZdpatchError) else "ZDP-901"
    before = mine.patch
    if verb == "apply" and before.state == "applying":
        # another process was about to, as this one: whoever gives up last wants it no more
        before = replace(before, state="staged", until=None, reason="")

    def write(ledger: Ledger) -> None:
        ledger.lose(before.digest)
        now = ledger.find(before.digest)
        # what was decided meanwhile, through another process, stays
        goes_back = now is not None and now.state in ("applying", before.state)
        if goes_back and not ledger.others_have(before.digest):
            ledger.restore(before)
        without: State = "staged" if before.state in WANTED_IN else before.state
        ledger.log_move(before, "applying", without, str(error), by)
        ledger.note(by, verb, code, patch=before, detail=str(error))

    try:
        owed.record(here, before.digest, f"{verb}.outcome", write)
    except OperatorError as failure:
        LOG.error("the journal still says that %s is coming in: %s", before.id, failure)
        return False
    return True


def put_back(here: Here, mine: Mine, error: OperatorError) -> ZdpatchError:
    """The outcome cannot be recorded, so the patch must not stay."""
    mine.state = "applying"
    try:
        here.engine.revert(mine.patch.id)
    except ZdpatchError as failure:
        state = f"{mine.patch.id} is in and could not be taken out: {failure.cause}"
        stays(here, mine, state)
        return OperatorError("ZDP-301", error.cause, state=state, next=error.next)
    state = f"{mine.patch.id} was taken out again."
    if not give_up(here, mine, SYSTEM, "apply", error):
        state = f"{state} {COMING}"
    return OperatorError("ZDP-301", error.cause, state=state, next=error.next)


def stays(here: Here, mine: Mine, reason: str) -> None:
    """What runs is said to run, and its undo is tried again as that of a trial that is over."""
    become(mine, "trial", here.clock.wall(), reason)
    mine.until = here.clock.wall() + here.settings.trial_retry_s
    mine.deadline = here.deadline_in(mine.until)
    here.mine[mine.patch.digest] = mine

    def write(ledger: Ledger) -> None:
        now = ledger.find(mine.patch.digest)
        if now is not None and now.state == "applying":
            ledger.want(now, "trial", until=mine.until, reason=reason, by=SYSTEM)
        here.write(ledger, mine, None, SYSTEM)

    here.owed[mine.patch.digest] = owed.Owed("apply.outcome", write)
