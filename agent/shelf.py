"""Folders of packages with patched data files: complete or not there, and never changed afterwards.

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

_MODULES: Final = (".py", ".pyc")
_MOST: Final = 50_000  # files of one package


class Shelf:
    """Makes folders below `base`, a directory of this user's alone, which is made when needed."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def read(self, path: str) -> bytes | None:
        """What is in a file; None when there is none. Raises OSError for what cannot be read."""
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fill(self, folder: str, files: Mapping[str, bytes | None]) -> str:
        """The path of a folder like `folder`, with `files` (relative path to content; None: not
        there) in it; the same one for the same arguments.

        Modules and what is in `files` are files of its own, all else links to `folder`. Raises
        OSError; nothing is left half made.
        """
        real = Path(folder)
        place = self.base / _digest(folder, files) / real.name
        if place.is_dir():
            return str(place)
        _private(self.base)
        import shutil  # noqa: PLC0415 - a process without patched data files does without it

        half = self.base / f".{os.urandom(8).hex()}"
        try:
            (half / real.name).mkdir(mode=0o755, parents=True)
            _mirror(real, half / real.name, files)
            _write(half / real.name, files)
            _take_place(half, place.parent)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return str(place)


def _digest(folder: str, files: Mapping[str, bytes | None]) -> str:
    """Names a folder by all that it is made of."""
    found = hashlib.sha256(folder.encode("utf-8", "surrogateescape"))
    for path, content in sorted(files.items()):
        what = b"-" if content is None else hashlib.sha256(content).digest()
        found.update(b"\0" + path.encode("utf-8", "surrogateescape") + b"\0" + what)
    return found.hexdigest()[:32]


def _private(base: Path) -> None:
    """Make the directory; refuse one that others could write to. Raises OSError."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(1, "it is not a directory of this user's alone", str(base))


def _mirror(real: Path, place: Path, files: Mapping[str, bytes | None]) -> None:
    """Folders as folders, modules as copies, all else as links; nothing of what `files` names."""
    from shutil import copyfile  # noqa: PLC0415 - as above

    for number, (path, inner) in enumerate(_walk(real)):
        if number > _MOST:
            raise OSError(27, f"it has more than {_MOST} files", str(real))
        copy = place / inner
        if path.is_dir():
            copy.mkdir(mode=0o755, exist_ok=True)
        elif inner not in files:
            if path.suffix in _MODULES:
                copyfile(path, copy)
            else:
                copy.symlink_to(path)


def _walk(real: Path) -> Iterator[tuple[Path, str]]:
    """Everything below, folders before what is in them; a link to a folder is one file."""
    for folder, folders, names in os.walk(real):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in [*folders, *sorted(names)]:
            path = Path(folder, name)
            yield path, path.relative_to(real).as_posix()


def _write(place: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is not None:
            path = place / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o644)


def _take_place(half: Path, whole: Path) -> None:
    """Another process may have made the same folder meanwhile: it is as good."""
    with contextlib.suppress(OSError):
        half.rename(whole)
    if not whole.is_dir():
        half.rename(whole)
