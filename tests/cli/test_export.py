"""Patches as git reads them: each one is applied by git itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli.bundlefile import read_bundle
from zdpatch.cli.gitpatch import Change, mail
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Fleet
    from tests.conftest import Mint

OLD = b"VAT = 1\n\n\ndef price(n):\n    return n * VAT\n"
NEW = b"VAT = 2\n\n\ndef price(n):\n    return n * VAT\n"


def git(where: Path, *words: str) -> str:
    """git, as nobody in particular."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false")
    done = subprocess.run(
        ["git", *who, *words], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def repository(where: Path, files: dict[str, bytes]) -> Path:
    """A repository with one commit of these files."""
    where.mkdir()
    git(where, "init", "-q")
    for name, data in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "base")
    return where


@pytest.fixture
def fix(tmp_path: Path, mint: Mint) -> Path:
    """A bundle that changes one module and adds another."""
    changes = (
        ModuleChange("shop.cart", "shop/cart.py", False, OLD, NEW),
        ModuleChange("shop.vat", "shop/vat.py", False, None, b"RATE = 7"),
    )
    path = tmp_path / "fix.zdp"
    path.write_bytes(mint.bundle("ci", changes=changes, fixes=["CVE-2026-1"]))
    return path


@pytest.mark.parametrize("root", ["", "src/", "services/shop/src/"])
@pytest.mark.parametrize("how", [("apply",), ("apply", "--3way"), ("am", "-q")])
def test_git_takes_it(cli: Cli, tmp_path: Path, fix: Path, root: str, how: tuple[str, ...]) -> None:
    """The import root is found, and the tree is the new one byte for byte."""
    tree = repository(tmp_path / "repo", {f"{root}shop/cart.py": OLD, "other/cart.py": b"x\n"})
    out = tmp_path / "fix.patch"
    ran = cli.process("export", fix, "-o", out, "--json", cwd=tree)
    assert (ran.code, ran.json["prefix"]) == (0, root), ran.err
    git(tree, *how, str(out))
    assert (tree / root / "shop/cart.py").read_bytes() == NEW
    assert (tree / root / "shop/vat.py").read_bytes() == b"RATE = 7"


def test_a_tree_that_went_on(cli: Cli, tmp_path: Path, fix: Path) -> None:
    """With other changes around it the patch merges; what it is for is in the commit."""
    tree = repository(tmp_path / "repo", {"shop/cart.py": OLD})
    (tree / "shop/cart.py").write_bytes(OLD + b"\n\ndef more():\n    pass\n")
    git(tree, "commit", "-qam", "more")
    ran = cli.process("export", fix, cwd=tree)
    (tmp_path / "p").write_text(ran.out)
    git(tree, "am", "-q", "--3way", str(tmp_path / "p"))
    assert b"VAT = 2" in (tree / "shop/cart.py").read_bytes()
    assert "FIX-1: CVE-2026-1" in git(tree, "log", "-1")


def test_prefix(cli: Cli, tmp_path: Path, fix: Path) -> None:
    """Several places are a question; a prefix answers it, and stays inside."""
    files = {"a/shop/cart.py": OLD, "b/shop/cart.py": OLD}
    tree = repository(tmp_path / "repo", files)
    ran = cli.process("export", fix, "--json", cwd=tree)
    assert (ran.code, "a/, b/" in ran.error["cause"]) == (2, True)
    ran = cli.process("export", fix, "--json", "--prefix", "./b/", cwd=tree)
    assert ran.json["files"] == ["b/shop/cart.py", "b/shop/vat.py"]
    for bad in ("../b", "/b"):
        assert cli.process("export", fix, "--prefix", bad, cwd=tree).code == 2
    ran = cli.process("export", fix, "--json", cwd=tmp_path)
    assert ran.json["prefix"] == ""


CASES = {
    "text": (b"a\nb\n", b"a\nc\n"),
    "no newline, then one": (b"a\nb", b"a\nb\n"),
    "newline, then none": (b"a\nb\n", b"a\nb"),
    "other line ends": (b"a\r\nb\r\n\x0c\n\x85\n", b"a\r\nc\r\n\x0c\n\x85x\n"),
    "no text at all": (b"\xff\xfe caf\xe9\n", b"\xff\xfe th\xe9\n"),
    "binary": (bytes(range(256)) * 9, bytes(reversed(range(256))) * 7 + b"\0"),
    "added": (None, b"a\n"),
    "added, empty": (None, b""),
    "added, binary": (None, b"\0\1"),
    "removed": (b"a\nb", None),
    "removed, empty": (b"", None),
    "removed, binary": (b"\0" * 99, None),
    "to empty": (b"a\n", b""),
    "lines like headers": (b"-- \n--- a\n+++ b\nFrom x\n", b"-- \n--- b\n+++ b\nFrom y\n"),
}


@pytest.mark.parametrize("how", [("apply",), ("am", "-q", "--keep-cr")])
@pytest.mark.parametrize("name", ["plain.txt", "with space.txt", 'caf\xe9 "q\\.txt'])
def test_each_kind_of_file(tmp_path: Path, name: str, how: tuple[str, ...]) -> None:
    """Whatever a file holds and is called, git makes the same bytes of it."""
    names = {case: f"d/{number} {name}" for number, case in enumerate(CASES)}
    base = {names[case]: old for case, (old, _) in CASES.items() if old is not None}
    tree = repository(tmp_path / "repo", {"keep": b"", **base})
    changes = [Change(names[case], old, new) for case, (old, new) in CASES.items()]
    out = tmp_path / "p"
    out.write_bytes(mail("FIX-1", ["words"], "ab" * 32, 1_700_000_000, changes))
    git(tree, *how, str(out))
    for case, (_, new) in CASES.items():
        path = tree / names[case]
        assert (path.read_bytes() if path.exists() else None) == new, case


def test_of_a_running_patch(
    cli: Cli, fleet: Fleet, fix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By id, from what was pushed here or what the agents keep; else the refusal says so."""
    monkeypatch.chdir(tmp_path)
    assert cli("export", "FIX-1", "--json").error["code"] == "ZDP-401"
    agent = fleet.add()
    assert cli("export", "FIX-1", "--json").error["code"] == "ZDP-212"
    file = read_bundle(fix)
    agent.put(file.digest, "confirmed")
    error = cli("export", "fix-1", "--json").error
    assert (error["code"], "not to be read" in error["cause"]) == ("ZDP-212", True)
    blobs = cli.home / "apps" / "shop" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "damaged").write_bytes(b"PK")
    (blobs / "x").write_bytes(file.raw)
    made = cli("export", "fix-1", "-o", tmp_path / "p", "--json").json
    assert made["digest"] == file.digest
    assert cli("export", file.digest[:12]).out == (tmp_path / "p").read_text()
