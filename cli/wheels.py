"""A wheel is believed only as far as its own RECORD, and only when all of it is Python and data."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.cli.import_root import Budget, Source, SourceError, is_left_out

if TYPE_CHECKING:
    from pathlib import Path

_HASHES: Final = {"sha256", "sha384", "sha512"}
_UNSIGNED: Final = (".dist-info/RECORD", ".dist-info/RECORD.jws", ".dist-info/RECORD.p7s")
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll", ".a")


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
