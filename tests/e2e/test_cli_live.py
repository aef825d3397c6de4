"""The whole way through the command line: build, sign, push into real processes, and out again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.command import announced, zdpatch

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

OLD = "RATE = 2\n\n\ndef price(net):\n    return net\n"
NEW = "RATE = 3\n\n\ndef price(net):\n    return net * RATE\n"
SHOP = """
import sys

from shop import cart
from zdpatch import agent

agent.start(app="shop", labels={"zone": sys.argv[1]}, now=True)
price = cart.price
print("up", flush=True)
for line in sys.stdin:
    print(price(int(line)), *agent.active(), flush=True)
"""


class Process:
    """A service whose state is its pid, asked through its stdin."""

    def __init__(self, place: Path, zone: str, tree: str, environ: dict[str, str]) -> None:
        path = os.pathsep.join([str(place / tree), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "ZDPATCH_HOME": str(place / "h"), "PYTHONPATH": path, **environ}
        self._child = subprocess.Popen(
            [sys.executable, "-c", SHOP, zone],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def wait_for_the_agent(self, place: Path) -> None:
        """Return when it can be found."""
        assert self._child.stdout is not None
        assert self._child.stdout.readline() == "up\n"
        announced(place, self.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ask(self, net: int) -> str:
        """What price it says, and the active patches."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{net}\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().strip()

    def kill(self) -> None:
        """End it without a word."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def end(self) -> None:
        """Let it end by itself."""
        self._child.communicate()

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.communicate()


@dataclass
class Place:
    """A folder with two trees, a key, a home that trusts it, and services."""

    path: Path
    services: list[Process] = field(default_factory=list[Process])

    def serve(self, zone: str = "a", tree: str = "old", **environ: str) -> Process:
        """Start a service from a tree."""
        service = self.start(zone, tree, **environ)
        service.wait_for_the_agent(self.path)
        return service

    def start(self, zone: str = "a", tree: str = "old", **environ: str) -> Process:
        """The same without an agent to wait for."""
        service = Process(self.path, zone, tree, environ)
        self.services.append(service)
        return service

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `zdpatch` as a process; its stdout. Fails unless it ends with `code`."""
        return zdpatch(self.path, *arguments, code=code)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The same with --json."""
        value: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code))
        return value

    def build(self, *more: str, base: str = "old", new: str = "new") -> dict[str, Any]:
        """Build and sign `fix.zdp`."""
        ends = ("--from", base, "--to", new, "--app", "shop", "-o", "fix.zdp")
        return self.json("build", *ends, "--id", "fix-1", "--sign", "ci.key", *more)


@pytest.fixture
def place() -> Iterator[Place]:
    """A place in a short path; its services are ended afterwards."""
    path = Path(tempfile.mkdtemp(prefix="zdp-", dir="/tmp"))
    for tree, cart in (("old", OLD), ("new", NEW)):
        (path / tree / "shop").mkdir(parents=True)
        (path / tree / "shop/__init__.py").write_text("")
        (path / tree / "shop/cart.py").write_text(cart)
    made = Place(path)
    made.run("keygen", "ci.key", "--no-passphrase")
    made.run("trust", "init", "--key", "ci.pub")
    yield made
    for service in made.services:
        service.close()
    shutil.rmtree(path)


def test_a_fix_goes_in_and_out(place: Place) -> None:
    """Two processes get the fix without a restart, keep it when confirmed, and lose it exactly."""
    services = [place.serve(), place.serve("b")]
    assert [service.ask(5) for service in services] == ["5", "5"]
    place.build("--fixes", "CVE-2026-1")
    place.json("status", "--require", "CVE-2026-1", code=9)
    assert place.json("push", "fix.zdp", "--plan", code=10)["state"] == "planned"
    assert [service.ask(5) for service in services] == ["5", "5"]
    pushed = place.json("push", "fix.zdp", "--yes", "-m", "the bug")
    assert [target["outcome"] for target in pushed["targets"]] == ["applied", "applied"]
    assert [service.ask(5) for service in services] == ["15 FIX-1", "15 FIX-1"]
    place.json("status", "--require", "CVE-2026-1")
    assert place.json("push", "fix.zdp", "--yes")["state"] == "already"
    assert place.json("confirm", "FIX-1")["state"] == "confirmed"
    assert "+    return net * RATE" in place.run("diff", str(services[0].pid), "shop.cart:price")
    assert place.json("rollback")["state"] == "reverted"
    assert [service.ask(5) for service in services] == ["5", "5"]
    moves = place.json("history")["apps"]["shop"]["rows"]
    assert {"trial", "confirmed", "reverted"} <= {row["new"] for row in moves}
    trail = place.json("audit")["apps"]["shop"]
    assert trail["intact"] is True
    assert "the bug" in str(trail["rows"])


def test_what_is_left_is_told(place: Place) -> None:
    """`status --detail` names what runs the patch, and says when nothing of the other code is."""
    place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    counts = ("frames", "suspended", "functions", "bound", "instances", "tables")
    none: dict[str, object] = {kind: {} for kind in counts}
    assert patch["left"] == {"runs": ["shop.cart:price"], "waiting": [], **none}
    assert patch["notices"] == []
    told = place.run("status", "--detail")
    assert "runs it   shop.cart:price" in told
    assert "old code  nothing is left of it" in told
    place.run("rollback", "FIX-1")
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    assert patch["left"] == {"runs": [], "waiting": [], **none}
    assert "new code  nothing is left of it" in place.run("status", "--detail")


def test_what_the_old_initialiser_made_is_told(place: Place) -> None:
    """The plan, the push and `status --detail` say how many objects the old initialiser made."""
    basket = "class Basket:\n    def __init__(self):\n        self.limit = 1\nKEPT = Basket()\n"
    (place.path / "old/shop/cart.py").write_text(OLD + basket)
    (place.path / "new/shop/cart.py").write_text(NEW + basket.replace("limit = 1", "limit = 2"))
    place.serve()
    place.build()
    told = "shop.cart:Basket: a live object was made by the old Basket.__init__"
    assert told in place.run("push", "fix.zdp", "--plan", code=10)
    (target,) = place.json("push", "fix.zdp", "--yes")["targets"]
    assert told in str(target["notices"])
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    assert told in str(patch["notices"])
    assert told in place.run("status", "--detail")


def test_a_data_file_goes_in_and_out(place: Place) -> None:
    """A data file goes in with a running process, is there after a restart, and goes out; one that
    the process does not have is refused.
    """
    cart = (
        "import json\nfrom pathlib import Path\n\n\n"
        "def price(net):\n"
        "    return net * json.loads((Path(__file__).parent / 'rate.json').read_text())\n"
    )
    for tree, rate in (("old", "1"), ("new", "3"), ("newer", "4")):
        (place.path / tree / "shop").mkdir(parents=True, exist_ok=True)
        (place.path / tree / "shop/__init__.py").write_text("")
        (place.path / tree / "shop/cart.py").write_text(cart)
        (place.path / tree / "shop/rate.json").write_text(rate)
    first = place.serve()
    assert place.build(base="new", new="newer")["data"] == ["shop/rate.json"]
    error = place.json("push", "fix.zdp", "--yes", code=4)["error"]
    assert (error["code"], "shop/rate.json" in error["cause"]) == ("ZDP-201", True)
    built = place.build()
    assert built["modules"] == ["shop", "shop.cart"]
    assert "+3" in place.run("diff", "fix.zdp")
    assert "2 modules, 1 data file" in place.run("inspect", "fix.zdp")
    assert place.json("check", "fix.zdp")["in_place"] is True
    place.run("push", "fix.zdp", "--yes", "--confirm")
    assert first.ask(5) == "15 FIX-1"
    assert (place.path / "old/shop/rate.json").read_text() == "1"
    first.end()
    second = place.serve()
    assert second.ask(5) == "15 FIX-1"
    third = place.serve(tree="new")  # a release that has it
    assert third.ask(5) == "15"
    place.run("rollback", "FIX-1")
    assert second.ask(5) == "5"


def test_one_that_runs_something_else_stops_all(place: Place) -> None:
    """If one process runs another base, none changes; --partial changes those which can."""
    same = place.serve()
    text = OLD.replace("return net", "return net + 1")
    (place.path / "other" / "shop").mkdir(parents=True)
    (place.path / "other/shop/__init__.py").write_text("")
    (place.path / "other/shop/cart.py").write_text(text)
    other = place.serve(tree="other")
    place.build()
    refused = place.json("push", "fix.zdp", "--yes", code=4)["error"]
    assert refused["code"] == "ZDP-201"
    assert "shop.cart" in refused["cause"] + str(refused["verdicts"])
    assert (same.ask(5), other.ask(5)) == ("5", "6")
    partial = place.json("push", "fix.zdp", "--yes", "--partial", code=9)
    assert sorted(target["outcome"] for target in partial["targets"]) == ["applied", "refused"]
    assert (same.ask(5), other.ask(5)) == ("15 FIX-1", "6")
    assert place.json("status", code=9)["state"] == "degraded"


def test_silence_reverts(place: Place) -> None:
    """A trial that nobody confirms ends by itself, and --wait tells it with exit 6."""
    service = place.serve()
    place.build()
    error = place.json("push", "fix.zdp", "--yes", "--trial", "1s", "--wait", code=6)["error"]
    assert error["code"] == "ZDP-501"
    assert service.ask(5) == "5"


def test_refused_bundles_change_nothing(place: Place) -> None:
    """Unsigned, tampered with, or signed by a stranger: exit 3, and the service is as it was."""
    service = place.serve()
    place.build()
    file = place.path / "fix.zdp"
    good = file.read_bytes()
    at = good.index(b"net * RATE")
    file.write_bytes(good[:at] + b"net + RATE" + good[at + 10 :])
    place.run("push", "fix.zdp", "--yes", code=3)
    place.run("keygen", "evil.key", "--no-passphrase")
    ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp")
    place.run("build", *ends)
    assert place.json("push", "fix.zdp", "--yes", code=3)["error"]["code"] == "ZDP-103"
    place.run("sign", "fix.zdp", "--key", "evil.key")
    assert place.json("push", "fix.zdp", "--yes", code=3)["error"]["code"] == "ZDP-103"
    assert service.ask(5) == "5"


def test_killed_process_is_no_target(place: Place) -> None:
    """A killed process is skipped and what it left is removed; the other one is patched."""
    dead, alive = place.serve(), place.serve()
    dead.kill()
    place.build()
    assert len(place.json("push", "fix.zdp", "--yes", "--confirm")["targets"]) == 1
    assert alive.ask(5) == "15 FIX-1"
    assert len(list((place.path / "h" / "agents").iterdir())) == 1


def test_hold(place: Place) -> None:
    """While an application is held nothing new comes in, and what is in can still go out."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes")
    place.run("hold", "-m", "sale")
    place.run("rollback", "FIX-1")
    assert place.json("push", "fix.zdp", "--yes", code=4)["error"]["code"] == "ZDP-213"
    place.run("hold", "--off")
    place.run("push", "fix.zdp", "--yes")
    assert service.ask(5) == "15 FIX-1"


def test_recovery_of_a_service_that_crashes(place: Place) -> None:
    """Start with no-apply, roll back, start again: the confirmed patch does not come back."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    assert "FIX-1" in place.run("history")
    quiet = place.serve(ZDPATCH="no-apply")
    assert quiet.ask(5) == "5"
    place.run("status", code=9)
    assert "FIX-1" in place.run("history")
    out = place.run("rollback", "FIX-1")
    assert "FIX-1 ran in none of 1 process, and is not wanted any more" in out
    place.run("status")
    assert "FIX-1 is out already" in place.run("rollback", "FIX-1")
    quiet.kill()
    assert place.serve().ask(5) == "5"
    place.run("status")


def files(place: Place) -> dict[str, bytes]:
    """Everything that the application keeps, byte by byte."""
    found = sorted((place.path / "h/apps/shop").rglob("*"))
    return {str(path): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize("end", ["killed", "ended", "off", "stopped"])
def test_history_of_a_service_that_does_not_answer(place: Place, end: str) -> None:
    """The journal is read where no process answers: said so, complete, and not touched."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm", "-m", "the bug")
    asked = place.json("history")["apps"]["shop"]
    assert asked["source"] == "process"
    if end == "stopped":
        os.kill(service.pid, signal.SIGSTOP)
    elif end == "ended":
        service.end()
    else:
        service.kill()
    if end == "off":
        place.start(ZDPATCH="off")
    before = files(place)
    read = place.json("history", "--timeout", "1s")["apps"]["shop"]
    assert (read["source"], read["rows"]) == ("journal", asked["rows"])
    assert "no process of it answers" in place.run("history", "--timeout", "1s", "--to", "app=sh*")
    trail = place.json("audit", "--timeout", "1s")["apps"]["shop"]
    assert (trail["source"], trail["intact"]) == ("journal", True)
    assert "the bug" in str(trail["rows"])
    assert files(place) == before
    place.run("history", "--to", "pid=1", code=5)
    place.run("history", "--to", "app=jobs", code=5)


def test_a_damaged_journal_that_nobody_answers_for(place: Place) -> None:
    """The exit codes are those of an answer: 9 for a broken chain and for a file that is none."""
    place.serve().end()
    journal = place.path / "h/apps/shop/journal.db"
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as db:
        db.execute("INSERT INTO audit VALUES (1, 'mine', '', '')")
    trail = place.json("audit", code=9)["apps"]["shop"]
    assert (trail["broken_at"], trail["rows"][0]["detail"]) == (1, "mine")
    assert "broken at row 1" in place.run("audit", code=9)
    journal.write_bytes(b"nothing of this kind" * 100)
    assert place.json("audit", code=9)["error"]["code"] == "ZDP-301"


def test_rollback_without_a_name_finds_what_would_come_back(place: Place) -> None:
    """Where nothing runs, the newest patch that a start would bring up is meant."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    place.serve(ZDPATCH="no-apply").ask(5)
    assert place.json("rollback")["state"] == "reverted"
    assert place.serve().ask(5) == "5"
    assert place.json("rollback", code=4)["error"]["code"] == "ZDP-213"


def test_superseded_patches_are_dropped(place: Place) -> None:
    """A release that changed what a patch fixes: rollback drops the patch, in every process."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    (place.path / "other/shop").mkdir(parents=True)
    (place.path / "other/shop/__init__.py").write_text("")
    (place.path / "other/shop/cart.py").write_text(OLD.replace("return net", "return net + 1"))
    after = [place.serve(tree="other"), place.serve(tree="other")]
    place.run("status", code=9)
    assert len(place.json("rollback", "FIX-1")["targets"]) == 2
    states = [row["patches"][0]["state"] for row in place.json("status")["agents"]]
    assert states == ["reverted", "reverted"]
    after.append(place.serve(tree="other"))
    assert [one.ask(5) for one in after] == ["6", "6", "6"]
    place.run("status")


def test_push_into_a_process_that_lacks_what_is_wanted(place: Place) -> None:
    """What is wanted of the application and not in a process is no "already" there."""
    first, second = place.serve("a"), place.serve("b")
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm", "--to", "zone=a")
    assert (first.ask(5), second.ask(5)) == ("15 FIX-1", "5")
    place.run("push", "fix.zdp", "--yes", "--confirm")
    assert (first.ask(5), second.ask(5)) == ("15 FIX-1", "15 FIX-1")
