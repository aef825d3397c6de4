"""An sdist is read as it is: none of it is executed, so what only a build could tell is refused."""

from __future__ import annotations

import email.parser
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.cli.archives import read_archive
from zdpatch.cli.import_root import Source, SourceError, is_left_out
from zdpatch.cli.layouts import ASIDE, REMEDY, places

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zdpatch.cli.archives import Archive
    from zdpatch.cli.layouts import Place

_MARKS: Final = ("PKG-INFO", "pyproject.toml", "setup.py", "setup.cfg")
_NATIVE: Final = (
    *(".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".pyx", ".pxd", ".pxi", ".rs", ".go"),
    *(".f", ".f90", ".s", ".asm", ".m", ".mm", ".cu", ".zig", ".i", ".so", ".pyd"),
)
_RECIPES: Final = ("Cargo.toml", "Cargo.lock", "CMakeLists.txt", "meson.build")


def read_sdist(path: Path, *, release: tuple[str, str] | None = None) -> Source:
    """Read an sdist file. `release`: the name and version it must be of. Raises `SourceError`.

    What compiled code is built from is part of the source, wherever it lies: a release that changes
    it is not to be taken for one that changes Python alone.
    """
    archive = read_archive(path)
    files, odd = _without_top(archive)
    if not any(mark in files for mark in _MARKS):
        raise SourceError(
            "ZDP-004", f"{path.name} is not an sdist: it has no PKG-INFO", next=REMEDY
        )
    name, version = _identity(files)
    if release is not None:
        _check_release(path.name, release, (name, version))
    found = places(files, path.name, name)
    _check_links(path.name, odd, found)
    return Source(f"sdist:{path.name}", {**_natives(files), **_imported(files, found)})


def _without_top(archive: Archive) -> tuple[dict[str, bytes], set[str]]:
    """The files below the one folder that an sdist has at its top."""
    tops = {name.partition("/")[0] for name in archive.files if not name.startswith("pax_global")}
    if len(tops) != 1 or any("/" not in name for name in archive.files):
        raise SourceError(
            "ZDP-004", f"{archive.name} is not an sdist: it has not one folder at its top"
        )
    prefix = f"{tops.pop()}/"
    files = {name.removeprefix(prefix): data for name, data in sorted(archive.files.items())}
    return files, {name.removeprefix(prefix) for name in archive.odd}


def _identity(files: Mapping[str, bytes]) -> tuple[str, str]:
    """The project's name and version, as its metadata says; "" for what it does not."""
    text = files.get("PKG-INFO", b"").decode("utf-8", "replace")
    fields = email.parser.HeaderParser().parsestr(text)
    return str(fields.get("Name", "")).strip(), str(fields.get("Version", "")).strip()


def _check_release(what: str, wanted: tuple[str, str], found: tuple[str, str]) -> None:
    if _normal(wanted[0]) != _normal(found[0]):
        raise SourceError("ZDP-004", f"{what} is of {found[0] or 'no project'}, not {wanted[0]}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_links(what: str, odd: set[str], found: list[Place]) -> None:
    for name in sorted(odd):
        if any(name == each.inside or name.startswith(f"{each.inside}/") for each in found):
            raise SourceError("ZDP-004", f"{what}: {name} is a link", next=REMEDY)


def _imported(files: Mapping[str, bytes], found: list[Place]) -> dict[str, bytes]:
    taken: dict[str, bytes] = {}
    for each in found:
        for path, data in files.items():
            if path == each.inside or path.startswith(f"{each.inside}/"):
                place = f"{each.path}/{path.removeprefix(each.inside)}".replace("//", "/")
                place = place.strip("/")
                if not is_left_out(place) and "tests" not in PurePosixPath(place).parts[:-1]:
                    taken[place] = data
    return taken


def _natives(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What compiled code is built from, by its path in the archive."""
    return {
        path: data
        for path, data in files.items()
        if path.endswith(_NATIVE) or PurePosixPath(path).name in _RECIPES
        if not ASIDE.intersection(PurePosixPath(path).parts)
    }
