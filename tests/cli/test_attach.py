"""What a bundle brings beside the change is signed for, and read without being run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.test_build import write_tree
from zdpatch.cli.bundlefile import read_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Ran

CHECKS = "import os\nos.abort()\n\n\ndef test_price():\n    assert False\n"


def build(cli: Cli, root: Path, *more: str | Path) -> Ran:
    """A bundle of a small change in `root`."""
    if not (root / "old").exists():
        write_tree(root / "old", "def price(x):\n    return x\n")
        write_tree(root / "new", "def price(x):\n    return x * 3\n")
    ends = ("--from", root / "old", "--to", root / "new", "--app", "shop", "--seq", "1")
    return cli("build", *ends, "-o", root / "fix.zdp", *more)


def test_a_probe_is_in_the_bundle(cli: Cli, tmp_path: Path) -> None:
    """Its name, source and time are; it was not run; the same inputs give the same bytes."""
    for name in ("checks.py", "again.py"):
        (tmp_path / name).write_text(CHECKS)
    probes = ("--probe", tmp_path / "checks.py", "--probe", tmp_path / "again.py")
    assert build(cli, tmp_path, *probes, "--probe-limit", "7").code == 0
    file = read_bundle(tmp_path / "fix.zdp")
    assert [(p.name, p.where, p.timeout_s) for p in file.manifest.probes] == [
        ("again.py", "fresh", 7),
        ("checks.py", "fresh", 7),
    ]
    assert file.blobs[file.manifest.probes[0].source] == CHECKS.encode()
    assert "probe/checks.py" in file.manifest.references()
    assert "again.py, checks.py" in cli("inspect", tmp_path / "fix.zdp").out


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("checks.py", "x = 1\n", "ZDP-001"),
        ("checks.py", "def test_a(:\n", "ZDP-206"),
        ("no-module.py", CHECKS, "ZDP-001"),
        ("checks.txt", CHECKS, "ZDP-001"),
        ("checks.py", None, "ZDP-004"),
    ],
)
def test_what_is_no_probe(cli: Cli, tmp_path: Path, name: str, text: str | None, code: str) -> None:
    """Each agent would refuse it: so does the build, before anything is written."""
    if text is not None:
        (tmp_path / name).write_text(text)
    ran = build(cli, tmp_path, "--probe", tmp_path / name)
    assert code in ran.err
    assert not (tmp_path / "fix.zdp").exists()


def test_probes_of_one_name(cli: Cli, tmp_path: Path) -> None:
    """Refusals name a probe: there is one of each name."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "checks.py").write_text(CHECKS)
    paths = [tmp_path / folder / "checks.py" for folder in ("a", "b")]
    assert "named twice" in build(cli, tmp_path, "--probe", paths[0], "--probe", paths[1]).err
