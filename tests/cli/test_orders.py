"""status, confirm, rollback, hold, history, audit and diff, each against real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zdpatch.agent import protocol
from zdpatch.cli.diff import difference, excerpt
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Fleet
    from tests.conftest import Mint

ONE, TWO = "1a" * 32, "2b" * 32


def test_status_without_agents(cli: Cli) -> None:
    """A home without agents is said so, and no error."""
    ran = cli("status")
    assert ran.code == 0
    assert "No agents" in ran.out


def test_status_says_the_state(cli: Cli, fleet: Fleet) -> None:
    """The detail names the state of a patch, and a selector that names nobody is an error."""
    fleet.add().put(ONE, "confirmed")
    assert "state     confirmed" in cli("status", "--detail").out
    ran = cli("status", "--to", "zone=q", "--json")
    assert (ran.code, ran.error["code"]) == (5, "ZDP-401")


def test_home_that_cannot_be_read(cli: Cli) -> None:
    """Not being able to look is an error, not an empty answer."""
    (cli.home / "agents").write_text("")
    ran = cli("status", "--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-002")


def test_status_in_step(cli: Cli, fleet: Fleet) -> None:
    """Processes with the same patches are in step: exit 0, a row each."""
    for agent in (fleet.add(), fleet.add()):
        agent.put(ONE, "confirmed")
    ran = cli("status")
    assert ran.code == 0
    assert ran.out.count("FIX-1") == 2
    assert "all in step" in ran.out


def test_status_out_of_step(cli: Cli, fleet: Fleet) -> None:
    """Processes of one application with different patches: exit 9, and it says so."""
    fleet.add().put(ONE, "confirmed")
    fleet.add()
    ran = cli("status", "--json")
    assert ran.code == 9
    assert ran.json["state"] == "degraded"
    assert ran.json["troubles"] == ["processes of shop run different patches"]
    assert [len(agent["patches"]) for agent in ran.json["agents"]] == [1, 0]


@pytest.mark.parametrize(
    ("state", "wanted", "code"),
    [
        ("trial", "trial", 0),
        ("trial", "confirmed", 0),
        ("refused", "confirmed", 9),
        ("staged", "applying", 9),
        ("confirmed", "reverted", 9),
        ("quarantined", "quarantined", 9),
    ],
)
def test_status_of_what_is_wanted(
    cli: Cli, fleet: Fleet, state: str, wanted: str, code: int
) -> None:
    """A process whose patch is in another state than is wanted of the application is exit 9."""
    agent = fleet.add()
    agent.patches[ONE] = msgspec.structs.replace(agent.put(ONE, state), wanted=wanted)
    assert cli("status").code == code


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overdue": True, "reason": "its trial is over"}, "FIX-1: its trial is over"),
        ({"doubt": "ZDP-112: revoked"}, "its bundle would be refused now: ZDP-112: revoked"),
        ({"damaged": ["shop/a.json"]}, "FIX-1 serves shop/a.json, and somebody has changed or"),
        ({"set_back": ["m:f"]}, "FIX-1 is not all in any more; somebody has changed m:f"),
    ],
)
def test_status_of_what_should_not_run(
    cli: Cli, fleet: Fleet, changes: dict[str, Any], words: str
) -> None:
    """A trial that cannot be ended, and a patch revoked since, are exit 9 and named."""
    agent = fleet.add()
    agent.patches[ONE] = msgspec.structs.replace(agent.put(ONE, "trial"), **changes)
    ran = cli("status")
    assert ran.code == 9
    assert words in ran.out


def test_status_of_children_without_patches(cli: Cli, fleet: Fleet) -> None:
    """They run the base: exit 9."""
    fleet.add().script["status"] = lambda _: protocol.StatusResult([], None, [], [77])
    ran = cli("status", "--json")
    assert (ran.code, ran.json["agents"][0]["children"]) == (9, [77])
    assert "1 child process runs the base, without any patch" in ran.json["troubles"][0]


def test_status_shows_warnings(cli: Cli, fleet: Fleet) -> None:
    """What an agent remarks is shown, and is no degradation by itself."""
    fleet.add().script["status"] = lambda _: protocol.StatusResult([], None, ["FIX-1 was carried"])
    ran = cli("status")
    assert ran.code == 0
    assert "FIX-1 was carried" in ran.out


def test_status_of_a_silent_process(cli: Cli, fleet: Fleet) -> None:
    """A process that does not answer is shown and makes exit 9; the others are shown too."""
    fleet.add("good")
    fleet.add("bad").script["status"] = lambda _request: b""
    ran = cli("status", "--timeout", "0.3s", "--json")
    assert ran.code == 9
    assert {agent["agent"] for agent in ran.json["agents"]} == {"good", "bad"}
    assert "ZDP-402" in cli("status", "--timeout", "0.3s").out


def test_status_detail(cli: Cli, fleet: Fleet) -> None:
    """--detail shows every patch, also those that are out, with origin and fixes."""
    agent = fleet.add()
    agent.put(ONE, "trial", until=9e9)
    agent.put(TWO, "reverted")
    out = cli("status", "--detail").out
    for word in ("trial", "reverted", "CVE-2026-1", "directory -> directory", ONE):
        assert word in out


@pytest.mark.parametrize(("state", "code"), [("confirmed", 0), ("trial", 0), ("absorbed", 0),
                                              ("reverted", 9), ("superseded", 9)])  # fmt: skip
def test_require(cli: Cli, fleet: Fleet, state: str, code: int) -> None:
    """--require is content only when the fix runs: by a patch in place, or by the release."""
    fleet.add().put(ONE, state)
    ran = cli("status", "--require", "cve-2026-1", "--json")
    assert ran.code == code
    assert bool(ran.json["lacking"]) == (code == 9)


def test_require_of_a_patch_that_was_set_back(cli: Cli, fleet: Fleet) -> None:
    """It is in by its state, and a part of it is not."""
    agent = fleet.add()
    agent.patches[ONE] = msgspec.structs.replace(agent.put(ONE, "confirmed"), set_back=["m:f"])
    assert cli("status", "--require", "cve-2026-1", "--json").json["lacking"]


def test_require_of_nobody(cli: Cli) -> None:
    """--require with no process to look at is not a success."""
    assert cli("status", "--require", "CVE-2026-1").code == 5


def test_confirm(cli: Cli, fleet: Fleet) -> None:
    """confirm keeps the patch wherever it is on trial, and a second one changes nothing."""
    one, two = fleet.add(), fleet.add()
    one.put(ONE, "trial")
    two.put(ONE, "confirmed")
    ran = cli("confirm", "fix-1", "--json")
    assert ran.code == 0
    assert (one.states, two.states) == (["confirmed"], ["confirmed"])
    assert len(ran.json["targets"]) == 1
    assert cli("confirm", "FIX-1", "--json").json["state"] == "already"


def test_rollback_of_what_only_a_sleeping_release_wants(cli: Cli, fleet: Fleet) -> None:
    """No process has it: one of the application is asked, if it is clear of which."""
    agent = fleet.add()
    answer = protocol.RevertResult(ONE, "FIX-1", "reverted", 0.0, {})
    agent.script["revert"] = lambda _: answer
    ran = cli("rollback", "FIX-1", "--json")
    assert (ran.code, ran.json["state"], ran.json["digest"]) == (0, "reverted", ONE)
    assert "no release wants it any more" in cli("rollback", "FIX-1").out
    del agent.script["revert"]
    ran = cli("rollback", "FIX-1", "--json")
    assert (ran.code, ran.error["code"]) == (4, "ZDP-212")
    fleet.add(app="other")
    agent.script["revert"] = lambda _: answer
    ran = cli("rollback", "FIX-1", "--json")
    assert (ran.error["code"], "--to app=other" in ran.error["next"]) == ("ZDP-212", True)
    assert cli("rollback", "FIX-1", "--to", "app=shop").code == 0


def test_confirm_what_is_not_there(cli: Cli, fleet: Fleet) -> None:
    """An unknown patch and one that is out cannot be confirmed: exit 4."""
    fleet.add().put(ONE, "reverted")
    assert cli("confirm", "OTHER", "--json").error["code"] == "ZDP-212"
    ran = cli("confirm", ONE[:8], "--json")
    assert (ran.code, ran.error["code"]) == (4, "ZDP-213")


def test_rollback_of_the_newest(cli: Cli, fleet: Fleet) -> None:
    """rollback without a name takes the newest active patch out, everywhere."""
    agents = [fleet.add(), fleet.add()]
    for agent in agents:
        agent.put(ONE, "confirmed")
        agent.put(TWO, "trial")
    ran = cli("rollback", "--json")
    assert ran.code == 0
    assert ran.json["digest"] == TWO
    assert [agent.states for agent in agents] == [["confirmed", "reverted"]] * 2


def test_rollback_by_digest(cli: Cli, fleet: Fleet) -> None:
    """A patch is named by 8 characters of its digest; out already is a success."""
    agent = fleet.add()
    agent.put(ONE, "confirmed")
    assert cli("rollback", ONE[:8]).code == 0
    assert agent.states == ["reverted"]
    assert "out already" in cli("rollback", ONE[:8]).out


@pytest.mark.parametrize(
    ("state", "wanted"),
    [("staged", "applying"), ("staged", "confirmed"), ("superseded", "trial"),
     ("absorbed", "confirmed"), ("refused", "confirmed"), ("confirmed", "reverted")],
)  # fmt: skip
def test_rollback_of_what_is_wanted(cli: Cli, fleet: Fleet, state: str, wanted: str) -> None:
    """A process is asked where the patch runs, and where a start would bring it up."""
    agent, other = fleet.add(), fleet.add()
    agent.patches[ONE] = msgspec.structs.replace(agent.put(ONE, state), wanted=wanted)
    other.put(ONE, "reverted")
    assert cli("rollback", "FIX-1", "--json").json["state"] == "reverted"
    assert (agent.heard.count("revert"), other.heard.count("revert")) == (1, 0)


def test_rollback_acknowledges_a_quarantine(cli: Cli, fleet: Fleet) -> None:
    """After that, all is well again."""
    agent = fleet.add()
    agent.put(ONE, "quarantined")
    assert "zdpatch rollback FIX-1" in cli("status").out
    assert cli("rollback", "FIX-1").code == 0
    assert agent.states == ["reverted"]
    assert cli("status").code == 0


def test_rollback_takes_out_what_runs_first(cli: Cli, fleet: Fleet) -> None:
    """Without a name, a patch that runs goes before one that is only wanted."""
    agent = fleet.add()
    agent.put(ONE, "trial")
    agent.patches[TWO] = msgspec.structs.replace(agent.put(TWO, "superseded"), wanted="confirmed")
    assert [cli("rollback", "--json").json["digest"] for _ in range(2)] == [ONE, TWO]


def test_rollback_is_not_stopped_by_one(cli: Cli, fleet: Fleet) -> None:
    """A silent process and one that refuses do not stop the others; exit 9 names them."""
    good, bad, silent = fleet.add(), fleet.add(), fleet.add()
    for agent in (good, bad):
        agent.put(ONE, "confirmed")
    bad.script["revert"] = lambda _request: ProcessError("ZDP-209", "somebody set it")
    silent.script["status"] = lambda _request: b""
    ran = cli("rollback", "FIX-1", "--timeout", "0.3s", "--json")
    assert ran.code == 9
    assert good.states == ["reverted"]
    assert ran.error["code"] == "ZDP-305"
    assert "ZDP-209" in ran.error["cause"]
    assert "ZDP-402" in ran.error["cause"]


def test_rollback_that_fails_everywhere_alike(cli: Cli, fleet: Fleet) -> None:
    """One error, and each process in it."""
    for agent in (fleet.add(), fleet.add()):
        agent.put(ONE, "confirmed")

        def full(_request: object, name: str = agent.name) -> ProcessError:
            return ProcessError("ZDP-301", "No space left", state=f"FIX-1 is out of {name}.")

        agent.script["revert"] = full
    ran = cli("rollback", "FIX-1", "--json")
    assert (ran.code, ran.error["code"]) == (9, "ZDP-301")
    assert len(ran.error["targets"]) == 2
    assert ran.error["state"].count("FIX-1 is out of") == 2


def test_rollback_of_nothing(cli: Cli, fleet: Fleet) -> None:
    """With no active patch there is nothing to take out: exit 4."""
    fleet.add()
    assert cli("rollback").code == 4


def test_rollback_of_two_applications(cli: Cli, fleet: Fleet) -> None:
    """Which application is meant is never guessed."""
    fleet.add().put(ONE, "confirmed")
    fleet.add(app="billing").put(TWO, "confirmed")
    assert cli("rollback").code == 2
    assert cli("rollback", "--to", "app=billing").code == 0


def test_one_id_for_two_patches(cli: Cli, fleet: Fleet) -> None:
    """Of two builds under one id the active one is meant; two active ones must be told apart."""
    fleet.add().put(ONE, "confirmed")
    other = fleet.add()
    other.put(TWO, "reverted")
    assert cli("rollback", "FIX-1", "--json").json["digest"] == ONE
    fleet.agents[0].put(ONE, "confirmed")
    other.put(TWO, "confirmed")
    assert cli("rollback", "FIX-1").code == 2


def test_hold(cli: Cli, fleet: Fleet) -> None:
    """hold and hold --off reach every process that the selector names."""
    agents = [fleet.add(), fleet.add()]
    assert cli("hold", "-m", "sale", "--json").json["held"] is True
    assert cli("hold", "--off", "--json").json["held"] is False
    assert all(agent.heard == ["hold", "hold"] for agent in agents)


def test_history_and_audit(cli: Cli, fleet: Fleet) -> None:
    """Moves and audit rows are asked of one application once, whatever its processes."""
    fleet.add()
    fleet.add()
    moves = cli("history")
    assert moves.code == 0
    assert "staged -> trial" in moves.out
    assert moves.out.count("FIX-1") == 1
    trail = cli("audit")
    assert trail.code == 0
    assert "the chain holds" in trail.out


def test_broken_audit_chain(cli: Cli, fleet: Fleet) -> None:
    """A chain that does not hold is exit 9, with the row."""
    fleet.add().script["history"] = lambda _request: protocol.HistoryResult([], False, 3)
    ran = cli("audit")
    assert ran.code == 9
    assert "broken at row 3" in ran.out
    assert cli("audit", "--json").json["apps"]["shop"]["broken_at"] == 3


def test_nobody_to_ask(cli: Cli) -> None:
    """Orders without an agent are exit 5."""
    for order in (("confirm", "X"), ("rollback",), ("hold",), ("history",), ("audit",)):
        assert cli(*order).code == 5


@pytest.mark.parametrize("selector", ["zone", "=a", "zone=", "a=b,c"])
def test_bad_selector(cli: Cli, selector: str) -> None:
    """A selector that is not key=value is usage."""
    assert cli("status", "--to", selector).code == 2


def test_selectors(cli: Cli, fleet: Fleet) -> None:
    """Values of one key are alternatives, keys must all hold, and * globs."""
    fleet.add("web-1", zone="a")
    fleet.add("web-2", zone="b")
    fleet.add("job-1", app="jobs", zone="b")
    for selector, names in {
        "zone=b": {"web-2", "job-1"},
        "zone=a,zone=b,app=shop": {"web-1", "web-2"},
        "agent=web-*": {"web-1", "web-2"},
    }.items():
        found = cli("status", "--to", selector, "--json").json["agents"]
        assert {agent["agent"] for agent in found} == names
    for selector in ("app=jobs,zone=a", "colour=red"):
        assert cli("status", "--to", selector).code == 5


def test_diff_of_a_bundle(cli: Cli, mint: Mint, tmp_path: Path) -> None:
    """diff shows base against new of a bundle, and of one definition."""
    path = tmp_path / "fix.zdp"
    path.write_bytes(mint.bundle())
    ran = cli("diff", path)
    assert ran.code == 0
    assert "-VAT = 1" in ran.out
    assert "+VAT = 2" in ran.out
    assert cli("diff", path, "shop.none").code == 2


def test_diff_of_an_agent(cli: Cli, fleet: Fleet, mint: Mint, tmp_path: Path) -> None:
    """diff of an agent shows the patches that were pushed to it from this home."""
    agent = fleet.add()
    assert cli("diff", agent.name).code == 4
    path = tmp_path / "fix.zdp"
    path.write_bytes(mint.bundle("ci"))
    assert cli("push", path, "--yes").code == 0
    path.unlink()
    assert "+VAT = 2" in cli("diff", agent.name, "shop.cart").out
    agent.patches[ONE] = msgspec.structs.replace(next(iter(agent.patches.values())), digest=ONE)
    assert cli("diff", agent.name, "--json").error["code"] == "ZDP-212"
    assert cli("diff", "nobody").code == 5


def test_difference_of_a_definition() -> None:
    """One method is compared with its decorators and nothing around it."""
    old = b"class A:\n    @property\n    def f(self):\n        return 1\n    x = 1\n"
    change = ModuleChange("m", "m.py", False, old, old.replace(b"1", b"2"))
    text = "".join(difference(change, "m:A.f"))
    assert "-        return 1" in text
    assert "x = " not in text
    assert difference(change, "other") == []
    assert excerpt("if 1:\n    def f():\n        pass\n", "f") == "    def f():\n        pass\n"
    assert excerpt("def f(:", "f") == ""
