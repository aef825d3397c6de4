"""Real releases go into a live process: their own tests pass there, and nothing that was held
before is stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.network, pytest.mark.timeout(1800)]


def passing(report: dict[str, Any]) -> set[str]:
    """The tests of `report` that passed."""
    return {name for name, outcome in report["tests"].items() if outcome == "passed"}


def test_release(
    name: str, release: Callable[[str], Any], table: dict[str, dict[str, Any]]
) -> None:
    """Applied to a live old release, with all tests of the new one that pass fresh, or refused
    for the true reason.
    """
    pair = release(name)
    live = pair.run("live")
    row = table[name] = {"release": f"{pair.facts['old']} -> {pair.facts['new']}"}
    if pair.facts["expect"] != "applied":
        row["outcome"] = f"refused: {pair.facts['expect']}"
        paths = {verdict["path"] for verdict in live.get("verdicts", ())}
        assert pair.facts["expect"] in paths, live
        return
    assert "refused" not in live, live
    fresh = pair.run("new")
    lost = passing(fresh) - passing(live)
    row |= {
        "outcome": "applied",
        "tests fresh": len(passing(fresh)),
        "tests live": len(passing(live)),
        "changed functions held": live["held and changed"],
        "stale": len(live["stale"]),
        "plan ms": live["plan ms"],
        "flip us": live["flip us"],
    }
    if lost:
        # Tests of sockets and time-outs fail now and then: lost is what fails live twice.
        unsteady = lost & passing(pair.run("live"))
        row["unsteady"] = sorted(unsteady)
        lost -= unsteady
    row["lost"] = len(lost)
    assert live["check"], "the fix does not show in objects made before the patch"
    assert not live["stale"]
    assert not lost, (lost, row)
