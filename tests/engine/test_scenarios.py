"""Every scenario of cases/ holds: applied and undone to the last object, or refused with
nothing touched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.timeout(180)  # the child itself gives up, with a traceback, before that


def test_scenario(
    case: dict[str, Any], run_case: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """What the scenario's own first line says."""
    least = str(case["sections"].get("python", "3.11")).strip()
    if sys.version_info < tuple(int(part) for part in least.split(".")):
        pytest.skip(f"needs Python {least}")
    failed = run_case(case)["failed"]
    assert not failed, f"{case['proves']}\n{failed}"


def test_every_scenario_checks_something(case: dict[str, Any]) -> None:
    """A scenario says in a sentence what it proves, and has something to check."""
    assert case["proves"].endswith(".")
    assert "now" in case["sections"] or "refused" in case["sections"]
