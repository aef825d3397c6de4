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


def _push(place: Path) -> None:
    ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp", "--id", "FIX-1")
    zdpatch(place, "build", *ends, "--sign", "ci.key")
    pushed = json.loads(zdpatch(place, "push", "fix.zdp", "--yes", "--confirm", "--json"))
    assert pushed["state"] == "applied", pushed
