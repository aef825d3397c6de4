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


CARRY = """
import os
MIGRATES = ["shop.cart:RATES"]
UPGRADES = ["shop.cart:Cart"]
os.abort()
def migrate(state): ...
def undo_migrate(state): ...
def upgrade(state, cart): ...
def downgrade(state, cart): ...
"""


def test_hooks_are_in_the_bundle(cli: Cli, tmp_path: Path) -> None:
    """With all that they claim; an edit that needs them goes into a bundle with them alone."""
    write_tree(tmp_path / "old", "RATES = print(1)\n")
    write_tree(tmp_path / "new", "RATES = print(2)\n")
    assert "ZDP-202" in build(cli, tmp_path).err
    (tmp_path / "carry.py").write_text(CARRY)
    ran = build(cli, tmp_path, "--hooks", tmp_path / "carry.py", "--hook-limit", "3")
    assert ran.code == 0, ran.err
    assert "in place  shop.cart:RATES" in ran.err
    file = read_bundle(tmp_path / "fix.zdp")
    hooks = file.patch().hooks
    assert hooks is not None
    assert (hooks.source, hooks.timeout_s) == (CARRY.encode(), 3)
    assert hooks.migrates == {"shop.cart:RATES"}
    assert hooks.upgrades == {"shop.cart:Cart"}
    assert hooks.functions == {"migrate", "undo_migrate", "upgrade", "downgrade"}
    assert "hooks" in file.manifest.references()
    shown = cli("inspect", tmp_path / "fix.zdp").out
    assert "downgrade, migrate, undo_migrate, upgrade of shop.cart:RATES, shop.cart:Cart" in shown
    assert cli("check", tmp_path / "fix.zdp").code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", "none of the functions"),
        (CARRY.replace("def undo_migrate", "def undo"), "no undo_migrate"),
        (CARRY.replace("def downgrade", "def back"), "no downgrade"),
        (CARRY.replace("UPGRADES", "OTHER"), "UPGRADES of the hooks and their function upgrade"),
        (CARRY.replace('"shop.cart:RATES"', '"shop.cart"'), "MIGRATES of the hooks"),
        (CARRY.replace('["shop.cart:RATES"]', "names()"), "no list of paths"),
        (CARRY.replace('"shop.cart:RATES"', '"shop cart"'), "--hooks"),
        (CARRY.replace('"shop.cart:Cart"', '"shop.cart"'), "what is no class"),
    ],
)
def test_what_are_no_hooks(cli: Cli, tmp_path: Path, text: str, why: str) -> None:
    """A way in without a way back is no bundle."""
    (tmp_path / "carry.py").write_text(text)
    ran = build(cli, tmp_path, "--hooks", tmp_path / "carry.py")
    assert (ran.code, why in ran.err) == (2, True), ran.err
    assert not (tmp_path / "fix.zdp").exists()
