"""An outcome that could not be written is written later, and nothing is done before."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent import owed, transaction, trials
from zdpatch.agent.duties import Duties
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.protocol import Apply
from zdpatch.patcher.errors import OperatorError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.agent.conftest import Desk


@contextlib.contextmanager
def no_room(desk: Desk, *steps: str) -> Generator[None]:
    """Every write at these steps fails, again and again, as on a full disk."""

    def arm(step: str) -> None:
        def full() -> None:
            arm(step)
            raise OSError(28, "No space left on device")

        desk.gate.at[step] = full

    for step in steps:
        arm(step)
    yield
    for step in steps:
        del desk.gate.at[step]


def failed(call: Any, *args: Any) -> OperatorError:  # noqa: ANN401 - any order
    """The error of an order that cannot be written."""
    with pytest.raises(OperatorError) as caught:
        call(*args)
    assert caught.value.code == "ZDP-301"
    return caught.value


def test_an_apply_that_was_given_up(desk: Desk) -> None:
    """The patch is out, the answer says what the journal says, and room corrects that."""
    digest = desk.stage(desk.fix())
    duties = Duties(desk.here)
    duties.catch_up(None)
    with no_room(desk, "apply.outcome.begin"):
        error = failed(desk.apply, digest)
        assert error.state.startswith("FIX-1 was taken out again. The journal says that it is")
        assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "applying")
        assert duties.patience() == 0
        duties.tend()
        assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "applying")
        assert duties.trouble
        assert (duties.patience() or 0) > 0
        failed(desk.revert, "FIX-1")
    desk.clock.tick(60)
    duties.tend()
    assert (desk.vat, desk.wanted(digest), duties.trouble) == (b"VAT = 1\n", "staged", "")
    assert desk.here.notices == []
    assert desk.apply(digest).state == "trial"


def test_an_order_settles_first(desk: Desk) -> None:
    """A push or a rollback that comes before the agent looked again begins with what is owed."""
    digest = desk.stage(desk.fix())
    with no_room(desk, "apply.outcome.begin"):
        failed(desk.apply, digest)
    assert desk.revert("FIX-1") == "staged"
    with no_room(desk, "apply.outcome.written"):
        failed(desk.apply, digest)
    desk.apply(digest, confirm=True)
    owed.settle(desk.here)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 2\n", "confirmed")


def test_a_flip_that_failed(desk: Desk) -> None:
    """The same words, where the flip itself was refused."""
    digest = desk.stage(desk.fix())
    desk.engine.fails = ProcessError("ZDP-203", "a value was changed")
    with no_room(desk, "apply.outcome.begin"), pytest.raises(ProcessError) as caught:
        desk.apply(digest)
    assert "The journal says that it is coming in" in caught.value.state
    desk.engine.fails = None
    owed.settle(desk.here)
    assert desk.wanted(digest) == "staged"


def test_an_undo_that_failed(desk: Desk) -> None:
    """What can neither be written nor be taken out is said to be in, and taken out when it can."""
    digest = desk.stage(desk.fix())
    undo = ProcessError("ZDP-209", "shop.cart:VAT is not ours")
    desk.gate.at["apply.flipped"] = lambda: setattr(desk.engine, "fails", undo)
    with no_room(desk, "apply.outcome.begin"):
        error = failed(desk.apply, digest)
    assert "is in and could not be taken out" in error.state
    assert (desk.vat, desk.state(digest)) == (b"VAT = 2\n", "trial")
    desk.engine.fails = None
    desk.clock.tick(desk.here.settings.trial_retry_s)
    owed.settle(desk.here)
    assert desk.wanted(digest) == "trial"
    trials.expire(desk.here)
    assert (desk.vat, desk.state(digest)) == (b"VAT = 1\n", "reverted")
    assert desk.wanted(digest) == "reverted"


def test_what_was_decided_meanwhile_stays(desk: Desk) -> None:
    """Another process brought the patch in and out again: that is not undone."""
    digest = desk.stage(desk.fix())
    with no_room(desk, "apply.outcome.begin"):
        failed(desk.apply, digest)
    other = desk.another(replayed=False)
    assert other.apply(digest, confirm=True).state == "confirmed"
    owed.settle(desk.here)
    assert other.wanted(digest) == "confirmed"
    other.revert(digest)
    assert desk.revert(digest) == "reverted"


def test_two_processes_give_up(desk: Desk) -> None:
    """Where all that were about to have it gave up, it is not wanted any more."""
    digest = desk.stage(desk.fix())
    other = desk.another(replayed=False)
    with no_room(desk, "apply.outcome.begin"):
        failed(desk.apply, digest)
    with no_room(other, "apply.outcome.begin"):
        failed(other.apply, digest)
    for here in (desk.here, other.here):
        owed.settle(here)
    assert desk.wanted(digest) == "staged"


def test_an_exit_that_could_not_be_written(desk: Desk) -> None:
    """The end of an undo is written when there is room."""
    digest = desk.push(desk.fix(), confirm=True)
    with no_room(desk, "revert.outcome.begin"):
        assert "is out of this process" in failed(desk.revert, digest).state
    owed.settle(desk.here)
    with desk.here.journal.read() as ledger:
        assert ledger.states_of(desk.here.identity.key) == {digest: "reverted"}
    transaction.apply(desk.here, Apply(digest), SYSTEM)
    assert desk.vat == b"VAT = 2\n"


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_patch_goes_out_without_room(desk: Desk, *, confirmed: bool) -> None:
    """A full disk does not keep a harmful patch in; the answer says what the journal says."""
    digest = desk.push(desk.fix(), confirm=confirmed)
    with no_room(desk, "revert.intent.begin", "revert.outcome.begin"):
        error = failed(desk.revert, "FIX-1")
        assert error.state.startswith("FIX-1 is out of this process, and still in by the journal")
        assert (desk.vat, desk.state(digest)) == (b"VAT = 1\n", "reverted")
        failed(desk.revert, "FIX-1")
    assert desk.wanted(digest) == ("confirmed" if confirmed else "trial")
    owed.settle(desk.here)
    assert desk.wanted(digest) == "reverted"
    assert desk.apply(digest).state == "trial"


def test_a_trial_ends_without_room(desk: Desk) -> None:
    """Silence reverts, whether or not it can be written."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.tick(60)
    with no_room(desk, "expire.intent.begin", "expire.outcome.begin"):
        trials.expire(desk.here)
    assert (desk.vat, desk.state(digest), desk.wanted(digest)) == (
        *(b"VAT = 1\n", "reverted"),
        "trial",
    )
    owed.settle(desk.here)
    assert desk.wanted(digest) == "reverted"


def test_an_unwritten_exit_follows_what_was_decided_since(desk: Desk) -> None:
    """The patch was kept through another process meanwhile: that order stands."""
    digest = desk.push(desk.fix())
    other = desk.another()
    with no_room(desk, "revert.intent.begin", "revert.outcome.begin"):
        failed(desk.revert, "FIX-1")
    desk.clock.tick(1)
    assert other.confirm("FIX-1") == "confirmed"
    owed.settle(desk.here)
    assert (desk.wanted(digest), desk.state(digest)) == ("confirmed", "reverted")


def test_an_undo_that_failed_is_written_later(desk: Desk) -> None:
    """The intent was written, the undo failed, and that could not be written: it is later."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.engine.fails = ProcessError("ZDP-204", "FIX-2 was built on top of FIX-1")
    with no_room(desk, "revert.outcome.begin"), pytest.raises(ProcessError, match="on top"):
        desk.revert("FIX-1")
    assert (desk.wanted(digest), desk.state(digest)) == ("reverted", "confirmed")
    owed.settle(desk.here)
    assert desk.wanted(digest) == "confirmed"


def test_neither_undone_nor_written(desk: Desk) -> None:
    """A patch that cannot be taken out while nothing can be written is not said to be unwanted."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.engine.fails = ProcessError("ZDP-209", "shop.cart:VAT is not ours")
    with no_room(desk, "revert.intent.begin"), pytest.raises(ProcessError) as caught:
        desk.revert("FIX-1")
    assert "still in by the journal" in caught.value.state
    assert (desk.wanted(digest), desk.state(digest)) == ("confirmed", "confirmed")


def test_a_running_patch_is_found_without_a_journal(desk: Desk) -> None:
    """What runs here can be named though nothing can be read."""
    digest = desk.push(desk.fix())
    journal = desk.here.journal.path
    desk.here.journal.close()
    kept = journal.rename(journal.with_suffix(".kept"))
    journal.mkdir()
    assert "is out of this process" in failed(desk.revert, "fix-1").state
    failed(desk.revert, "FIX-2")
    journal.rmdir()
    kept.rename(journal)
    owed.settle(desk.here)
    assert (desk.vat, desk.wanted(digest)) == (b"VAT = 1\n", "reverted")
