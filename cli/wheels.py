"""A wheel is believed only as far as its own RECORD, and only when all of it is Python and data."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from typing import TYPE_CHECKING, Final

from zdpatch.cli.archives import read_archive
from zdpatch.cli.import_root import Source, SourceError, is_left_out

if TYPE_CHECKING:
    from pathlib import Path

_HASHES: Final = {"sha256", "sha384", "sha512"}
_UNSIGNED: Final = (".dist-info/RECORD", ".dist-info/RECORD.jws", ".dist-info/RECORD.p7s")
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll", ".a")


def read_wheel(path: Path) -> Source:
    """Read a wheel file: checked against its RECORD, metadata left out. Raises `SourceError`."""
    archive = read_archive(path)
    if archive.odd:
        raise SourceError("ZDP-004", f"{path.name} holds a link: {min(archive.odd)!r}")
    files = archive.files
    _check_record(files, path.name)
    return Source(f"wheel:{path.name}", _importable(files, path.name))


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
            if scheme == "headers":
                continue  # a running process has no use for it
            if scheme not in {"purelib", "platlib"}:
                place = f"{scheme} of the wheel: {place}"
        if place.endswith(_COMPILED) or re.search(r"\.so\.\d", place):
            raise SourceError(
                "ZDP-005",
                f"{what} holds compiled code ({place}), which cannot be replaced in a process",
                next="put this release out by replacing the workers",
            )
        if not is_left_out(place):
            result[place] = data
    return result
