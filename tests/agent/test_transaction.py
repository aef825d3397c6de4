"""A patch comes in and goes out whole, and the journal says so before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.agent.conftest import ALICE, BASE, FIXED
from zdpatch.agent import answers, intake, relief, replay, trials, wanting
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.protocol import Plan, Stage, Status, Want
from zdpatch.patcher.errors import OperatorError, ProcessError, ZdpatchError

if TYPE_CHECKING:
    from tests.agent.conftest import Desk


def refused(code: str, call: Any, *args: Any, **kwargs: Any) -> ZdpatchError:  # noqa: ANN401
    """The error of a call that must be refused with `code`."""
    with pytest.raises(ZdpatchError) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    return caught.value


def test_apply_then_silence_reverts(desk: Desk) -> None:
    """A patch that nobody confirms goes out at its deadline, for process and application."""
    digest = desk.push(desk.fix(), trial_s=60)
    assert (desk.vat, desk.state(digest), desk.wanted(digest)) == (b"VAT = 2\n", "trial", "trial")
    desk.clock.tick(59)
    trials.expire(desk.here)
    assert desk.state(digest) == "trial"
    desk.clock.tick(1)
    trials.expire(desk.here)
    assert (desk.vat, desk.state(digest)) == (b"VAT = 1\n", "reverted")
    assert desk.wanted(digest) == "reverted"
    assert trials.next_deadline(desk.here) is None


def test_confirm_ends_the_trial(desk: Desk) -> None:
    """A confirmed patch outlives its deadline."""
    digest = desk.push(desk.fix())
    assert desk.confirm("fix-1") == "confirmed"
    assert desk.confirm(digest[:8]) == "confirmed"
    desk.clock.tick(10_000)
    trials.expire(desk.here)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 2\n", "confirmed")


def test_apply_and_confirm_at_once(desk: Desk) -> None:
    """Intent is always a trial: only what survived its flip is confirmed."""
    digest = desk.stage(desk.fix())
    seen: list[str] = []
    desk.gate.at["apply.flipped"] = lambda: seen.append(desk.wanted(digest))
    desk.apply(digest, confirm=True)
    assert seen == ["applying"]
    assert desk.wanted(digest) == "confirmed"


def test_apply_again_is_the_same_answer(desk: Desk) -> None:
    """Applying an active digest again answers the same and flips nothing."""
    digest = desk.stage(desk.fix())
    first = desk.apply(digest)
    desk.engine.fails = AssertionError("flipped twice")
    assert desk.apply(digest) == first


def test_a_trial_is_made_longer(desk: Desk) -> None:
    """For process and application, as of the order; never shorter, and never after its end."""
    raw = desk.fix()
    digest = desk.push(raw, trial_s=60)
    desk.clock.tick(50)
    assert desk.apply(digest, trial_s=30).until == pytest.approx(desk.clock.wall() + 30)
    desk.clock.tick(29)
    trials.expire(desk.here)
    assert (desk.state(digest), desk.wanted(digest)) == ("trial", "trial")
    assert desk.apply(digest, trial_s=600).until == desk.apply(digest, trial_s=5).until
    desk.clock.tick(599)
    trials.expire(desk.here)
    assert desk.state(digest) == "trial"
    assert intake.stage(desk.here, Stage(digest), raw, SYSTEM).until is not None
    desk.clock.tick(1)
    trials.expire(desk.here)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "reverted")


def test_a_trial_that_is_over_is_not_made_longer(desk: Desk) -> None:
    """Its undo failed and is tried again."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.engine.fails = ProcessError("ZDP-209", "somebody changed it")
    desk.clock.tick(60)
    trials.expire(desk.here)
    refused("ZDP-501", desk.apply, digest, trial_s=60)


def test_revert_and_apply_again(desk: Desk) -> None:
    """A reverted patch can come in again, and going out twice is one answer."""
    digest = desk.push(desk.fix(), confirm=True)
    assert desk.revert("FIX-1") == "reverted"
    assert desk.revert("FIX-1") == "reverted"
    assert desk.vat == b"VAT = 1\n"
    assert desk.apply(digest).state == "trial"
    assert desk.vat == b"VAT = 2\n"


def test_only_staged_digests(desk: Desk) -> None:
    """Nothing can be applied, confirmed or reverted that is not here."""
    refused("ZDP-212", desk.apply, "0" * 64)
    refused("ZDP-212", desk.confirm, "FIX-1")
    refused("ZDP-212", desk.revert, "FIX-1")
    desk.stage(desk.fix())
    refused("ZDP-213", desk.confirm, "FIX-1")


def test_failed_flip_leaves_everything(desk: Desk) -> None:
    """A flip that raises leaves the journal as it was."""
    digest = desk.stage(desk.fix())
    desk.engine.fails = ProcessError("ZDP-203", "a value was changed")
    refused("ZDP-203", desk.apply, digest)
    assert (desk.vat, desk.wanted(digest), desk.state(digest)) == (
        b"VAT = 1\n",
        "staged",
        "nothing",
    )


def test_failed_undo_leaves_everything(desk: Desk) -> None:
    """An undo that is refused leaves the patch wanted, as it was."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.engine.fails = ProcessError("ZDP-204", "FIX-2 was built on top of FIX-1")
    refused("ZDP-204", desk.revert, digest)
    assert (desk.wanted(digest), desk.state(digest)) == ("confirmed", "confirmed")


def test_undo_that_cannot_be_done_here(desk: Desk) -> None:
    """Where only another process can be without the patch, the next one is."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.engine.fails = ProcessError("ZDP-209", "shop.cart:VAT is not ours")
    error = refused("ZDP-209", desk.revert, digest)
    assert "out of what starts from now on" in error.state
    assert (desk.wanted(digest), desk.state(digest)) == ("reverted", "confirmed")
    assert desk.restart().here.active() == ()


def test_what_was_said_goes_when_the_patch_moves(desk: Desk) -> None:
    """Status does not say that a patch is out, or stuck, beside the patch that is not."""
    raw = desk.fix()
    desk.push(raw, trial_s=60)
    desk.engine.fails = ProcessError("ZDP-209", "shop.cart:VAT is not ours")
    desk.clock.tick(60)
    trials.expire(desk.here)
    desk.engine.fails = None
    desk.clock.tick(desk.here.settings.trial_retry_s)
    trials.expire(desk.here)
    assert desk.here.notices == ["FIX-1 was reverted: nobody confirmed it in time"]
    desk.push(raw, trial_s=60)
    assert desk.here.notices == []


def test_failed_undo_at_the_deadline_is_tried_again(desk: Desk) -> None:
    """A trial that cannot be taken out is said, and tried again later, not at once."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.engine.fails = ProcessError("ZDP-209", "shop.cart:VAT is not ours")
    desk.clock.tick(60)
    trials.expire(desk.here)
    assert desk.state(digest) == "trial"
    assert "cannot be taken out" in desk.here.notices[-1]
    (row,) = answers.status(desk.here, Status()).patches
    assert (row.overdue, "cannot be taken out" in row.reason) == (True, True)
    assert "is over" in refused("ZDP-501", desk.confirm, digest).cause
    assert "is over" in refused("ZDP-501", desk.apply, digest, confirm=True).cause
    desk.engine.fails = None
    trials.expire(desk.here)
    assert desk.state(digest) == "trial"
    desk.clock.tick(desk.here.settings.trial_retry_s)
    trials.expire(desk.here)
    assert desk.state(digest) == "reverted"


def test_refused_plan_is_kept_with_its_reason(desk: Desk) -> None:
    """What cannot go in is refused, and may be tried again after staging it again."""
    raw = desk.fix(base=b"VAT = 0\n")
    digest = desk.stage(raw)
    refused("ZDP-201", desk.apply, digest)
    assert desk.wanted(digest) == "refused"
    desk.stage(raw)
    assert desk.wanted(digest) == "staged"


def test_hold_blocks_applies_only(desk: Desk) -> None:
    """While applies are held, a patch can go out, and none comes in."""
    digest = desk.push(desk.fix())
    with desk.here.journal.write("hold") as ledger:
        ledger.hold(SYSTEM, "freeze")
    desk.revert(digest)
    error = refused("ZDP-213", desk.apply, digest)
    assert "freeze" in error.cause
    with desk.here.journal.write("hold") as ledger:
        ledger.lift()
    desk.apply(digest)


def test_a_plan_refuses_what_an_apply_would(desk: Desk) -> None:
    """A push that planned everywhere must not stop half-way at a hold, a clash or no-apply."""
    digest = desk.stage(desk.fix())
    plan = Plan(digest)
    desk.here.no_apply = True
    refused("ZDP-213", intake.plan, desk.here, plan, SYSTEM)
    desk.here.no_apply = False
    assert intake.plan(desk.here, plan, SYSTEM)
    other = desk.stage(desk.fix(b"VAT = 3\n", seq=8))
    desk.apply(digest)
    refused("ZDP-204", intake.plan, desk.here, Plan(other), SYSTEM)
    already = intake.plan(desk.here, plan, SYSTEM)
    assert isinstance(already, dict)
    assert already["notices"] == ["already in (trial): nothing to do"]


def test_a_stopped_agent_leaves_no_trial(desk: Desk) -> None:
    """When nobody would end a trial any more, it ends; what is wanted elsewhere stays."""
    digest = desk.push(desk.fix())
    trials.end_trials(desk.here)
    assert (desk.vat, desk.state(digest), desk.wanted(digest)) == (
        b"VAT = 1\n",
        "reverted",
        "trial",
    )


def test_no_apply(desk: Desk) -> None:
    """ZDPATCH=no-apply lets nothing in."""
    desk.here.no_apply = True
    refused("ZDP-213", desk.apply, desk.stage(desk.fix()))


def test_sequence_floor(desk: Desk) -> None:
    """After a newer bundle ran, an older one that never did is refused; a known one may come."""
    old = desk.fix(id="OLD", seq=3)
    digest = desk.push(old)
    desk.revert(digest)
    desk.push(desk.fix(id="NEW", seq=9))
    desk.revert("NEW")
    desk.apply(digest)
    desk.revert(digest)
    refused("ZDP-111", desk.stage, desk.fix(id="OTHER", seq=8))


def test_revoked_between_stage_and_apply(desk: Desk) -> None:
    """A bundle revoked after it was staged does not come in."""
    digest = desk.stage(desk.fix())
    trust = desk.home / "trust.json"
    trust.write_bytes(msgspec.json.encode(desk.mint.policy(revoked=[digest])))
    refused("ZDP-112", desk.apply, digest)


def test_revoked_while_on_trial(desk: Desk) -> None:
    """A bundle revoked while it is tried is not confirmed: silence takes it out."""
    digest = desk.push(desk.fix())
    assert answers.status(desk.here, Status()).patches[0].doubt == ""
    trust = desk.home / "trust.json"
    trust.write_bytes(msgspec.json.encode(desk.mint.policy(revoked=[digest])))
    assert answers.status(desk.here, Status()).patches[0].doubt.startswith("ZDP-112")
    refused("ZDP-112", desk.confirm, digest)
    refused("ZDP-112", desk.apply, digest, confirm=True)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 2\n", "trial")
    desk.clock.tick(10_000)
    trials.expire(desk.here)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "reverted")


def test_what_stands_on_a_trial_is_not_kept(desk: Desk) -> None:
    """The patch below may go at its end; until it is confirmed, the one above is on trial too."""
    one = desk.push(desk.fix(id="ONE", seq=7))
    above = desk.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=8)
    two = desk.stage(above)
    assert "stands on ONE" in refused("ZDP-204", desk.apply, two, confirm=True).cause
    assert desk.vat == b"VAT = 2\n"
    desk.apply(two)
    assert "stands on ONE" in refused("ZDP-204", desk.confirm, "TWO").cause
    desk.confirm("ONE")
    desk.confirm("TWO")
    assert (desk.wanted(one), desk.wanted(two)) == ("confirmed", "confirmed")


def test_same_id_other_digest(desk: Desk) -> None:
    """A rebuilt bundle with the id of one that is in waits until that is out."""
    desk.push(desk.fix())
    other = desk.stage(desk.fix(b"VAT = 3\n", seq=8))
    refused("ZDP-204", desk.apply, other)
    desk.revert("FIX-1")
    desk.apply(other)
    assert desk.vat == b"VAT = 3\n"


def test_a_second_process_shares_what_is_wanted(desk: Desk) -> None:
    """Confirmed in one process, the other's trial is confirmed when it ends."""
    key = desk.here.identity.key
    digest = desk.push(desk.fix(), trial_s=60)
    two = desk.another(key=type(key)(key.pid, key.ticks + 0, key.boot + "x"), replayed=False)
    with two.here.journal.write("enter") as ledger:
        ledger.add_process()
    two.apply(digest, trial_s=60)
    desk.confirm(digest)
    desk.clock.tick(60)
    trials.expire(two.here)
    assert (two.vat, two.state(digest)) == (b"VAT = 2\n", "confirmed")


def beside(desk: Desk) -> Desk:
    """Another process of the application, in another pid namespace: nobody knows its end."""
    key = desk.here.identity.key
    return desk.another(key=type(key)(key.pid, key.ticks, key.boot + "x"), replayed=False)


def test_a_trial_is_that_of_the_application(desk: Desk) -> None:
    """A push to another process makes the trial longer for those which had the patch before."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.tick(30)
    two = beside(desk)
    two.apply(digest, trial_s=60)
    assert answers.status(desk.here, Status()).patches[0].until == desk.clock.wall() + 60
    desk.clock.tick(30)
    trials.expire(desk.here)
    assert (desk.state(digest), desk.wanted(digest)) == ("trial", "trial")
    desk.clock.tick(30)
    trials.expire(desk.here)
    trials.expire(two.here)
    assert (desk.state(digest), two.state(digest)) == ("reverted", "reverted")
    assert two.wanted(digest) == "reverted"


def test_a_shorter_trial_ends_with_the_longer_one(desk: Desk) -> None:
    """Whoever pushes is told when it is over for the application."""
    digest = desk.push(desk.fix(), trial_s=600)
    answer = beside(desk).apply(digest, trial_s=60)
    assert answer.until == desk.clock.wall() + 600


@pytest.mark.parametrize("step_s", [-86400, -600, -12, 12])
def test_a_clock_that_is_set_ends_no_trial(desk: Desk, step_s: int) -> None:
    """Silence reverts after the time that was said, whatever the clock of the day is set to; the
    last process that has it takes it out for the application.
    """
    digest = desk.push(desk.fix(), trial_s=60)
    two = beside(desk)
    two.apply(digest, trial_s=60)
    desk.clock.step(step_s)
    desk.clock.tick(59)
    trials.expire(desk.here)
    assert desk.state(digest) == "trial"
    desk.clock.tick(1)
    trials.expire(desk.here)
    trials.expire(two.here)
    assert (desk.state(digest), two.state(digest)) == ("reverted", "reverted")
    assert desk.wanted(digest) == "reverted"


def test_what_was_confirmed_elsewhere(desk: Desk) -> None:
    """A process that was stopped during the order keeps the patch as soon as it looks."""
    digest = desk.push(desk.fix(), trial_s=60)
    two = beside(desk)
    two.apply(digest, confirm=True)
    assert desk.state(digest) == "trial"
    assert replay.agree(desk.here)
    assert desk.state(digest) == "confirmed"


def test_what_is_confirmed_is_on_trial_nowhere(desk: Desk) -> None:
    """A process that gets it after that has it confirmed, as one that starts."""
    digest = desk.push(desk.fix(), confirm=True)
    two = beside(desk)
    answer = two.apply(digest, trial_s=60)
    assert (answer.state, answer.until) == ("confirmed", None)
    assert trials.next_deadline(two.here) is None


def test_unrecorded_outcome_takes_the_patch_out(desk: Desk) -> None:
    """When the outcome of a flip cannot be written, the patch does not stay."""
    digest = desk.stage(desk.fix())

    def full() -> None:
        raise OSError(28, "No space left on device")

    desk.gate.at["apply.outcome.written"] = full
    error = refused("ZDP-301", desk.apply, digest)
    assert "taken out again" in error.state
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "staged")


@pytest.mark.parametrize("step", ["apply.intent.begin", "apply.intent.written"])
def test_unwritten_intent_changes_nothing(desk: Desk, step: str) -> None:
    """When the intent cannot be written, nothing is flipped."""
    digest = desk.stage(desk.fix())

    def full() -> None:
        raise OSError(28, "No space left on device")

    desk.gate.at[step] = full
    with pytest.raises(OperatorError, match="No space left"):
        desk.apply(digest)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "staged")
    desk.apply(digest)
    assert desk.vat == b"VAT = 2\n"


def test_wanted_of_whoever_starts(desk: Desk) -> None:
    """This process stays as it is, the next one has it on trial, and an undo is one for all."""
    digest = desk.stage(desk.fix())
    answer = wanting.want(desk.here, Want(digest, 60, "slots"), ALICE)
    assert (answer.state, answer.until) == ("trial", desk.clock.wall() + 60)
    assert (desk.vat, desk.state(digest), desk.wanted(digest)) == (BASE, "nothing", "trial")
    assert wanting.want(desk.here, Want(digest, 10), ALICE).until == answer.until  # never shorter
    new = desk.another()
    assert (new.vat, new.state(digest)) == (FIXED, "trial")
    assert desk.revert(digest) == "reverted"
    assert desk.wanted(digest) == "reverted"
    assert desk.another().vat == BASE


def test_what_is_held_or_kept_is_not_wanted_on_trial(desk: Desk) -> None:
    """A hold holds here too, and a confirmed patch stays so."""
    digest = desk.push(desk.fix(), confirm=True)
    other = desk.stage(desk.fix(b"VAT = 3\n", id="FIX-2", seq=9))
    with desk.here.journal.write("hold") as ledger:
        ledger.hold(ALICE, "sale")
    refused("ZDP-213", wanting.want, desk.here, Want(other), ALICE)
    assert desk.wanted(other) == "staged"
    assert desk.wanted(digest) == "confirmed"


def test_what_cannot_go_out_asks_for_a_successor(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that nobody ended, and that the process cannot end."""
    asked: list[str] = []
    monkeypatch.setattr(relief, "_ask", asked.append)
    desk.push(desk.fix(), trial_s=60)
    desk.engine.fails = ProcessError("ZDP-209", "somebody changed it")
    desk.clock.tick(60)
    trials.expire(desk.here)
    assert asked == ["FIX-1: its trial is over and it cannot be taken out: somebody changed it"]
