"""A push ends with every target on the new code, or as it was, or says which are not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from zdpatch.patcher.errors import OperatorError, ProcessError, Refused, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, FakeAgent, Fleet
    from zdpatch.agent.messages import Request

UNSAFE = Verdict("shop.cart:Cart", 9, "header", "R", "its base classes change", "replace it")


def refuse(agent: FakeAgent, verb: str, error: Exception) -> None:
    """Let the agent answer `verb` with `error`."""
    assert isinstance(error, ProcessError | Refused)
    agent.script[verb] = lambda _request: error


def test_push_applies_everywhere(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """All targets are staged, planned, then all apply, and all are on trial at the end."""
    agents = [fleet.add(), fleet.add()]
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 0
    assert [agent.heard for agent in agents] == [["stage", "plan", "apply"]] * 2
    assert [agent.states for agent in agents] == [["trial"]] * 2
    assert ran.json["schema"] == "zdpatch.push/v1"
    assert ran.json["state"] == "applied"
    assert {target["outcome"] for target in ran.json["targets"]} == {"applied"}
    assert ran.err == ""


def test_push_in_words(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """The plan goes to stderr, the outcome with the next commands to stdout."""
    fleet.add()
    ran = cli("push", bundle, "--yes")
    assert ran.code == 0
    assert "shop.cart:price" in ran.err
    assert "1 function flips at one instant" in ran.err
    assert "applied   1/1" in ran.out
    assert "zdpatch confirm FIX-1" in ran.out
    assert "\x1b" not in ran.out + ran.err


def test_one_refusal_stops_all(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """If one target refuses, none applies, and the error has the reasons and the exit code 4."""
    willing, unwilling = fleet.add(), fleet.add()
    refuse(unwilling, "plan", Refused("ZDP-202", "1 edit is not safe", (UNSAFE,)))
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 4
    assert "apply" not in willing.heard
    assert ran.error["code"] == "ZDP-202"
    assert ran.error["verdicts"][0]["reason"] == "its base classes change"
    assert {target["outcome"] for target in ran.error["targets"]} == {"planned", "refused"}


def test_refusal_in_words(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """The error text has id, who refused, the edit and its line, the remedy and what is next."""
    fleet.add()
    refuse(fleet.add(), "plan", Refused("ZDP-202", "1 edit is not safe", (UNSAFE,)))
    err = cli("push", bundle, "--yes").err
    assert "error ZDP-202: edit is not safe in place" in err
    assert "1 of 2: shop pid" in err
    assert "R  shop.cart:Cart:9  header: its base classes change" in err
    assert "replace it" in err
    assert "Nothing was changed. 1 of 2 would take it." in err
    assert "--partial" in err


def test_partial(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """With --partial those that can take it do, and exit 9 says that not all are the same."""
    willing, unwilling = fleet.add(), fleet.add()
    refuse(unwilling, "plan", ProcessError("ZDP-201", "shop.cart:price differs"))
    ran = cli("push", bundle, "--yes", "--partial", "--json")
    assert ran.code == 9
    assert ran.json["state"] == "partial"
    assert willing.states == ["trial"]
    assert unwilling.states == ["staged"]


def test_partial_where_nobody_can(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--partial does not turn a refusal by everyone into a success."""
    refuse(fleet.add(), "stage", ProcessError("ZDP-107", "for another application"))
    assert cli("push", bundle, "--yes", "--partial").code == 3


def test_failed_apply_is_undone_elsewhere(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """If an apply fails, those which applied are reverted, and exit 6 says old code everywhere."""
    good, bad = fleet.add(), fleet.add()
    refuse(bad, "apply", ProcessError("ZDP-201", "changed since the plan"))
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 6
    assert ran.error["code"] == "ZDP-502"
    assert "old code everywhere" in ran.error["state"]
    assert good.states == ["reverted"]


def test_failed_apply_alone_changes_nothing(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """If the only target fails to apply, its own error is the error."""
    refuse(fleet.add(), "apply", ProcessError("ZDP-204", "another patch is in the way"))
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 4
    assert ran.error["code"] == "ZDP-204"


def test_failed_undo_is_degraded(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """If the undo fails too, exit 9 names the process that must be looked at."""
    good, bad = fleet.add(), fleet.add()
    refuse(bad, "apply", ProcessError("ZDP-201", "changed since the plan"))
    refuse(good, "revert", ProcessError("ZDP-209", "somebody set shop.cart.price"))
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 9
    assert ran.error["code"] == "ZDP-305"
    assert "must be looked at" in ran.error["state"]
    assert "ZDP-209" in ran.error["cause"]


def test_lost_answer_is_looked_up(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """An apply whose answer never came, but which happened, counts as applied."""
    agent = fleet.add()

    def apply_and_say_nothing(request: Request) -> bytes:
        agent.on_apply(request)
        return b""

    agent.script["apply"] = apply_and_say_nothing
    ran = cli("push", bundle, "--yes", "--timeout", "0.5s", "--json")
    assert ran.code == 0
    assert ran.json["targets"][0]["outcome"] == "applied"
    assert ran.json["targets"][0]["patch_state"] == "trial"


def test_process_that_ends_while_it_applies(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """If a process dies during the apply, the others are reverted: exit 6; alone it is exit 5."""
    for others, code in (([fleet.add()], 6), ([], 5)):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            dying = fleet.add_for(child)

            def die(_request: Request, child: subprocess.Popen[bytes] = child) -> bytes:
                child.kill()
                child.wait()
                return b""

            dying.script["apply"] = die
            ran = cli("push", bundle, "--yes", "--json")
        assert ran.code == code
        assert "ended" in ran.error["cause"]
        assert [agent.states for agent in others] == [["reverted"]] * len(others)
        for agent in others:
            agent.card = msgspec.structs.replace(agent.card, app="billing")
            agent.announce()


def test_late_answer_to_the_undo(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A process that missed its apply and answers the undo is why the others are reverted."""
    good, late = fleet.add(), fleet.add()
    late.script["apply"] = late.script["status"] = lambda _request: b""
    ran = cli("push", bundle, "--yes", "--timeout", "0.5s", "--json")
    assert (ran.code, ran.error["code"]) == (6, "ZDP-502")
    assert "ZDP-402" in ran.error["cause"]
    assert (good.states, late.states) == (["reverted"], ["reverted"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_home_of_another_user(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """No directory is made in a service's home that the service could not use."""
    fleet.add()
    assert cli("push", bundle, "--yes").code == 0
    assert (cli.home / "cache").is_dir()
    shutil.rmtree(cli.home / "cache")
    os.chown(cli.home, 65534, -1)
    assert cli("push", bundle, "--yes").code == 0
    assert not (cli.home / "cache").exists()


@pytest.mark.parametrize("verb", ["stage", "plan"])
def test_process_that_ends_before(cli: Cli, fleet: Fleet, bundle: Path, verb: str) -> None:
    """A short-lived process that ends before anything is applied keeps nobody from the patch."""
    other = fleet.add()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:

        def end(_request: Request) -> bytes:
            child.kill()
            child.wait()
            return b""

        fleet.add_for(child).script[verb] = end
        ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 0
    assert [target["agent"] for target in ran.json["targets"]] == [other.name]
    assert other.states == ["trial"]


def test_silent_agent(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """An agent that says nothing is not reached: exit 5, and the others stay as they were."""
    other, silent = fleet.add(), fleet.add()
    silent.script["stage"] = lambda _request: b""
    ran = cli("push", bundle, "--yes", "--timeout", "0.5s", "--json")
    assert ran.code == 5
    assert ran.error["code"] == "ZDP-402"
    assert "apply" not in other.heard


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff", b"null", b'{"agent": 1, "result": {}}', b"[" * 100_000],
)
def test_malformed_answer(cli: Cli, fleet: Fleet, bundle: Path, body: bytes) -> None:
    """An answer that cannot be read is an error of that agent, never a crash."""
    fleet.add().script["stage"] = lambda _request: body
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 5
    assert ran.error["code"] == "ZDP-404"


def test_dead_process_is_skipped_and_swept(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """What a dead process left is no target, and is removed."""
    fleet.add()
    folder = fleet.add_dead()
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 0
    assert len(ran.json["targets"]) == 1
    assert not folder.exists()


def test_plan_only(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--plan changes nothing and exits 10; once the patch is in, it exits 0."""
    agent = fleet.add()
    ran = cli("push", bundle, "--plan", "--json")
    assert ran.code == 10
    assert ran.json["state"] == "planned"
    assert agent.heard == ["stage", "plan"]
    assert cli("push", bundle, "--yes").code == 0
    assert cli("push", bundle, "--plan").code == 0


def test_push_again_is_done_already(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A second push of the same bundle changes nothing and is a success."""
    agent = fleet.add()
    cli("push", bundle, "--yes")
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 0
    assert ran.json["state"] == "already"
    assert agent.heard.count("apply") == 1


def test_push_again_with_another_trial(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--trial counts for what is on trial already too, and the answer says until when it is."""
    agent = fleet.add()
    cli("push", bundle, "--yes", "--trial", "1m")
    ran = cli("push", bundle, "--yes", "--trial", "2h", "--json")
    assert (ran.code, ran.json["state"]) == (0, "already")
    assert agent.heard.count("apply") == 2
    assert ran.json["targets"][0]["until"] - time.time() > 7000
    words = cli("push", bundle, "--yes").out
    assert agent.heard.count("apply") == 2
    assert re.search(r"trial +1/1 until [0-9 :-]+, then it reverts by itself", words)


def test_a_trial_that_is_over_is_not_made_longer(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """What an agent refuses is said."""
    agent = fleet.add()
    cli("push", bundle, "--yes")
    agent.script["apply"] = lambda _: ProcessError("ZDP-501", "its trial is over")
    ran = cli("push", bundle, "--yes", "--trial", "2h", "--json")
    assert ran.error["code"] == "ZDP-501"


def test_push_again_with_confirm(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A second push with --confirm keeps what is on trial."""
    agent = fleet.add()
    cli("push", bundle, "--yes")
    assert cli("push", bundle, "--yes", "--confirm").code == 0
    assert agent.states == ["confirmed"]


def test_confirm_at_once(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--confirm applies without a trial."""
    agent = fleet.add()
    assert cli("push", bundle, "--yes", "--confirm", "-m", "approved").code == 0
    assert agent.states == ["confirmed"]


def test_no_terminal_needs_yes(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """Without a terminal and without --yes nothing is asked and nothing is done: exit 2."""
    agent = fleet.add()
    ran = cli.process("push", bundle)
    assert ran.code == 2
    assert "error ZDP-001" in ran.err
    assert agent.heard == []


def test_no_target(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """Agents of other applications are no targets: exit 5."""
    fleet.add(app="billing")
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 5
    assert ran.error["code"] == "ZDP-401"


def test_target_that_has_just_started(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A process that entered its journal a moment ago is waited for."""
    (cli.home / "apps" / "shop").mkdir(parents=True)
    timer = threading.Timer(0.5, fleet.add)
    timer.start()
    assert cli("push", bundle, "--yes").code == 0
    timer.join()


def test_selector(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--to limits the targets by label."""
    one, two = fleet.add(zone="a"), fleet.add(zone="b")
    assert cli("push", bundle, "--yes", "--to", "zone=b").code == 0
    assert (one.states, two.states) == ([], ["trial"])


def test_damaged_bundle(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A damaged bundle is refused before anybody is asked: exit 3."""
    agent = fleet.add()
    bundle.write_bytes(bundle.read_bytes()[:-5])
    assert cli("push", bundle, "--yes").code == 3
    assert agent.heard == []


@pytest.mark.parametrize("others", [0, 1])
def test_what_a_failed_target_says_of_its_state(
    cli: Cli, fleet: Fleet, bundle: Path, others: int
) -> None:
    """Where a failed apply did not leave all as it was, the push says so, and not "nothing"."""
    said = "FIX-1 was taken out again. The journal says that it is coming in."
    full = OperatorError("ZDP-301", "disk is full", state=said)
    fleet.add().script["apply"] = lambda _request: full
    for _ in range(others):
        fleet.add()
    ran = cli("push", bundle, "--yes", "--json")
    assert ran.code == 9
    assert said in ran.error["state"]
    assert "old code everywhere" not in ran.error["state"]
    assert "Nothing was changed" not in ran.error["state"]
