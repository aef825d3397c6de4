"""What the journal wants is in every worker before it serves: after a replacement as before."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.command import zdpatch
from tests.e2e.handoff.fleet import running
from tests.e2e.handoff.load import answer, clients

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
OLD = "RATE = 2\n\n\ndef price(net):\n    return net\n"
NEW = "RATE = 3\n\n\ndef price(net):\n    return net * RATE\n"
SLOTTED = """
class Cart:
    __slots__ = ("net",)

    def __init__(self, net):
        self.net = net

    def total(self):
        return self.net


def price(net):
    return Cart(net).total()


BASKET = Cart(0)
"""
WIDER = """
class Cart:
    __slots__ = ("net", "vat")

    def __init__(self, net):
        self.net = net
        self.vat = net

    def total(self):
        return self.net + self.vat


def price(net):
    return Cart(net).total()


BASKET = Cart(0)
"""
MAIN = """
import service
from shop import cart

asgi, wsgi = service.asgi, service.wsgi
service.name = lambda: f"{cart.price(5)} {cart.__file__}".encode()
"""
COMMANDS = {
    "uvicorn": (("-m", "uvicorn", "--no-access-log", "main:asgi"), 2),
    "gunicorn": (
        ("-m", "gunicorn", "--no-control-socket", "--preload", "--threads", "8", "main:wsgi"),
        4,
    ),
}
"""Name -> its command, and how many processes have an agent."""


@pytest.fixture
def place() -> Generator[Path]:
    """A short path with the old tree, a key, and a home that trusts it."""
    path = Path(tempfile.mkdtemp(prefix="zdp-", dir="/tmp"))
    for tree, cart in ((".", OLD), ("old", OLD), ("new", NEW)):
        (path / tree / "shop").mkdir(parents=True)
        (path / tree / "shop/__init__.py").write_text("")
        (path / tree / "shop/cart.py").write_text(cart)
    (path / "main.py").write_text(MAIN)
    zdpatch(path, "keygen", "ci.key", "--no-passphrase")
    zdpatch(path, "trust", "init", "--key", "ci.pub")
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("server", COMMANDS)
def test_new_workers_have_the_patches(place: Path, server: str) -> None:
    """Pushed in place, brought up by a replacement, and gone after a rollback and another one."""
    words, agents = COMMANDS[server]
    command = (sys.executable, *words)
    with running(place, *command, options=("--app", "shop", "--warm", "1s")) as fleet:
        fleet.wait(["serving", "serving"])
        assert answer(fleet.where).startswith("5 ")
        while len(list((place / "h/agents").glob("*/agent.json"))) < agents:
            fleet.shown()
        _push(place)
        with clients(fleet.where, share=0.5) as tally:
            assert answer(fleet.where).startswith("15 ")
            assert fleet.replace()["done"]["ok"], fleet.log
            for _ in range(10):
                assert answer(fleet.where).startswith("15 ")
            shown = fleet.wait(["serving", "serving"], generation=2)
            new = [worker for worker in shown.workers if worker.generation == 2]
            assert [worker.started_with for worker in new] == [["FIX-1"], ["FIX-1"]]
        assert tally.clean(), tally
        fleet.wait(["serving", "serving"])  # the old ones have ended
        zdpatch(place, "rollback", "FIX-1")
        assert answer(fleet.where).startswith("5 ")
        assert fleet.replace()["done"]["ok"], fleet.log
        assert answer(fleet.where).startswith("5 ")


def test_what_cannot_go_in_place(place: Path) -> None:
    """The plan names the command that replaces the workers: the same bundle goes in with it."""
    for tree, cart in ((".", SLOTTED), ("old", SLOTTED), ("new", WIDER)):
        (place / tree / "shop/cart.py").write_text(cart)
    command = (sys.executable, *COMMANDS["uvicorn"][0])
    with running(place, *command, options=("--app", "shop", "--warm", "1s")) as fleet:
        fleet.wait(["serving", "serving"])
        while len(list((place / "h/agents").glob("*/agent.json"))) < 2:
            fleet.shown()
        _build(place, "--allow-unsafe")
        with clients(fleet.where, share=0.5) as tally:
            refused = fleet.zdpatch("push", str(place / "fix.zdp"), "--yes")
            assert refused.returncode == 4, refused
            assert "--replace-workers" in refused.stderr
            assert answer(fleet.where).startswith("5 ")
            words = ("push", "fix.zdp", "--replace-workers", "--json")
            assert json.loads(zdpatch(place, *words, "--plan", code=10))["state"] == "planned"
            pushed = json.loads(zdpatch(place, *words, "--yes"))
            assert pushed["state"] == "applied"
            assert {target["patch_state"] for target in pushed["targets"]} == {"trial"}
            assert pushed["services"][0]["done"]["generation"] == 2
            for _ in range(10):
                assert answer(fleet.where).startswith("10 ")
            fleet.wait(["serving", "serving"])
            zdpatch(place, "confirm", "FIX-1")
            assert fleet.replace()["done"]["ok"]
            assert answer(fleet.where).startswith("10 ")
        assert tally.clean(), tally


def test_a_trial_that_cannot_end_in_place(place: Path) -> None:
    """Nobody keeps it, and it cannot be taken out of what runs: its workers are replaced again."""
    based = SLOTTED.replace("class Cart:", "class Cart(dict):").replace(
        "self.net =", "self.net = 2 *"
    )
    for tree, cart in ((".", SLOTTED), ("old", SLOTTED), ("new", based)):
        (place / tree / "shop/cart.py").write_text(cart)
    command = (sys.executable, *COMMANDS["uvicorn"][0])
    with running(place, *command, options=("--app", "shop", "--warm", "1s")) as fleet:
        fleet.wait(["serving", "serving"])
        while len(list((place / "h/agents").glob("*/agent.json"))) < 2:
            fleet.shown()
        _build(place, "--allow-unsafe")
        push = ("push", str(place / "fix.zdp"), "--yes", "--replace-workers", "--trial", "8s")
        fleet.zdpatch(*push)
        while fleet.shown().generation < 3:
            answer(fleet.where)
        assert answer(fleet.where).startswith("5 ")
        assert "its trial is over and it cannot be taken out" in fleet.log


def test_new_workers_without_it_are_not_used(place: Path) -> None:
    """A patch that new workers do not take is wanted of nobody afterwards; the old ones serve."""
    command = (sys.executable, *COMMANDS["uvicorn"][0])
    with running(place, *command, options=("--app", "shop", "--warm", "1s")) as fleet:
        fleet.wait(["serving", "serving"])
        while len(list((place / "h/agents").glob("*/agent.json"))) < 2:
            fleet.shown()
        _build(place)
        (place / "shop/cart.py").write_text("def price(net):\n    return net + 1\n")  # a deploy
        done = fleet.zdpatch("push", str(place / "fix.zdp"), "--yes", "--replace-workers")
        assert done.returncode == 6, done
        assert "ready without FIX-1" in done.stderr
        assert "this release changed what it fixes" in done.stderr
        assert answer(fleet.where).startswith("5 ")
        status = json.loads(zdpatch(place, "status", "--json"))
        assert {row["wanted"] for one in status["agents"] for row in one["patches"]} == {"reverted"}


def _build(place: Path, *options: str) -> None:
    ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp", "--id", "FIX-1")
    zdpatch(place, "build", *ends, "--sign", "ci.key", *options)


def _push(place: Path) -> None:
    _build(place)
    pushed = json.loads(zdpatch(place, "push", "fix.zdp", "--yes", "--confirm", "--json"))
    assert pushed["state"] == "applied", pushed
