"""No thread sees a half-applied patch; the same readers see one when the functions are set one
by one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).parent / "racing_child.py"


def race(how: str, seconds: float, flips: int = 0) -> dict[str, Any]:
    """Run the race in a child interpreter; its counts."""
    done = subprocess.run(
        [sys.executable, str(CHILD), how, str(seconds), str(flips)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "seconds", "flips"), [("engine", 10, 6), ("swap", 6, 100)])
def test_no_reader_sees_half_a_patch(how: str, seconds: float, flips: int) -> None:
    """Over millions of reads of two modules, none is half old and half new."""
    told = race(how, seconds, flips)
    assert told["torn"] == 0, told
    assert told["flips"] >= flips, told
    assert told["reads"] >= 1_000_000, told


@pytest.mark.e2e
def test_the_readers_can_see_half_a_patch() -> None:
    """The control: a Python loop over the same functions is seen torn."""
    assert race("loop", 2)["torn"] > 0
