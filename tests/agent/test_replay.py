"""A process that starts has what is wanted, or says why not; a crash on trial is counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zdpatch.agent import answers, replay, told, transaction, trials
from zdpatch.agent.duties import Duties
from zdpatch.agent.identity import ProcessKey
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.protocol import Apply, History, Status
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from tests.agent.conftest import Desk


def said(desk: Desk) -> str:
    """All that this process has to say."""
    return " | ".join(desk.here.notices)


def test_confirmed_patches_come_back_in_order(desk: Desk) -> None:
    """Stacked patches come up in the order they were applied, before start returns."""
    one = desk.push(desk.fix(id="ONE", seq=7), confirm=True)
    two = desk.push(desk.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=8), confirm=True)
    after = desk.restart()
    assert after.vat == b"VAT = 3\n"
    assert after.here.active() == ("ONE", "TWO")
    assert (after.state(one), after.state(two)) == ("confirmed", "confirmed")


def test_reverted_patches_stay_out(desk: Desk) -> None:
    """What was reverted is not brought up."""
    desk.push(desk.fix(), confirm=True)
    desk.revert("FIX-1")
    assert desk.restart().here.active() == ()


def test_killed_in_trial(desk: Desk) -> None:
    """Start 1 retries the trial, start 2 quarantines it, start 3 is clean."""
    digest = desk.push(desk.fix(), trial_s=600)
    first = desk.restart()
    assert (first.vat, first.state(digest)) == (b"VAT = 2\n", "trial")
    second = first.restart()
    assert (second.vat, second.wanted(digest)) == (b"VAT = 1\n", "quarantined")
    assert "quarantined" in said(second)
    third = second.restart()
    assert (third.vat, said(third)) == (b"VAT = 1\n", "")
    with pytest.raises(ProcessError, match="ZDP-303"):
        third.apply(digest)


def test_an_announced_end_is_no_crash(desk: Desk) -> None:
    """A process that leaves does not count against the patch on trial."""
    digest = desk.push(desk.fix(), trial_s=600)
    for _ in range(3):
        desk.leave()
        desk = desk.another()
        assert desk.state(digest) == "trial"


def test_a_crash_after_confirmation_does_not_count(desk: Desk) -> None:
    """A confirmed patch is brought up however often the process dies."""
    desk.push(desk.fix(), confirm=True)
    for _ in range(3):
        desk = desk.restart()
        assert desk.vat == b"VAT = 2\n"


def test_several_dead_workers_are_one_crash(desk: Desk) -> None:
    """Workers that died together count once: the first that starts takes them all together."""
    digest = desk.push(desk.fix(), trial_s=600)
    key = desk.here.identity.key
    dead = desk.another(key=type(key)(key.pid, 2, key.boot))
    assert dead.state(digest) == "trial"
    after = desk.restart()
    assert (after.state(digest), after.wanted(digest)) == ("trial", "trial")


def test_a_reboot_is_no_crash(desk: Desk) -> None:
    """Processes of another boot ended with it."""
    key = desk.here.identity.key
    desk.leave()
    boot = "another-boot/" + key.boot.partition("/")[2]
    for _ in range(3):
        old = desk.another(key=type(key)(key.pid, 1, boot))
        digest = old.stage(old.fix())
        old.apply(digest)
        assert desk.another().state(digest) == "trial"


def test_trial_that_ended_while_down(desk: Desk) -> None:
    """A trial whose time passed while no process ran is not taken up."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.tick(61)
    after = desk.restart()
    assert (after.vat, after.wanted(digest)) == (b"VAT = 1\n", "reverted")
    assert "trial ended" in said(after)


def test_a_trial_keeps_its_deadline(desk: Desk) -> None:
    """A restart does not prolong a trial."""
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.tick(50)
    after = desk.restart()
    assert after.here.mine[digest].deadline == after.clock.steady() + 10


def test_superseded_is_said_loudly_and_looked_at_again(desk: Desk) -> None:
    """A release that changed the fixed code goes without the fix, and says so loudly."""
    digest = desk.push(desk.fix(), confirm=True)
    new = desk.restart({"shop.cart": b"VAT = 9\n"})
    assert new.state(digest) == "superseded"
    assert "NOT in" in said(new)
    assert new.wanted(digest) == "confirmed"
    assert new.restart().vat == b"VAT = 2\n"


def test_absorbed(desk: Desk) -> None:
    """A release that has the fix needs no patch."""
    digest = desk.push(desk.fix(), confirm=True)
    new = desk.restart({"shop.cart": b"VAT = 2\n"})
    assert (new.state(digest), new.here.active()) == ("absorbed", ())


def test_revocation_removes(desk: Desk) -> None:
    """A revoked patch does not come up again, with a plain word."""
    digest = desk.push(desk.fix(), confirm=True)
    trust = desk.home / "trust.json"
    trust.write_bytes(msgspec.json.encode(desk.mint.policy(revoked=[digest])))
    after = desk.restart()
    assert (after.vat, after.wanted(digest)) == (b"VAT = 1\n", "reverted")
    assert "revoked" in said(after)


def test_expiry_only_warns(desk: Desk) -> None:
    """A bundle past its end keeps running over restarts, and says so."""
    digest = desk.push(desk.fix(not_after=int(desk.clock.wall()) + 60), confirm=True)
    desk.clock.tick(120)
    after = desk.restart()
    assert (after.vat, after.state(digest)) == (b"VAT = 2\n", "confirmed")
    assert "expired" in said(after)


def test_expiry_while_it_runs(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A patch that ends while its process runs stays in; log and status say it once, until it is
    out.
    """
    end = int(desk.clock.wall()) + 3600
    digest = desk.push(desk.fix(not_after=end), confirm=True)
    duties = Duties(desk.here)
    duties.tend()
    assert answers.status(desk.here, Status()).patches[0].not_after == end
    assert said(desk) == ""
    desk.clock.tick(3700)
    for _ in range(3):
        duties.tend()
    assert (desk.vat, desk.state(digest)) == (b"VAT = 2\n", "confirmed")
    assert "zdpatch export FIX-1" in said(desk)
    assert caplog.text.count("should be in a release") == 1
    desk.revert("FIX-1")
    duties.tend()
    assert said(desk) == ""


def test_without_trust_nothing_comes_up(desk: Desk) -> None:
    """No trust file, no patch, and the application starts."""
    digest = desk.push(desk.fix(), confirm=True)
    (desk.home / "trust.json").unlink()
    after = desk.restart()
    assert (after.vat, after.state(digest)) == (b"VAT = 1\n", "refused")
    assert "ZDP-113" in said(after)


def test_damaged_blob_is_refused(desk: Desk) -> None:
    """Bytes that changed on disk are not what was accepted."""
    digest = desk.push(desk.fix(), confirm=True)
    for blob in (desk.home / "apps" / "shop" / "blobs").iterdir():
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    after = desk.restart()
    assert (after.vat, after.state(digest)) == (b"VAT = 1\n", "refused")


def test_a_new_release_takes_over_what_was_decided(desk: Desk) -> None:
    """Patches follow to another release; a decision made there holds when the old one returns."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.clock.tick(1)
    new = desk.restart(release="1.5")
    assert (new.vat, new.wanted(digest)) == (b"VAT = 2\n", "confirmed")
    assert "taken over from release 1.4" in said(new)
    desk.clock.tick(1)
    new.revert("FIX-1")
    desk.clock.tick(1)
    old = new.restart(release="1.4")
    assert (old.vat, old.wanted(digest)) == (b"VAT = 1\n", "reverted")


def test_a_rollback_counts_for_a_release_that_sleeps(desk: Desk) -> None:
    """Another program of the application was down when its patch was rolled back."""
    key = desk.here.identity.key
    digest = desk.push(desk.fix(), confirm=True)
    desk.clock.tick(1)
    worker = desk.another(release="1.5", key=type(key)(key.pid, 1, key.boot))  # has ended
    assert worker.vat == b"VAT = 2\n"
    desk.clock.tick(1)
    desk.revert("FIX-1")
    again = desk.another(release="1.5", key=type(key)(key.pid, 2, key.boot))
    assert (again.vat, again.wanted(digest)) == (b"VAT = 1\n", "reverted")


@pytest.mark.parametrize("asleep", [True, False])
def test_what_another_release_lost_by_itself(desk: Desk, *, asleep: bool) -> None:
    """A patch confirmed in one release is not lost there by the silence that ended its trial in
    another; and what is confirmed while that other one sleeps is confirmed there.
    """
    key = desk.here.identity.key
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.tick(1)
    ticks = 1 if asleep else key.ticks
    boot = key.boot if asleep else key.boot + "x"  # another namespace: it may run still
    worker = desk.another(release="1.5", key=type(key)(key.pid, ticks, boot))
    assert worker.state(digest) == "trial"
    desk.confirm("FIX-1")
    desk.clock.tick(60)
    if not asleep:
        trials.expire(worker.here)
    again = desk.another(release="1.5", key=type(key)(key.pid, 2, key.boot))
    assert again.wanted(digest) == ("confirmed" if asleep else "reverted")
    desk.clock.tick(1)
    assert desk.restart().wanted(digest) == "confirmed"


def test_a_clock_that_is_set_forward_ends_no_trial_elsewhere(desk: Desk) -> None:
    """A process that starts by another time of the day leaves the trial to those who have it."""
    key = desk.here.identity.key
    digest = desk.push(desk.fix(), trial_s=60)
    desk.clock.step(3600)
    new = desk.another(key=type(key)(key.pid + 1, key.ticks, key.boot + "x"))
    assert (new.vat, new.wanted(digest)) == (b"VAT = 1\n", "trial")
    assert "is on trial elsewhere" in said(new)


def test_an_order_that_is_done_here_reaches_who_sleeps_since(desk: Desk) -> None:
    """The same order again, once no process of the other release runs, counts for that one."""
    digest = desk.push(desk.fix())
    desk.clock.tick(1)
    other = desk.another(release="1.5", key=_own_key_with_other_namespace(desk))
    desk.confirm("FIX-1")
    assert other.wanted(digest) == "trial"
    other.leave()
    desk.confirm("FIX-1")
    again = desk.another(release="1.5", key=_own_key_with_other_namespace(desk, "y"))
    assert again.wanted(digest) == "confirmed"
    desk.revert("FIX-1")
    again.leave()
    assert desk.revert("FIX-1") == "reverted"
    last = desk.another(release="1.5", key=_own_key_with_other_namespace(desk, "z"))
    assert (last.vat, last.wanted(digest)) == (b"VAT = 1\n", "reverted")


def test_a_rollback_of_what_only_a_sleeping_release_wants(desk: Desk) -> None:
    """A process that has never heard of the patch takes it out for the one that is down."""
    worker = desk.another(release="1.5", key=_own_key_with_other_namespace(desk))
    digest = worker.push(worker.fix(), confirm=True)
    with pytest.raises(ProcessError, match="there is no patch 'FIX-1' here"):
        desk.revert("FIX-1")  # a process of its release runs: that one is asked
    worker.leave()
    with pytest.raises(ProcessError, match="there is no patch 'OTHER' here"):
        desk.revert("OTHER")
    assert desk.revert("fix-1") == "reverted"
    again = desk.another(release="1.5", key=_own_key_with_other_namespace(desk, "y"))
    assert (again.vat, again.wanted(digest)) == (b"VAT = 1\n", "reverted")
    with pytest.raises(ProcessError, match="there is no patch"):
        desk.revert(digest[:8])


def test_blue_and_green_do_not_fight(desk: Desk) -> None:
    """While processes of a release run, another release's decisions are not theirs."""
    digest = desk.push(desk.fix(), confirm=True)
    green = desk.another(release="1.5", key=_own_key_with_other_namespace(desk))
    desk.clock.tick(1)
    green.revert("FIX-1")
    assert desk.wanted(digest) == "confirmed"
    worker = desk.another(key=_own_key_with_other_namespace(desk, "y"))
    assert worker.vat == b"VAT = 2\n"


def _own_key_with_other_namespace(desk: Desk, mark: str = "x") -> Any:  # noqa: ANN401
    key = desk.here.identity.key
    return type(key)(key.pid, key.ticks, key.boot + mark)


def test_the_rest_comes_later(desk: Desk) -> None:
    """A replay that takes too long stops between patches and can be taken up again."""
    desk.push(desk.fix(id="ONE", seq=7), confirm=True)
    desk.push(desk.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=8), confirm=True)
    desk.leave()
    after = desk.another(replayed=False)
    replay.enter(after.here)
    desk.gate.at["replay.flipped"] = lambda: desk.clock.tick(6)
    assert not replay.bring_up(after.here, 5)
    assert after.here.active() == ("ONE",)
    assert replay.bring_up(after.here, None)
    assert after.here.active() == ("ONE", "TWO")


def test_a_flip_that_fails_at_start_is_said(desk: Desk) -> None:
    """The process starts without a patch that will not go in, which stays wanted."""
    digest = desk.push(desk.fix(), confirm=True)
    desk.leave()
    after = desk.another(replayed=False)
    replay.enter(after.here)
    after.engine.fails = RuntimeError("boom")
    assert replay.bring_up(after.here, 5)
    assert (after.state(digest), after.wanted(digest)) == ("refused", "confirmed")


def test_a_child_takes_out_what_is_not_wanted_any_more(desk: Desk) -> None:
    """What a child inherited and the application reverted meanwhile goes out of the child."""
    digest = desk.push(desk.fix(), confirm=True)
    with desk.here.journal.write("revert.intent") as ledger:
        patch = ledger.find(digest)
        assert patch is not None
        ledger.want(patch, "reverted", until=None, reason="", by=SYSTEM)
    replay.agree(desk.here)
    assert (desk.vat, desk.state(digest)) == (b"VAT = 1\n", "reverted")


def test_told_to_end_is_no_crash(desk: Desk) -> None:
    """A process that had SIGTERM or SIGINT, and ended, counts nothing; SIGHUP is no such word."""
    digest = desk.push(desk.fix())
    for signals, crashes in ((b"\x0f\0", 0), (b"\x02", 0), (b"\x01\0", 1)):
        file = told.file_of(desk.home / "apps" / "shop", replace(desk.here.identity.key, ticks=1))
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(signals)
        desk = desk.restart()
        assert desk.wanted(digest) == "trial"
        with desk.here.journal.read() as ledger:
            found = ledger.find(digest)
        assert found is not None
        assert found.crashes == crashes
        assert not file.exists()


def test_what_is_taken_out_elsewhere_goes_out_here(desk: Desk) -> None:
    """A process that missed a rollback follows it, unless the patch is wanted again by then."""
    digest = desk.push(desk.fix(), confirm=True)
    other = desk.another(key=ProcessKey(1, 1, desk.here.identity.key.boot))
    assert other.state(digest) == "confirmed"
    desk.revert(digest)
    desk.gate.at["revert.intent.begin"] = lambda: desk.apply(digest, confirm=True)
    assert replay.agree(other.here)
    assert (other.state(digest), other.wanted(digest)) == ("confirmed", "confirmed")
    desk.revert(digest)
    assert replay.agree(other.here)
    assert (other.state(digest), other.wanted(digest), other.vat) == (
        "reverted",
        "reverted",
        b"VAT = 1\n",
    )


def test_what_was_adopted_is_told_again(desk: Desk) -> None:
    """A process that starts later plans with what the operator said, and the audit trail has it."""
    digest = desk.stage(desk.fix())
    header = Apply(digest, confirm=True, adopt=["shop.cart:a"], replace=["shop.cart:b"])
    transaction.apply(desk.here, header, SYSTEM)
    later = desk.another()
    for engine in (desk.engine, later.engine):
        said = engine.adoptions[-1]
        assert (list(said.adopt), list(said.replace)) == (["shop.cart:a"], ["shop.cart:b"])
    with desk.here.journal.read() as ledger:
        details = [
            row["detail"]
            for row in ledger.history(History(limit=20, audit=True)).rows
            if row["verb"] == "apply"
        ]
    assert "adopted shop.cart:a; replaced shop.cart:b" in details
