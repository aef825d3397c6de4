"""A release is fetched once by pip, its wheel before its sdist, and none of it is executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.cli.home import private_directory
from zdpatch.cli.import_root import Source, SourceError
from zdpatch.cli.sdists import read_sdist
from zdpatch.cli.wheels import read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

PIP_TIMEOUT_S: Final = 300


def read_release(name: str, version: str, *, cache: Path) -> Source:
    """Read a release of the package index, through its wheel; through its sdist when it has no
    wheel, or only compiled ones. Raises `SourceError`.
    """
    try:
        files = read_wheel(fetch(name, version, cache=cache)).files
    except SourceError as error:
        if error.code != "ZDP-005" and not isinstance(error, _NoWheelError):
            raise
        files = _read_sdist(name, version, cache, error)
    return Source(f"{name}=={version}", files)


class _NoWheelError(SourceError):
    """pip found no wheel of a release."""


def fetch(name: str, version: str, *, cache: Path) -> Path:
    """The wheel of a release, fetched by pip once and kept in `cache`."""
    kept = cache / "wheels" / f"{_normal(name)}-{version}"
    return _fetched(kept, lambda folder: _download_wheel(f"{name}=={version}", folder))


def _read_sdist(name: str, version: str, cache: Path, no_wheel: SourceError) -> dict[str, bytes]:
    kept = cache / "sdists" / f"{_normal(name)}-{version}"
    try:
        sdist = _fetched(kept, lambda folder: _download_sdist(name, version, folder))
    except SourceError as error:
        if no_wheel.code == "ZDP-005":
            raise no_wheel from error
        cause = f"{no_wheel.cause}\n{error.cause}"
        raise SourceError(error.code, cause, next=error.next) from None
    return read_sdist(sdist, release=(name, version)).files


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fetched(kept: Path, download: Callable[[Path], None]) -> Path:
    """The one file of the folder `kept`; put there by `download` when it is not there yet."""
    if kept.is_dir() and (files := sorted(kept.iterdir())):
        return files[0]
    private_directory(kept.parent)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as folder:
        download(Path(folder))
        files = sorted(Path(folder).iterdir())
        if len(files) != 1:
            raise SourceError("ZDP-004", f"pip fetched {len(files)} files for {kept.name}")
        kept.mkdir(mode=0o700, exist_ok=True)
        place = kept / files[0].name
        files[0].replace(place)
    return place


def _download_wheel(requirement: str, folder: Path) -> None:
    said = _pip(
        requirement,
        *("-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
        *("--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)),
        requirement,
    )
    if said is not None:
        raise _NoWheelError(
            "ZDP-004",
            "\n".join([f"pip could not fetch a wheel of {requirement}:", *said]),
            next="give a wheel or sdist file, or a directory",
        )


def _download_sdist(name: str, version: str, folder: Path) -> None:
    requirement = f"{name}=={version}"
    said = _pip(requirement, "-m", "zdpatch.cli.pip_sdist", name, version, str(folder))
    if said is not None:
        raise SourceError(
            "ZDP-004",
            "\n".join([f"pip could not fetch an sdist of {requirement}:", *said]),
            next="give a wheel or sdist file, or a directory",
        )


def _pip(requirement: str, *arguments: str) -> list[str] | None:
    """Run Python with `arguments`: the last lines of what it said when it failed, else None."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PIP_TIMEOUT_S,
            env={**os.environ, "PIP_NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired:
        raise SourceError(
            "ZDP-004", f"pip did not fetch {requirement} within {PIP_TIMEOUT_S} s"
        ) from None
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if any("No module named pip" in line or "No module named 'pip'" in line for line in said):
        raise SourceError(
            "ZDP-004",
            f"{sys.executable} has no pip to fetch {requirement} with",
            next=f"{sys.executable} -m ensurepip, or give the wheel file",
        )
    return said[-4:]
