"""Edits that once were applied wrongly: each is right, as a fresh process shows, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "cases" / "against_fresh.json").read_text())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
def test_right_or_refused(part: int) -> None:
    """Every edit gives what a fresh process gives and comes out again, or touches nothing."""
    cases = CASES[part::4]
    done = subprocess.run(
        [sys.executable, str(HERE / "fresh_child.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    outcomes = dict(zip([case["name"] for case in cases], json.loads(done.stdout), strict=True))
    wrong = {
        case["name"]: outcomes[case["name"]]
        for case in cases
        if outcomes[case["name"]] not in ({"same"} if case["applies"] else {"same", "refused"})
    }
    assert not wrong
