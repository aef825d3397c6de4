"""Each pair of releases is fetched once: two import roots, the new one's tests, and a venv with
what they need.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from typing import TYPE_CHECKING, Final

from zdpatch.cli import pip_sdist

if TYPE_CHECKING:
    from pathlib import Path

    from tests.releases.pairs import Pair

LIMIT_S: Final = 900


def prepare(pair: Pair) -> Path:
    """The folder with everything; made when it is not there.

    Raises subprocess.CalledProcessError when the index has not what is needed.
    """
    where = pair.folder
    if (where / "ready").exists():
        return where
    if where.exists():
        shutil.rmtree(where)
    venv.create(where / "venv", with_pip=False)
    python = where / "venv" / "bin" / "python"
    _pip("--python", str(python), "install", "msgspec", *pair.needs)
    _unpack_wheel(pair.old, where / "old")
    _unpack_wheel(pair.new, where / "new")
    _unpack_tests(pair, where / "root")
    (where / "ready").touch()
    return where


def add_jurigged(where: Path) -> str:
    """Put jurigged into the venv; why it is not there, or ""."""
    python = where / "venv" / "bin" / "python"
    done = where / "jurigged"
    if not done.exists():
        try:
            _pip("--python", str(python), "install", "jurigged")
        except subprocess.CalledProcessError as error:
            return f"cannot be installed: {error.stderr.decode().strip().splitlines()[-1]}"
        done.touch()
    return ""


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True)


def _unpack_wheel(requirement: str, into: Path) -> None:
    """The release's wheel; one is made from the sdist where the index has none."""
    box = into.parent / f"{into.name}-wheel"
    _pip("wheel", "--no-deps", "--wheel-dir", str(box), requirement)
    (wheel,) = box.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(into)


def _unpack_tests(pair: Pair, into: Path) -> None:
    """The tests of the new release's sdist, without its package: that one must not be imported
    from here.
    """
    box = into.parent / "sdist"
    box.mkdir()
    name, _, version = pair.new.partition("==")
    command = [sys.executable, "-m", pip_sdist.__name__, name, version, str(box)]
    subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True)
    (archive,) = box.iterdir()
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(box)
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(box, filter="data")
    (top,) = (path for path in box.iterdir() if path.is_dir())
    into.mkdir()
    for inside in pair.tests_inside:
        for root in (into.parent / "old", into.parent / "new"):
            shutil.rmtree(root / inside, ignore_errors=True)
            shutil.copytree(top / inside, root / inside)
    for wanted in (*pair.tests, "pyproject.toml", "pytest.ini", "conftest.py"):
        if (top / wanted).exists():
            (into / wanted).parent.mkdir(parents=True, exist_ok=True)
            (top / wanted).rename(into / wanted)
    settings = into / "pyproject.toml"
    if not settings.exists() or "[tool.pytest" not in settings.read_text():
        (into / "pytest.ini").touch()  # or pytest would find this repository's settings
