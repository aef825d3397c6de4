"""Starting an agent never fails an application, costs little, and is done before it serves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.live.conftest import run
from zdpatch.agent.protocol import Apply, Hello, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = pytest.mark.e2e


OFF = """
import json, sys
from zdpatch import agent
handle = agent.start(app="shop", home="/nowhere/at/all")
handle.stop()
loaded = [name for name in ("zmq", "sqlite3", "msgspec", "cryptography") if name in sys.modules]
print(json.dumps([handle.status(), list(agent.active()), loaded]))
"""


def test_off_is_read_first() -> None:
    """With ZDPATCH=off nothing is imported, opened or written."""
    status, active, loaded = run(OFF, ZDPATCH="off")
    assert status == {"state": "off", "reason": "ZDPATCH=off", "active": []}
    assert (active, loaded) == ([], [])


FAIL = """
import json, logging, sys
logging.basicConfig(stream=sys.stderr)
from zdpatch import agent
handle = agent.start(**json.loads({arguments!r}))
print(json.dumps(handle.status()))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        {"app": "../evil"},
        {"app": ""},
        {"app": "shop", "labels": {"a b": "c"}},
        {"app": "shop", "release": "1\n2"},
        {"app": "shop", "home": "/proc/nowhere"},
        {"app": "shop", "home": "/dev/null/x"},
    ],
)
def test_start_never_raises(arguments: dict[str, Any]) -> None:
    """Whatever is wrong, there is a handle that is off and says why."""
    status = run(FAIL.format(arguments=json.dumps(arguments)))
    assert status["state"] == "off"
    assert status["reason"]


@pytest.mark.parametrize("name", ["ZDPATCH_LABELS", "ZDPATCH_GROUP"])
def test_bad_environment(name: str, tmp_path: Path) -> None:
    """A bad variable is a reason, not an exception."""
    code = FAIL.format(arguments=json.dumps({"app": "shop", "home": str(tmp_path / "h")}))
    status = run(code, **{name: "no such thing"})
    assert (status["state"], name in status["reason"] or "key=value" in status["reason"]) == (
        "off",
        True,
    )


def test_others_may_not_write_the_home(tmp_path: Path) -> None:
    """A home that others can write to is not used."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    status = run(FAIL.format(arguments=json.dumps({"app": "shop", "home": str(home)})))
    assert "others can write" in status["reason"]


def test_no_apply(site: Site) -> None:
    """ZDPATCH=no-apply brings nothing up, lets nothing in, and answers."""
    first = site.start()
    digest, raw = site.fix()
    operator = site.operator(first)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    first.kill()
    child = site.start(env={"ZDPATCH": "no-apply"})
    assert child.tell("cart.vat()") == 1
    operator = site.operator(child)
    assert operator.ask(Apply(digest)).code == "ZDP-213"
    status = operator.ask(Status())
    assert status.agent.state == "held"
    assert status.result["held"]["by"] == "ZDPATCH=no-apply"
    assert status.result["patches"][0]["reason"] == "wanted, and not in this process"


def test_patched_before_start_returns(site: Site) -> None:
    """A restarted process has its patches when start() returns, without socket or network."""
    first = site.start()
    digest, raw = site.fix()
    operator = site.operator(first)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    first.kill()
    child = site.start(now=False)
    assert child.tell("cart.vat()") == 2
    assert child.tell("handle.status()")["state"] == "starting"
    child.door()
    site.eventually(lambda: child.tell("handle.status()")["state"] == "ready")


def test_a_plain_script_answers_within_two_seconds(site: Site) -> None:
    """Without `now` the socket opens a second later."""
    begun = time.monotonic()
    assert site.operator(site.start(now=False)).ask(Hello()).code == "ok"
    assert time.monotonic() - begun < 8


def test_a_long_home(site: Site) -> None:
    """A socket path that would be too long goes to a short private directory, and is removed."""
    site.home = site.root / ("h" * 90)
    site.home.mkdir(mode=0o700)
    site.trust()
    child = site.start()
    door = child.door()
    assert len(door.endpoint) < 107
    assert site.operator(child).ask(Hello()).code == "ok"
    place = door.endpoint.removeprefix("ipc://").rpartition("/")[0]
    assert child.tell(f"oct(os.stat({place!r}).st_mode & 0o777)") == "0o700"
    assert child.end() == 0
    assert not site.agents()
    assert not Path(place).exists()


def test_stop_and_start_again(site: Site) -> None:
    """A stopped agent answers nobody, keeps its patches in, and a new one reports them."""
    child = site.start()
    digest, raw = site.fix()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    assert child.tell("start().status()")["state"] == "ready"
    child.tell("handle.stop()")
    assert child.tell("[handle.status()['reason'], cart.vat()]") == ["stopped", 2]
    assert site.agents() == []
    child.tell("handle = start()")
    assert child.tell("[list(handle.status()['active']), cart.vat()]") == [["FIX-1"], 2]
    again = site.operator(child)
    assert again.ask(Status()).result["patches"][0]["state"] == "confirmed"
    assert again.ask(Revert("FIX-1")).code == "ok"
    assert child.tell("cart.vat()") == 1


def test_a_stopped_agent_leaves_no_trial(site: Site) -> None:
    """Nobody would end the trial any more, so it ends with the agent."""
    child = site.start()
    digest, raw = site.fix()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest))
    child.tell("handle.stop()")
    assert child.tell("cart.vat()") == 1


def test_an_ended_process_leaves_nothing(site: Site) -> None:
    """A normal end removes socket and file, and is no crash for a patch on trial."""
    digest, raw = site.fix()
    for _ in range(3):
        child = site.start()
        operator = site.operator(child)
        operator.ask(Stage(digest), raw)
        assert operator.ask(Apply(digest)).result["state"] == "trial"
        assert child.end() == 0
        assert list((site.home / "agents").iterdir()) == []


def test_dead_agents_are_swept(site: Site) -> None:
    """What a killed process left is removed by the next."""
    first = site.start()
    first.door()
    first.kill()
    second = site.start()
    mine = second.door().agent
    assert [path.name for path in (site.home / "agents").iterdir()] == [mine]


def test_idle(site: Site) -> None:
    """An idle agent wakes nobody: no context switch, no CPU time in half a second."""
    child = site.start()
    assert site.operator(child).ask(Hello()).code == "ok"
    look = (
        "[Path(f'/proc/self/task/{t}/status').read_text().split('voluntary_ctxt_switches:')[1]"
        ".split()[0] for t in sorted(os.listdir('/proc/self/task')) if int(t) != os.getpid()]"
    )
    child.tell("time.sleep(0.3)")
    before = child.tell(look)
    child.tell("time.sleep(0.5)")
    assert child.tell(look) == before


def test_the_journal_cannot_be_written(site: Site) -> None:
    """A read-only or foreign journal is a clear refusal, and the process serves."""
    (site.home / "apps" / "shop").mkdir(parents=True, mode=0o700)
    (site.home / "apps").chmod(0o700)
    (site.home / "apps" / "shop" / "journal.db").write_bytes(b"not a journal " * 100)
    child = site.start()
    assert child.tell("cart.vat()") == 1
    operator = site.operator(child)
    digest, raw = site.fix()
    answer = operator.ask(Stage(digest), raw)
    assert (answer.code, answer.agent.state) == ("ZDP-301", "off")
    assert any(
        "no patch was brought up" in said for said in child.tell("handle.status()")["warnings"]
    )


def test_what_is_decided_while_a_process_is_born(site: Site) -> None:
    """Between its start and its socket a process is not found: it looks again when it is."""
    old = site.start()
    operator = site.operator(old)
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    young = site.start(now=False)
    operator.ask(Apply(digest, trial_s=60))
    assert young.tell("cart.vat()") == 1
    site.eventually(lambda: young.tell("cart.vat()") == 2)
    younger = site.start(now=False)
    assert younger.tell("cart.vat()") == 2
    operator.ask(Revert(digest))
    site.operator(young).ask(Revert(digest))
    site.eventually(lambda: younger.tell("cart.vat()") == 1)


def test_what_is_decided_right_after_a_process_was_born(site: Site) -> None:
    """A push that began before it was there does not ask it: it looks itself."""
    early = site.start(follow_s=0.05)
    operator = site.operator(early)
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    born_meanwhile = site.start(follow_s=0.05)
    born_meanwhile.door()
    operator.ask(Apply(digest, trial_s=60))
    site.eventually(lambda: born_meanwhile.tell("cart.vat()") == 2)


TOGETHER = """
import json, os, sys, threading
from zdpatch import agent
gate, handles = threading.Barrier(8), []
def one():
    gate.wait()
    handles.append(agent.start(app="shop", home={home!r}, now=True))
threads = [threading.Thread(target=one) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([handle.status() for handle in handles]))
"""


def test_many_threads_start_it_at_once(tmp_path: Path) -> None:
    """There is one agent, and every thread has its handle."""
    found = run(TOGETHER.format(home=str(tmp_path / "home")))
    assert len(found) == 8
    assert len({status["agent"] for status in found}) == 1


LOAD = """
import json, sys, threading
from zdpatch.agent import later
later.keep()
gate, failed = threading.Barrier(8), []
def one(name):
    gate.wait()
    try:
        later.need(name)
        later.keep()
    except BaseException as error:
        failed.append(repr(error))
names = (later.ENGINE, later.SIGNATURES) * 4
threads = [threading.Thread(target=one, args=(name,)) for name in names]
sys.setswitchinterval(1e-6)
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([failed, sorted(later._finder.kept)]))
"""


def test_two_threads_load_at_once() -> None:
    """What was kept is used and let go of once."""
    for _ in range(3):
        failed, kept = run(LOAD)
        assert failed == []
        assert not {"cryptography.hazmat.primitives", "zdpatch.agent.local"} & set(kept)
