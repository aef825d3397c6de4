"""Folders of packages with patched data files: complete or not there; one that somebody changed is
made again.

They are kept below the agent's home and shared by the processes of an application: a process may
hold a path into one for as long as it lives, and its children too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST: Final = 20_000  # files of one package
_Found = tuple[Path, str, os.stat_result]


class Shelf:
    """Makes folders below `base`, a directory of this user's alone, which is made when needed."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def read(self, path: str) -> bytes | None:
        """What is in a file; None when there is none. Raises OSError for what cannot be read."""
        try:
            if not Path(path).is_file():  # a pipe would wait for ever
                return None
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def real(self, path: str) -> str:
        """A path without links in it."""
        return os.path.realpath(path)

    def fill(self, folder: str, files: Mapping[str, bytes | None]) -> str:
        """The path of a folder like `folder`, with `files` (relative path to content; None: not
        there) in it; the same one while that folder is the same.

        Its files are its own (or hard links); links lead to the same place, inside of it where they
        did so in `folder`. Raises OSError; nothing is left half made.
        """
        import shutil  # noqa: PLC0415 - a process without patched data files does without it

        real = Path(folder)
        found = list(_walk(real))
        place = self.base / _digest(folder, found, files) / real.name
        _private(self.base)
        if place.is_dir() and _holds(place, files):
            return str(place)
        half = self.base / f".{os.urandom(8).hex()}"
        try:
            (half / real.name).mkdir(mode=0o755, parents=True)
            for path, inner, status in found:
                _copy(real, path, half / real.name / inner, status, skip=inner in files)
            _write(real, half / real.name, files)
            _take_place(half, place.parent)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return str(place)


def _walk(real: Path) -> Iterator[_Found]:
    """Everything below, folders before what is in them; a link to a folder is one file."""
    number = 0
    for folder, folders, names in os.walk(real):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        number += len(folders) + len(names)
        if number > _MOST:
            raise OSError(27, f"it has more than {_MOST} files", str(real))
        for name in [*folders, *sorted(names)]:
            path = Path(folder, name)
            yield path, path.relative_to(real).as_posix(), path.lstat()


def _digest(folder: str, found: list[_Found], files: Mapping[str, bytes | None]) -> str:
    """Names a folder by all that it is made of."""
    parts = [folder.encode("utf-8", "surrogateescape")]
    for path, content in sorted(files.items()):
        what = b"-" if content is None else hashlib.sha256(content).digest()
        parts += [path.encode("utf-8", "surrogateescape"), what]
    for _, inner, status in found:
        parts.append(inner.encode("utf-8", "surrogateescape"))
        if not stat.S_ISDIR(status.st_mode):
            numbers = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
            parts.append(repr(numbers).encode())
    whole = b"\0".join(str(len(part)).encode() + b":" + part for part in parts)
    return hashlib.sha256(whole).hexdigest()[:32]


def _private(base: Path) -> None:
    """Make the directory; refuse one that others could write to. Raises OSError."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(1, "it is not a directory of this user's alone", str(base))


def _holds(place: Path, files: Mapping[str, bytes | None]) -> bool:
    """Whether a folder that is there has the files that it was made for."""
    for name, content in files.items():
        try:
            present: bytes | None = (place / name).read_bytes()
        except OSError:
            present = None
        if present != content:
            return False
    return True


def _copy(real: Path, path: Path, copy: Path, status: os.stat_result, *, skip: bool) -> None:
    """One file, link or folder of `real`."""
    from shutil import copy2  # noqa: PLC0415 - as above

    if stat.S_ISDIR(status.st_mode):
        copy.mkdir(mode=0o755, exist_ok=True)
    elif skip:
        return
    elif stat.S_ISREG(status.st_mode):
        try:
            os.link(path, copy)
        except OSError:  # another file system, another owner
            copy2(path, copy)
    elif path.resolve().is_relative_to(real.resolve()):
        copy.symlink_to(os.path.relpath(path.resolve(), path.parent.resolve()))
    else:
        copy.symlink_to(path.resolve())


def _write(real: Path, place: Path, files: Mapping[str, bytes | None]) -> None:
    """The files of the patch, as accessible as the old ones. Raises OSError."""
    for name, content in files.items():
        path = place / name
        if content is None:
            continue
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(place.resolve()):
            raise OSError(40, "its folder is a link to another place", str(real / name))
        path.write_bytes(content)
        mode = 0o644
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE((real / name).stat().st_mode)
        path.chmod(mode & 0o777)


def _take_place(half: Path, whole: Path) -> None:
    """Another process may have made the same folder meanwhile: it is as good."""
    from shutil import rmtree  # noqa: PLC0415 - as above

    try:
        half.rename(whole)
    except OSError:
        if _same(half, whole):
            return
        rmtree(whole, ignore_errors=True)  # somebody has changed it
        half.rename(whole)


def _same(one: Path, other: Path) -> bool:
    """Whether both have the same files with the same content."""
    listed = [
        {path.relative_to(top): path for path in sorted(top.rglob("*")) if path.is_file()}
        for top in (one, other)
    ]
    return listed[0].keys() == listed[1].keys() and all(
        path.read_bytes() == listed[1][name].read_bytes() for name, path in listed[0].items()
    )
