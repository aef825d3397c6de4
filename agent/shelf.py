"""Folders of packages with patched data files: complete or not there; one that somebody changed is
made again.

They are kept below the agent's home and shared by the processes of an application: a process may
hold a path into one for as long as it lives, and its children too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST: Final = 20_000  # files of one package
_TRACELESS_NS: Final = 1_000_000_000  # times of files may be so coarse
_Found = tuple[Path, str, os.stat_result]


class Shelf:
    """Makes folders below `base`, a directory of this user's alone, which is made when needed."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._seen: dict[bytes, tuple[int, ...]] = {}

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
        real = Path(folder)
        found = list(_walk(real))
        place = self.base / _digest(folder, found, files) / real.name
        _private(self.base)
        if place.is_dir() and all(self.holds(f"{place}/{f}", files[f]) for f in files):
            return str(place)
        self._make(real, place, found, files)
        return str(place)

    def holds(self, path: str, content: bytes | None) -> bool:
        """Whether a file has that content (None: is not there); one that cannot be read has not.

        A file is read again when anything of it has changed.
        """
        try:
            if content is None:
                return not os.path.lexists(path)
            # no path and no content is held here: who does is in the way of patches
            name = hashlib.sha256(os.fsencode(path)).digest()
            numbers = (id(content), *_numbers(path))
            if self._seen.get(name) == numbers:
                return True
            same = self.read(path) == content
        except OSError:
            return False
        # what was written at this very moment may be written again without a trace
        if same and time.time_ns() - max(numbers[-2:]) > _TRACELESS_NS:
            self._seen[name] = numbers
        return same

    def mend(self, place: str, folder: str, files: Mapping[str, bytes | None]) -> None:
        """Let a folder that `fill` made of `folder` have `files` again. Raises OSError."""
        whole, real = Path(place), Path(folder)
        if not whole.is_dir():
            _private(self.base)
            self._make(real, whole, list(_walk(real)), files)
            return
        for name, content in files.items():
            path = whole / name
            if self.holds(str(path), content):
                continue
            if content is None:
                path.unlink()
                continue
            half = path.with_name(f".{os.urandom(8).hex()}")
            try:
                _write(real / name, half, content, whole)
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)
            _sync(path.parent)

    def _make(
        self, real: Path, place: Path, found: list[_Found], files: Mapping[str, bytes | None]
    ) -> None:
        """Make `place`, the last part of whose path is the folder's name: all of it or nothing."""
        import shutil  # noqa: PLC0415 - a process without patched data files does without it

        half = self.base / f".{os.urandom(8).hex()}"
        try:
            (half / real.name).mkdir(mode=0o755, parents=True)
            for path, inner, status in found:
                _copy(real, path, half / real.name / inner, status, skip=inner in files)
            for name, content in files.items():
                if content is not None:
                    _write(real / name, half / real.name / name, content, half / real.name)
            for folder, _, _ in os.walk(half):
                _sync(Path(folder))
            _take_place(half, place.parent)
        finally:
            shutil.rmtree(half, ignore_errors=True)


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
            _sync(copy)
    elif path.resolve().is_relative_to(real.resolve()):
        copy.symlink_to(os.path.relpath(path.resolve(), path.parent.resolve()))
    else:
        copy.symlink_to(path.resolve())


def _write(real: Path, path: Path, content: bytes, top: Path) -> None:
    """A file of the patch below `top`, as accessible as the old one `real`, and on disk. Raises
    OSError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.parent.resolve().is_relative_to(top.resolve()):
        raise OSError(40, "its folder is a link to another place", str(real))
    mode = 0o644
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(real.stat().st_mode)
    path.write_bytes(content)
    _sync(path)
    path.chmod(mode & 0o777)


def _sync(path: Path) -> None:
    """What was written to a file or a folder is on disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a file system that knows no such thing
            raise
    finally:
        os.close(number)


def _numbers(path: str) -> tuple[int, ...]:
    """What changes when a file does, the times of its last changes at the end."""
    found = os.stat(path)  # noqa: PTH116 - often
    return found.st_ino, found.st_size, found.st_mode, found.st_mtime_ns, found.st_ctime_ns


def _take_place(half: Path, whole: Path) -> None:
    """Another process may have made the same folder meanwhile: it is as good."""
    from shutil import rmtree  # noqa: PLC0415 - as above

    try:
        half.rename(whole)
    except OSError:
        if not _same(half, whole):  # somebody has changed it
            rmtree(whole, ignore_errors=True)
            half.rename(whole)
    _sync(whole.parent)


def _same(one: Path, other: Path) -> bool:
    """Whether both have the same files with the same content."""
    listed = [
        {path.relative_to(top): path for path in sorted(top.rglob("*")) if path.is_file()}
        for top in (one, other)
    ]
    return listed[0].keys() == listed[1].keys() and all(
        path.read_bytes() == listed[1][name].read_bytes() for name, path in listed[0].items()
    )
