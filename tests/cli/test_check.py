"""Verdicts reach people, CI annotations and code scanning with the same content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli import verdicts
from zdpatch.patcher.errors import Verdict
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli
    from tests.conftest import Mint

SLOTS = b"class Cart:\n    __slots__ = ('a',)\n"
BAD = (ModuleChange("shop.cart", "shop/cart.py", False, SLOTS, SLOTS.replace(b"'a',", b"'b',")),)


@pytest.fixture
def good(mint: Mint, tmp_path: Path) -> Path:
    """A bundle whose edits can go in place."""
    path = tmp_path / "good.zdp"
    path.write_bytes(mint.bundle())
    return path


@pytest.fixture
def bad(mint: Mint, tmp_path: Path) -> Path:
    """A bundle with an edit that cannot."""
    path = tmp_path / "bad.zdp"
    path.write_bytes(mint.bundle(changes=BAD))
    return path


def test_good(cli: Cli, good: Path) -> None:
    """All in place: exit 0, signed or not."""
    ran = cli("check", good, "--json")
    assert ran.code == 0
    assert ran.json["in_place"] is True
    assert ran.json["schema"] == "zdpatch.check/v1"


def test_bad(cli: Cli, bad: Path) -> None:
    """One that is not: exit 4, with the definition, the line and the reason."""
    ran = cli("check", bad)
    assert ran.code == 4
    assert "shop.cart:Cart" in ran.out
    found = cli("check", bad, "--json").json["verdicts"]
    assert any(verdict["row"] != "A" and verdict["line"] for verdict in found)


def test_sarif(cli: Cli, bad: Path, tmp_path: Path) -> None:
    """The SARIF file names the file in the repository and a fingerprint that ignores lines."""
    log = tmp_path / "out.sarif"
    assert cli("check", bad, "--sarif", log, "--prefix", "src/").code == 4
    written = json.loads(log.read_text())
    assert written["version"] == "2.1.0"
    result = written["runs"][0]["results"][0]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "src/shop/cart.py"
    assert place["region"]["startLine"] >= 1
    rules = {rule["id"] for rule in written["runs"][0]["tool"]["driver"]["rules"]}
    assert result["ruleId"] in rules


def test_gitlab(cli: Cli, bad: Path) -> None:
    """The Code Quality report is one JSON list."""
    report = json.loads(cli("check", bad, "--format", "gitlab").out)
    assert report[0]["location"]["path"] == "shop/cart.py"
    assert len(report[0]["fingerprint"]) == 64


def test_github(cli: Cli, bad: Path) -> None:
    """A workflow command points at file and line."""
    line = cli("check", bad, "--format", "github").out.splitlines()[0]
    assert line.startswith("::error file=shop/cart.py,line=")


def test_github_escapes() -> None:
    """Nothing in a verdict can end a workflow command or begin another."""
    nasty = Verdict("a:b", 1, "edit", "X", "50%\r\n::set-env name=x::y")
    (line,) = verdicts.github([nasty], {"a": "x,y:z.py"})
    assert "\n" not in line
    assert "file=x%2Cy%3Az.py" in line
    assert "50%25%0D%0A" in line


def test_fingerprint_survives_moves() -> None:
    """A finding that moves to another line keeps its fingerprint."""
    here, there = (Verdict("a:b", line, "edit", "R", "reason") for line in (1, 99))
    assert (
        verdicts.gitlab([here], {})[0]["fingerprint"]
        == (verdicts.gitlab([there], {})[0]["fingerprint"])
    )


def test_not_a_bundle(cli: Cli, tmp_path: Path) -> None:
    """A file that is no bundle: exit 3; a file that is not there: exit 2."""
    (tmp_path / "x.zdp").write_bytes(b"nonsense")
    assert cli("check", tmp_path / "x.zdp").code == 3
    assert cli("check", tmp_path / "y.zdp").code == 2
