"""A wheel is believed only as far as its own RECORD, and only when all of it is Python and data."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from zdpatch.cli.home import private_directory
from zdpatch.cli.import_root import Budget, Source, SourceError, is_left_out

_HASHES: Final = {"sha256", "sha384", "sha512"}
_UNSIGNED: Final = (".dist-info/RECORD", ".dist-info/RECORD.jws", ".dist-info/RECORD.p7s")
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll", ".a")
PIP_TIMEOUT_S: Final = 300


def read_release(name: str, version: str, *, cache: Path) -> Source:
    """Read a release of the package index, through its wheel. Raises `SourceError`."""
    wheel = fetch(name, version, cache=cache)
    return Source(f"{name}=={version}", read_wheel(wheel).files)


def read_wheel(path: Path) -> Source:
    """Read a wheel file: checked against its RECORD, metadata left out. Raises `SourceError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = _members(archive, path.name)
    except FileNotFoundError:
        raise SourceError("ZDP-004", f"{path} does not exist") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise SourceError("ZDP-004", f"{path.name} is not a readable wheel: {error}") from error
    _check_record(files, path.name)
    return Source(f"wheel:{path.name}", _importable(files, path.name))


def _members(archive: zipfile.ZipFile, what: str) -> dict[str, bytes]:
    budget = Budget(what)
    infos = [info for info in archive.infolist() if not info.is_dir()]
    for info in infos:
        budget.spend(info.file_size)
        _check_name(info.filename, what)
    files = {info.filename: archive.read(info) for info in infos}
    if len(files) != len(infos):
        raise SourceError("ZDP-004", f"{what} holds one name twice")
    return files


def _check_name(name: str, what: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
        raise SourceError("ZDP-004", f"{what} holds a file outside of itself: {name!r}")


def _check_record(files: dict[str, bytes], what: str) -> None:
    """Every file is listed in the one RECORD with a strong hash that matches."""
    records = [n for n in files if n.endswith(".dist-info/RECORD") and n.count("/") == 1]
    if len(records) != 1:
        raise SourceError("ZDP-004", f"{what} has {len(records)} RECORD files, not one")
    listed: dict[str, str] = {}
    for row in csv.reader(io.StringIO(files[records[0]].decode("utf-8", "replace"))):
        if row:
            listed[row[0]] = row[1] if len(row) > 1 else ""
    for name, data in files.items():
        if name.endswith(_UNSIGNED):
            continue
        if name not in listed:
            raise SourceError("ZDP-004", f"{what}: {name} is not in its RECORD")
        algorithm, _, wanted = listed[name].partition("=")
        if algorithm not in _HASHES or _digest(algorithm, data) != wanted.rstrip("="):
            raise SourceError("ZDP-004", f"{what}: {name} does not match its RECORD")


def _digest(algorithm: str, data: bytes) -> str:
    raw = hashlib.new(algorithm, data).digest()
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _importable(files: dict[str, bytes], what: str) -> dict[str, bytes]:
    """What lands in site-packages, without metadata; refuses compiled code."""
    result: dict[str, bytes] = {}
    for name, data in sorted(files.items()):
        top, _, rest = name.partition("/")
        place = name
        if top.endswith(".data"):
            scheme, _, place = rest.partition("/")
            if scheme not in {"purelib", "platlib"}:
                continue  # scripts, headers and data files are not imported
        if place.endswith(_COMPILED) or re.search(r"\.so\.\d", place):
            raise SourceError(
                "ZDP-005",
                f"{what} holds compiled code ({place}), which cannot be replaced in a process",
                next="put this release out by replacing the workers",
            )
        if not is_left_out(place):
            result[place] = data
    return result


def fetch(name: str, version: str, *, cache: Path) -> Path:
    """The wheel of a release, fetched by pip once and kept in `cache`. Nothing is executed."""
    normal = re.sub(r"[-_.]+", "-", name).lower()
    kept = cache / "wheels" / f"{normal}-{version}"
    if wheels := sorted(kept.glob("*.whl")):
        return wheels[0]
    private_directory(kept.parent)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as folder:
        _download(f"{name}=={version}", Path(folder))
        wheels = sorted(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError("ZDP-004", f"pip fetched {len(wheels)} wheels for {name}=={version}")
        kept.mkdir(mode=0o700, exist_ok=True)
        place = kept / wheels[0].name
        wheels[0].replace(place)
    return place


def _download(requirement: str, folder: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
        *("--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)),
        requirement,
    ]
    try:
        done = subprocess.run(
            command,
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
        return
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if any("No module named pip" in line for line in said):
        raise SourceError(
            "ZDP-004",
            f"{sys.executable} has no pip to fetch {requirement} with",
            next=f"{sys.executable} -m ensurepip, or give the wheel file",
        )
    raise SourceError(
        "ZDP-004",
        "\n".join([f"pip could not fetch a wheel of {requirement}:", *said[-4:]]),
        next="give a wheel file or a directory; releases that have only an sdist are not supported",
    )
