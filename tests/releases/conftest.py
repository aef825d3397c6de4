"""Fetches real releases and their tests into `.cache/replay`, each with a venv of its own, made
once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "replay" / f"cp{sys.version_info[0]}{sys.version_info[1]}"
RELEASES: dict[str, dict[str, Any]] = tomllib.loads((HERE / "releases.toml").read_text())
LIMIT_S = 900


@dataclass(frozen=True)
class Release:
    """One pair of releases, unpacked: `old` and `new` are import roots, `root` holds the new
    one's tests.
    """

    name: str
    facts: dict[str, Any]
    old: Path
    new: Path
    root: Path
    python: Path

    def run(self, mode: str) -> dict[str, Any]:
        """Run the new release's tests: "old" and "new" fresh, "live" on the old with the patch
        in it.
        """
        job = {
            "mode": mode,
            "package": self.facts.get("package", self.name),
            "old": str(self.old),
            "new": str(self.new),
            "root": str(self.root),
            "arguments": self.facts.get("arguments", self.facts["tests"]),
            "skip_import": self.facts.get("skip_import", []),
            "live": self.facts["live"],
            "check": self.facts["check"],
        }
        where = self.root.parent
        (where / f"{mode}.job.json").write_text(json.dumps(job))
        report = where / f"{mode}.report.json"
        report.unlink(missing_ok=True)
        roots = [str(self.old if mode == "live" else job[mode]), str(ROOT / "src")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(roots),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [str(self.python), str(HERE / "replay_child.py")]
        with (where / f"{mode}.log").open("wb") as log:
            subprocess.run(
                [*command, str(where / f"{mode}.job.json"), str(report)],
                env=environment, stdout=log, stderr=log, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        assert report.exists(), (where / f"{mode}.log").read_text()[-3000:]
        told: dict[str, Any] = json.loads(report.read_text())
        return told


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", *arguments], check=True, timeout=LIMIT_S)


def _unpack_wheel(python: Path, requirement: str, into: Path) -> None:
    box = into.parent / f"{into.name}-wheel"
    _pip(python, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(box), requirement)
    (wheel,) = box.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(into)


def _unpack_tests(python: Path, facts: dict[str, Any], into: Path) -> None:
    """The tests of the new release's sdist, without its package: that one must not be imported
    from here.
    """
    box = into.parent / "sdist"
    _pip(python, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(box), facts["new"])
    (archive,) = box.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(box, filter="data")
    (top,) = (path for path in box.iterdir() if path.is_dir())
    into.mkdir()
    wanted = [*facts["tests"], "pyproject.toml", "pytest.ini"]
    for name in wanted:
        if (top / name).exists():
            (top / name).rename(into / name)
    settings = into / "pyproject.toml"
    if not settings.exists() or "[tool.pytest" not in settings.read_text():
        (into / "pytest.ini").touch()  # or pytest would find this repository's settings


def _prepare(name: str) -> Release:
    facts = RELEASES[name]
    where = CACHE / f"{facts['old']}-{facts['new']}".replace("==", "-")
    python = where / "venv" / "bin" / "python"
    release = Release(name, facts, where / "old", where / "new", where / "root", python)
    if not (where / "ready").exists():
        venv.create(where / "venv", with_pip=True, clear=True)
        _pip(python, "install", "msgspec", *facts["needs"])
        _unpack_wheel(python, facts["old"], release.old)
        _unpack_wheel(python, facts["new"], release.new)
        _unpack_tests(python, facts, release.root)
        (where / "ready").touch()
    return release


@pytest.fixture(scope="session")
def release() -> Callable[[str], Release]:
    """The named release, fetched and unpacked (from the cache, when it was before)."""
    return _prepare


@pytest.fixture(scope="session")
def table() -> Iterator[dict[str, dict[str, Any]]]:
    """Rows that the tests fill; written to `.cache/replay/<tag>/report.json` and `.md` at the
    end.
    """
    rows: dict[str, dict[str, Any]] = {}
    yield rows
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "report.json").write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [
        f"| {' | '.join(str(row.get(key, '')) for key in columns)} |" for row in rows.values()
    ]
    (CACHE / "report.md").write_text("\n".join(lines) + "\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a release."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", sorted(RELEASES))
