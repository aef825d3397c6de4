"""The published table is tested row by row: what goes in does, what is refused says so in a row
of that name, and a control shows that it really breaks.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import cases

TESTS = Path(__file__).parents[1]
TABLE: dict[str, dict[str, list[str]]] = tomllib.loads(
    (TESTS / "engine" / "cases" / "table.toml").read_text()
)
KNOWN: dict[str, dict[str, Any]] = {case["id"]: case for case in cases()}


def published() -> dict[str, str]:
    """The first two columns of the table in docs/patchability.md."""
    page = (TESTS.parent / "docs" / "patchability.md").read_text()
    lines = page.partition("|---|---|---|\n")[2].partition("\n\n")[0].split("\n")
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {edit: row for _, edit, row, *_ in cells}


def refused(name: str) -> set[str]:
    """The rows that a scenario must be refused with; empty when it must go in."""
    sections = KNOWN[name]["sections"]
    lines = [line.split() for line in sections.get("refused", "").split("\n")]
    told = {row for words in lines if len(words) > 1 for row in words[1].split("|")}
    return told or ({"X"} if "refused" in sections else set())


def test_no_row_is_forgotten() -> None:
    """Every row of the page has its line in table.toml, and every line its row."""
    found = {edit: [key for key in TABLE["rows"] if edit.startswith(key)] for edit in published()}
    assert [edit for edit, keys in found.items() if len(keys) != 1] == []
    assert {key for keys in found.values() for key in keys} == TABLE["rows"].keys()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in TABLE for name in TABLE[kind]])
def test_what_proves_it_is_there(kind: str, name: str) -> None:
    """Each line names scenarios, or other tests, that exist."""
    for one in TABLE[kind][name]:
        path, _, function = one.partition("::")
        if path.endswith(".py"):
            assert f"def {function or 'test_'}" in (TESTS / path).read_text()
        else:
            assert one in KNOWN


@pytest.mark.parametrize("edit", published())
def test_a_row_says_what_its_scenarios_show(edit: str) -> None:
    """Rows with an A have a scenario that goes in, rows with another letter one that is refused
    with it and has a control; and no scenario of a row is refused with a letter that it lacks.
    """
    row, key = published()[edit], next(key for key in TABLE["rows"] if edit.startswith(key))
    named = [one for one in TABLE["rows"][key] if ".py" not in one]
    letters = {word for word in row.replace(",", "").split() if len(word) == 1}
    goes_in = [one for one in named if not refused(one)]
    controlled = {
        row for one in named if "breaks" in KNOWN[one]["sections"] for row in refused(one)
    }
    assert goes_in or "A" not in letters or not named
    assert letters - {"A"} <= controlled or len(named) < len(TABLE["rows"][key])
    assert not letters or {row for one in named for row in refused(one)} <= letters
