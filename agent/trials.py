"""A trial ends one way or the other: somebody keeps the patch in time, or it goes out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.agent import intake, owed, relief, underway, undo
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.protocol import ConfirmResult
from zdpatch.patcher.errors import ProcessError, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Wanted
    from zdpatch.agent.protocol import Confirm
    from zdpatch.patcher.trust import VerifiedBundle


def confirm(here: Here, header: Confirm, by: Actor) -> ConfirmResult:
    """End the trial of a patch that runs here.

    Raises ProcessError ZDP-212, ZDP-213, and as `keep`.
    """
    owed.settle(here)
    with here.journal.read() as ledger:
        patch = intake.find(ledger, header.patch)
    mine = here.runs(patch.digest)
    if mine is None:
        raise ProcessError("ZDP-213", f"{patch.id} does not run here: it is {patch.state}")
    if mine.state == "trial":
        keep(here, mine, by)
    else:
        _keep_elsewhere(here, patch, by)
    return ConfirmResult(patch.digest, patch.id, mine.state)


def keep(here: Here, mine: Mine, by: Actor) -> None:
    """What is on trial here stays, if it is trusted still and its time was not over.

    Raises ProcessError ZDP-204, ZDP-303, ZDP-501, and what `Verifier.reverify` raises.
    """
    with here.journal.read() as ledger:
        now = ledger.find(mine.patch.digest)
    assert now is not None
    _check_time(mine, now)
    check_stands(here, intake.still_trusted(here, now))
    _confirm(here, mine, by)


def prolong(here: Here, mine: Mine, trial_s: float, by: Actor) -> None:
    """A trial, of this process and of the application, ends in `trial_s` seconds at the earliest.

    Raises ProcessError ZDP-501 when it is over.
    """
    with here.journal.write("apply.outcome") as ledger:
        now = ledger.find(mine.patch.digest)
        assert now is not None
        _check_time(mine, now)
        if now.state != "trial":
            return  # confirmed or taken out meanwhile: this process follows
        until = max(ledger.now + trial_s, now.until or 0, mine.until or 0)
        ledger.want(now, "trial", until=until, reason=now.reason, by=by)
        here.write(ledger, replace(mine, until=until), mine.state, by)
        ledger.note(by, "apply", "ok", patch=now, detail=f"on trial for {trial_s:.0f} s from now")
    if until != mine.until:
        mine.until, mine.deadline = until, here.deadline_in(until)


def _check_time(mine: Mine, now: Wanted) -> None:
    """Raises ProcessError ZDP-501 for a trial that is over."""
    if mine.overdue and now.state != "confirmed":
        raise ProcessError(
            "ZDP-501",
            f"{now.id}: {mine.reason}",
            state=f"{now.id} is in this process, and its undo is tried again.",
            next=f"zdpatch rollback {now.id}",
        )


def _keep_elsewhere(here: Here, patch: Wanted, by: Actor) -> None:
    """It is confirmed here already, and on trial in a release of which no process runs."""
    with here.journal.read() as ledger:
        elsewhere = ledger.asleep_with(patch.digest)
    if elsewhere:
        intake.still_trusted(here, patch)
        with here.journal.write("confirm") as ledger:
            ledger.want_elsewhere(patch.digest, "confirmed", by)


def check_stands(here: Here, bundle: VerifiedBundle) -> None:
    """What stays must not stand on what may go. Raises ProcessError ZDP-204."""
    patch = bundle.patch()
    below = frozenset(here.engine.below(patch))
    for mine in here.mine.values():
        if mine.patch.id in below and mine.state == "trial":
            raise ProcessError(
                "ZDP-204",
                f"{patch.id} stands on {mine.patch.id}, which is on trial",
                next=f"zdpatch confirm {mine.patch.id}",
            )


def _confirm(here: Here, mine: Mine, by: Actor) -> None:
    with here.journal.write("confirm") as ledger:
        now = ledger.find(mine.patch.digest)
        assert now is not None
        if now.state == "quarantined":
            raise ProcessError(
                "ZDP-303", f"{now.id}: {now.reason}", next=f"zdpatch rollback {now.id}"
            )
        if now.state not in ("trial", "confirmed"):
            raise ProcessError(
                "ZDP-213", f"{now.id} was {now.state} for the application: {now.reason}"
            )
        ledger.want(now, "confirmed", until=None, reason=now.reason, by=by)
        became = Mine(now, "confirmed", ledger.now, reason=now.reason)
        here.write(ledger, became, mine.state, by)
        ledger.want_elsewhere(now.digest, "confirmed", by)
        ledger.note(by, "confirm", "ok", patch=now)
    become(mine, "confirmed", became.since, now.reason)
    here.moved(now.id)
    LOG.info("%s is confirmed", now.id)


def expire(here: Here) -> None:
    """Revert every trial whose time is over, unless it was confirmed for the application."""
    for mine in list(here.mine.values()):
        due = mine.deadline is not None and mine.deadline <= here.clock.steady()
        if mine.state == "trial" and due:
            _expire(here, mine)


def _expire(here: Here, mine: Mine) -> None:
    due = mine.deadline or 0.0
    # set first: whatever fails below is tried again, not at once and not never
    mine.deadline = here.clock.steady() + here.settings.trial_retry_s
    now = _as_wanted(here, mine)
    longer = _longer(mine, now)
    if now is not None and longer > 0:
        mine.until, mine.deadline = now.until, due + longer
        return
    if now is not None and now.state == "confirmed":
        follow(here, mine)
        return
    try:
        undo.take_out(here, mine, by=SYSTEM, verb="expire", reason="nobody confirmed it in time")
    except ZdpatchError as error:
        if mine.state == "trial":
            mine.overdue = True
            mine.reason = f"its trial is over and it cannot be taken out: {error.cause}"
            here.say(f"{mine.patch.id}: {mine.reason}", mine.patch.id)
            relief.wanted(f"{mine.patch.id}: {mine.reason}")
            return
    here.say(f"{mine.patch.id} was reverted: nobody confirmed it in time", mine.patch.id)


def follow(here: Here, mine: Mine) -> None:
    """What was confirmed for the application through another process is confirmed here."""
    try:
        _confirm(here, mine, SYSTEM)
    except ZdpatchError as error:
        LOG.error("%s is confirmed, and that cannot be written: %s", mine.patch.id, error)


def _longer(mine: Mine, now: Wanted | None) -> float:
    """Seconds by which the application's trial was made longer than that of this process.

    A difference of two times of the day that were written down: a clock that is set changes none.
    """
    if now is None or now.state != "trial" or now.until is None or mine.until is None:
        return 0.0
    return now.until - mine.until


def _as_wanted(here: Here, mine: Mine) -> Wanted | None:
    """The patch as the application wants it; None when the journal cannot be read."""
    try:
        with here.journal.read() as ledger:
            now = ledger.find(mine.patch.digest)
    except ZdpatchError as error:
        LOG.error("whether %s was confirmed cannot be read: %s", mine.patch.id, error)
        return None
    return now


def end_trials(here: Here) -> None:
    """Take out what is on trial in this process, or on its way; other processes keep theirs."""
    with here.lock:
        _end_way(here)
        for mine in list(here.mine.values()):
            if mine.state == "trial":
                reason = "the agent was stopped during its trial"
                try:
                    undo.take_out(here, mine, by=SYSTEM, verb="expire", reason=reason, over=False)
                except ZdpatchError as error:
                    here.say(f"{mine.patch.id} stays in, unconfirmed: {error.cause}", mine.patch.id)


def _end_way(here: Here) -> None:
    way = here.way
    if way is None:
        return
    try:
        if way.entered.leaves:
            underway.go_on(here)
        else:
            error = ProcessError("ZDP-205", "the agent was stopped on its way")
            underway.go_back(here, error, at_once=True)
    except ZdpatchError as error:
        here.say(f"{way.mine.patch.id} stays on its way: {error.cause}", way.mine.patch.id)


def next_deadline(here: Here) -> float | None:
    """When `expire` has something to do, on the steady clock."""
    ends = [mine.deadline for mine in here.mine.values() if mine.deadline is not None]
    return min(ends, default=None)
