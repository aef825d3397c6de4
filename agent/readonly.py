"""The journal of an application that nobody answers for is read from a copy, never opened itself.

SQLite makes and removes files beside one that it opens, and a service could not use root's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import records
from zdpatch.agent.home import JOURNAL
from zdpatch.agent.identity import ProcessKey, life
from zdpatch.agent.journal import check_version, check_whole
from zdpatch.agent.protocol import HistoryResult
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Generator
    from io import BufferedReader

    from zdpatch.agent.protocol import History

_FILES: Final = (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-journal")
_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the release that ran last wants, as (id, state), and the processes that did not leave:
    how many ended without a word, and how many live, or may.
    """

    patches: tuple[tuple[str, str], ...] = ()
    ended: int = 0
    living: int = 0


def read_history(directory: Path, header: History) -> HistoryResult:
    """What an agent would answer out of the journal in `directory`.

    Raises OperatorError ZDP-301 when it cannot be read, ZDP-403 when this user may not.
    """
    with _copied(directory) as db:
        if db is None:
            return HistoryResult([], True if header.audit else None)
        return records.answer(db, header)


def read_wishes(directory: Path, here: ProcessKey) -> Wishes:
    """What a process that starts now would bring up, as seen by process `here`. Raises as
    `read_history`.
    """
    with _copied(directory) as db:
        if db is None:
            return Wishes()
        patches = db.execute(
            "SELECT id, state FROM patches WHERE state IN"
            " ('applying', 'trial', 'confirmed', 'quarantined') AND release ="
            " (SELECT release FROM releases ORDER BY last DESC LIMIT 1) ORDER BY place"
        )
        found = tuple((str(row["id"]), str(row["state"])) for row in patches)
        rows = db.execute("SELECT pid, ticks, boot FROM processes").fetchall()
    lives = [life(ProcessKey(r["pid"], r["ticks"], r["boot"]), here) for r in rows]
    ended = lives.count("dead")
    return Wishes(found, ended, len(lives) - ended)


@contextmanager
def _copied(directory: Path) -> Generator[sqlite3.Connection | None]:
    """A copy of a journal; None for one that nothing was written to yet."""
    path = directory / JOURNAL
    try:
        check_whole(directory)
        with tempfile.TemporaryDirectory(prefix="zdpatch-") as name:
            _snapshot(directory, Path(name))
            with closing(sqlite3.connect(Path(name) / JOURNAL)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA trusted_schema = OFF")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                check_version(version)
                yield db if version else None
    except PermissionError as error:
        raise OperatorError(
            "ZDP-403", f"{path} cannot be read by this user", next="become the service's user"
        ) from error
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
        raise OperatorError(
            "ZDP-301",
            f"{path}: {error}",
            next="see docs/operations.md, section 'The journal cannot be written'",
        ) from error


def _snapshot(directory: Path, into: Path) -> None:
    """Copy the files as they were at one instant; a process that does not answer may write."""
    for _ in range(_TRIES):
        copied = [_copy(directory / name, into / name) for name in _FILES]
        if copied == [_digest(directory / name) for name in _FILES]:
            return
    raise OperatorError(
        "ZDP-301", f"{directory / JOURNAL} changes while it is read", next="the same command"
    )


def _copy(path: Path, target: Path) -> bytes | None:
    target.unlink(missing_ok=True)
    try:
        source = _open(path)
    except FileNotFoundError:
        return None
    with source, target.open("w+b") as out:
        shutil.copyfileobj(source, out)
        out.seek(0)
        return hashlib.file_digest(out, "sha256").digest()


def _digest(path: Path) -> bytes | None:
    try:
        source = _open(path)
    except FileNotFoundError:
        return None
    with source:
        return hashlib.file_digest(source, "sha256").digest()


def _open(path: Path) -> BufferedReader:
    # not blocking: a FIFO would
    source = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
        source.close()
        raise OSError("not a plain file")
    return source
