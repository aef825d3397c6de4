"""A file counts only in a directory that nobody else can write to, and is read whole or not at all.

The second way in: bundles and orders that somebody moved into a directory, for hosts without a
network and for processes without a socket. Nothing here blocks, follows a link out of the directory
or reads more than a bundle may have.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.agent.messages import MAX_BLOB_BYTES, MAX_HEADER_BYTES
from zdpatch.patcher.errors import AuthorError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BUNDLE: Final = ".zdp"
OPTIONS: Final = ".zdp.json"
ORDER: Final = ".order.json"
_NAME_BYTES: Final = 150
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the inbox. `stamp` changes when the file does, `written` is unix seconds."""

    name: str
    stamp: Stamp
    uid: int
    written: float
    kind: int  # of the file, as `stat` has it
    size: int


class ChangingError(Exception):
    """The file was written to while it was read: somebody copies it, and is not done."""


class Inbox:
    """The directory `path`; members of group `gid` may write to it too, when there is one."""

    def __init__(self, path: Path, gid: int | None, most: int) -> None:
        self.path: Final = path
        self._gid: Final = gid
        self._most: Final = most  # names that are looked at

    def make(self) -> None:
        """Make the directory when it is missing and can be made; `entries` says what is wrong."""
        with contextlib.suppress(OSError):
            self.path.mkdir(mode=0o700)
            if self._gid is not None:
                os.chown(self.path, -1, self._gid)
                self.path.chmod(0o770)

    def changed(self) -> int:
        """When a name came or went last, in nanoseconds; -1 when that cannot be seen."""
        try:
            return os.stat(self.path).st_mtime_ns  # noqa: PTH116 - every second
        except OSError:
            return -1

    def entries(self) -> list[Entry]:
        """Bundles, options and orders in the order of their names, and nothing read of them.

        Raises OperatorError ZDP-002 when the directory is missing, or others can write to it.
        """
        found: list[Entry] = []
        with self._opened() as directory, os.scandir(directory) as names:
            for number, one in enumerate(names):
                if number >= self._most:
                    raise _unsafe(f"more than {self._most} names are in {self.path}", "ls")
                if is_ours(one.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append(self._entry(one.name, directory))
        return sorted(found, key=lambda entry: entry.name)

    def read(self, entry: Entry) -> bytes:
        """The whole of a plain file of somebody who may hand things in.

        Raises OperatorError ZDP-403 or AuthorError ZDP-101, ZDP-102; ChangingError; and
        FileNotFoundError when it went away.
        """
        self._check(entry)
        most = MAX_BLOB_BYTES if entry.name.endswith(BUNDLE) else MAX_HEADER_BYTES
        if entry.size > most:
            cause = f"{entry.name} has {entry.size} bytes, at most {most} are read"
            raise AuthorError("ZDP-101", cause)
        with self._opened() as directory:
            where = self._target(entry.name, directory) or entry.name
            file = os.open(where, _OPEN, dir_fd=directory)
        with os.fdopen(file, "rb") as stream:
            before = _stamp(os.fstat(file))
            if before != entry.stamp:
                raise ChangingError
            raw = stream.read(most + 1)
            if _stamp(os.fstat(file)) != before or len(raw) != entry.size:
                raise ChangingError
        return raw

    def _check(self, entry: Entry) -> None:
        if stat.S_ISLNK(entry.kind):
            raise _refused(f"{entry.name} is a symbolic link", f"put a copy into {self.path}")
        if not stat.S_ISREG(entry.kind):
            raise _refused(f"{entry.name} is not a plain file", f"rm {self.path / entry.name}")
        if self._gid is None and entry.uid not in (0, os.geteuid()):
            raise _refused(
                f"{entry.name} belongs to uid {entry.uid}, neither root nor the user of this"
                f" process (uid {os.geteuid()})",
                "hand it in as one of them, or set ZDPATCH_GROUP for the service",
            )

    def _entry(self, name: str, directory: int) -> Entry:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) and self._target(name, directory) is not None:
            # volumes of Kubernetes are links to links, which only root can make there
            with contextlib.suppress(OSError):  # to nothing, or in a circle: it stays a link
                found = os.stat(name, dir_fd=directory)
        return Entry(
            name, _stamp(found), found.st_uid, found.st_mtime, found.st_mode, found.st_size
        )

    def _target(self, name: str, directory: int) -> str | None:
        """Where a link leads: inside this directory, when nobody but root can make links in it."""
        if not _closed(directory):
            return None
        place = os.path.realpath(self.path)
        here = os.path.join(place, name)  # noqa: PTH118 - a Path raises on a circle in 3.11
        target = os.path.realpath(here)
        if target == here or not target.startswith(place + os.sep):
            return None
        return target

    @contextlib.contextmanager
    def _opened(self) -> Generator[int]:
        """The directory, checked on the descriptor that is used."""
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            cause = f"the inbox {self.path} cannot be read: {error.strerror}"
            raise _unsafe(cause, f"mkdir -m 700 {self.path}") from error
        try:
            self._check_directory(directory)
            yield directory
        finally:
            os.close(directory)

    def _check_directory(self, directory: int) -> None:
        found = os.fstat(directory)
        if _read_only(directory):
            return  # who filled it is not here
        if found.st_uid not in (0, os.geteuid()):
            raise _unsafe(
                f"the inbox {self.path} belongs to uid {found.st_uid}, neither root nor the user"
                f" of this process (uid {os.geteuid()})",
                f"chown {os.geteuid()} {self.path}",
            )
        group = self._gid is not None and found.st_gid == self._gid
        others = stat.S_IWOTH if group else stat.S_IWOTH | stat.S_IWGRP
        if found.st_mode & others:
            mode = stat.S_IMODE(found.st_mode)
            cause = f"others can write to the inbox {self.path} (mode {mode:o})"
            raise _unsafe(cause, f"chmod {'o-w' if group else 'go-w'} {self.path}")


def is_ours(name: str) -> bool:
    """Whether a name is meant for the agent: who writes a file calls it `.x` or `x.part` first."""
    if name.startswith(".") or not name.isprintable() or len(os.fsencode(name)) > _NAME_BYTES:
        return False
    return name.endswith((BUNDLE, OPTIONS, ORDER))


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_only(directory: int) -> bool:
    return bool(os.fstatvfs(directory).f_flag & os.ST_RDONLY)


def _closed(directory: int) -> bool:
    """Whether only root could have put there what is there."""
    found = os.fstat(directory)
    mine = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return _read_only(directory) or (found.st_uid == 0 and not mine)


def _unsafe(cause: str, mend: str) -> OperatorError:
    return OperatorError("ZDP-002", cause, next=mend)


def _refused(cause: str, mend: str) -> OperatorError:
    return OperatorError("ZDP-403", cause, next=mend)
