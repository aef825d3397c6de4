"""An import root is read as bytes, never executed; caches and metadata are no source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES: Final = 20_000
MAX_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a source.

    `origin` is what the manifest says about it: "directory", "git:<sha>", "wheel:<file name>",
    "sdist:<file name>" or "name==version". `files` are paths with "/" relative to the import root.
    """

    origin: str
    files: dict[str, bytes]


class SourceError(OperatorError):
    """A source cannot be read (ZDP-004) or is of a kind that is not supported (ZDP-005)."""


def read_directory(path: Path) -> Source:
    """Read an import root. Links are followed; dotted folders, caches and metadata are left out."""
    if not path.is_dir():
        raise SourceError("ZDP-004", f"{path} is not a directory")
    files: dict[str, bytes] = {}
    budget = Budget(str(path))
    try:
        for file in _walk(path, path, {path.resolve()}):
            name = file.relative_to(path).as_posix()
            budget.spend(file.stat().st_size)
            files[name] = file.read_bytes()
    except OSError as error:
        raise SourceError("ZDP-004", f"{error.filename}: {error.strerror}") from error
    return Source("directory", files)


def _walk(folder: Path, top: Path, seen: set[Path]) -> Iterator[Path]:
    """Files below `folder` in order; `seen` holds the real folders above, so that no link loops."""
    for entry in sorted(folder.iterdir()):
        if is_left_out(entry.relative_to(top).as_posix()):
            continue
        if entry.is_dir():
            real = entry.resolve()
            if real not in seen:
                yield from _walk(entry, top, seen | {real})
        elif entry.is_file():
            yield entry


def is_left_out(path: str) -> bool:
    """Whether a path is never part of an import root's source."""
    *folders, name = PurePosixPath(path).parts
    return name.endswith((".pyc", ".pyo")) or any(
        part == "__pycache__"
        or part.endswith((".egg-info", ".dist-info"))
        or (part.startswith(".") and (part in folders or part == ".git"))
        for part in (*folders, name)
    )


class Budget:
    """Refuses a source that has too many files or too many bytes, before they are read."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._files = 0
        self._bytes = 0

    def spend(self, size: int) -> None:
        """Count one file of `size` bytes. Raises ZDP-004."""
        self._files += 1
        self._bytes += size
        if self._files > MAX_FILES or self._bytes > MAX_BYTES:
            raise SourceError(
                "ZDP-004",
                f"{self._what} holds more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB;"
                " it does not look like an import root",
                next="give the import root itself",
            )
