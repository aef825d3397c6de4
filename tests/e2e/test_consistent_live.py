"""`push --consistent` and `rollback --consistent` on a service under load, and the same without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.command import announced
from tests.engine.consistent_child import FRAME, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
PROGRAM = Path(__file__).parent / "programs" / "under_load.py"
ROOT = Path(__file__).parents[2]


class Loaded:
    """The service, and the bundle that changes all that its requests call."""

    def __init__(self, place: Place) -> None:
        self.place = place
        for tree, version in (("a", 1), ("b", 2)):
            (place.path / tree).mkdir()
            (place.path / tree / "shop.py").write_text(source(version, values=False))
            (place.path / tree / "frame.py").write_text(FRAME)
        place.build(base="a", new="b")
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "ZDPATCH_HOME": str(place.path / "h"), "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(place.path / "a")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"
        announced(place.path, self.process.pid)

    def ended(self) -> dict[str, Any]:
        """What its requests saw."""
        told: dict[str, Any] = json.loads(self.process.communicate(timeout=30)[0])
        assert not told["failed"], told
        assert told["both"] == [1, 2], told
        return told


@pytest.fixture
def loaded(place: Place) -> Iterator[Loaded]:
    """It runs; it is ended afterwards."""
    made = Loaded(place)
    yield made
    made.process.kill()
    made.process.communicate()


def test_no_request_is_mixed(loaded: Loaded) -> None:
    """The patch goes in and out three times while thousands of requests run."""
    for _ in range(3):
        pushed = loaded.place.json("push", "fix.zdp", "--yes", "--consistent", "--limit", "40s")
        (target,) = pushed["targets"]
        assert (target["outcome"], target["patch_state"]) == ("applied", "trial"), target
        gone = loaded.place.json("rollback", "FIX-1", "--consistent", "--limit", "40s")
        assert gone["state"] == "reverted"
        assert loaded.place.json("status")["agents"][0]["patches"][0]["state"] == "reverted"
    told = loaded.ended()
    assert not told["mixed"], told
    assert {"request", "task", "call", "chain"} <= told["done"].keys(), told


def test_they_are_mixed_at_one_instant(loaded: Loaded) -> None:
    """The control: the same load, the same patch, without --consistent."""
    for _ in range(10):
        loaded.place.json("push", "fix.zdp", "--yes")
        loaded.place.json("rollback", "FIX-1")
    assert loaded.ended()["mixed"], "the load would show nothing"


def test_the_plan_says_what_it_means(loaded: Loaded) -> None:
    """Which functions are dispatched, and who calls them from outside of the patch."""
    told = loaded.place.run("push", "fix.zdp", "--plan", "--consistent", code=10)
    assert "dispatched" in told
    assert "shop:rate" in told
    assert "frame:twice" in told
    plan = loaded.place.json("push", "fix.zdp", "--plan", "--consistent", code=10)
    found = plan["targets"][0]["plan"]["consistent"]
    assert found["together"] == []
    assert "frame:twice" in found["callers"]["shop:rate"]
    loaded.place.run("push", "fix.zdp", "--plan", "--limit", "3s", code=2)


def test_a_bundle_may_ask_for_it(loaded: Loaded) -> None:
    """Built so, it goes in so without a word of the operator; `inspect` says it."""
    loaded.place.build("--consistent", "--limit", "40s", "--on-limit", "abort", base="a", new="b")
    told = loaded.place.run("inspect", "fix.zdp")
    assert "consistently, 40 s at most, else not at all" in told
    for _ in range(2):
        assert loaded.place.json("push", "fix.zdp", "--yes")["state"] == "applied"
        loaded.place.json("rollback", "FIX-1", "--consistent", "--limit", "40s")
    assert not loaded.ended()["mixed"]
