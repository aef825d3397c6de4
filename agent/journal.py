"""A row is durable before the memory changes: a kill at any instant leaves old or new, never half.

One SQLite file per application, shared by its processes. `patches` is what the operator wants of a
release; `applied` is what each process has. Nothing else in zdpatch calls commit or fsync.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from zdpatch.agent.home import JOURNAL
from zdpatch.agent.ledger import Ledger
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Settings
    from zdpatch.agent.identity import Identity

SCHEMA_VERSION: Final = 1
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC

TRANSACTIONS: Final = (
    "enter",
    "leave",
    "stage",
    "apply.intent",
    "apply.outcome",
    "want",
    "confirm",
    "revert.intent",
    "revert.outcome",
    "expire.intent",
    "expire.outcome",
    "replay.intent",
    "replay.outcome",
    "hold",
    "refusal",
    "trust",
)
BLOB_STEPS: Final = ("blob.partial", "blob.synced", "blob.renamed", "blob.durable")
STEPS: Final = BLOB_STEPS + tuple(
    f"{name}.{instant}" for name in TRANSACTIONS for instant in ("begin", "written", "durable")
)
"""Every instant at which a gate is called; "written" is complete and not yet durable."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS patches (
    release TEXT NOT NULL, digest TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,
    state TEXT NOT NULL, place INTEGER NOT NULL DEFAULT 0, blob TEXT NOT NULL,
    accepted_at REAL NOT NULL, since REAL NOT NULL, until REAL, crashes INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', facts TEXT NOT NULL,
    PRIMARY KEY (release, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (digest TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS releases (
    release TEXT PRIMARY KEY, last REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS processes (
    pid INTEGER NOT NULL, ticks INTEGER NOT NULL, boot TEXT NOT NULL,
    agent TEXT NOT NULL, release TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (pid, ticks, boot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied (
    pid INTEGER NOT NULL, ticks INTEGER NOT NULL, boot TEXT NOT NULL, digest TEXT NOT NULL,
    release TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL, until REAL,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (pid, ticks, boot, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hold (
    one INTEGER PRIMARY KEY CHECK (one = 1), by TEXT NOT NULL, reason TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS moves (
    n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, release TEXT NOT NULL,
    agent TEXT NOT NULL, pid INTEGER NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL,
    old TEXT NOT NULL, new TEXT NOT NULL,
    by TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS audit (
    n INTEGER PRIMARY KEY, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS audit_keeps_rows BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS audit_keeps_words BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;
CREATE TRIGGER IF NOT EXISTS moves_keep_rows BEFORE DELETE ON moves
    BEGIN SELECT RAISE(ABORT, 'transitions are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS moves_keep_words BEFORE UPDATE ON moves
    BEGIN SELECT RAISE(ABORT, 'transitions are never changed'); END;
"""


class Journal:
    """The shared file of one application, as seen by one process. Raises OperatorError ZDP-301."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        clock: Clock,
        settings: Settings,
        gate: Callable[[str], None],
    ) -> None:
        self.path: Final = directory / JOURNAL
        self.blobs: Final = directory / "blobs"
        self.identity: Final = identity
        self._clock: Final = clock
        self._settings: Final = settings
        self._gate: Final = gate
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # the very file that was opened first
        self._seen: int | None = None  # of other processes' commits, on this connection

    def close(self) -> None:
        """Drop the connection; the next use opens a new one. Always done before a fork."""
        db, self._db, self._seen = self._db, None, None
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def write(self, name: str) -> Generator[Ledger]:
        """One durable transaction; `name` is of TRANSACTIONS."""
        with _explained(self.path):
            self._gate(f"{name}.begin")
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield Ledger(db, self.identity, self._clock.wall())
                self._gate(f"{name}.written")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._gate(f"{name}.durable")

    @contextlib.contextmanager
    def read(self) -> Generator[Ledger]:
        """One consistent look that changes nothing."""
        with _explained(self.path):
            db = self._open()
            db.execute("BEGIN")
            try:
                yield Ledger(db, self.identity, self._clock.wall())
            finally:
                db.execute("ROLLBACK")

    def changed(self) -> bool:
        """Whether another process may have written since this was asked last. Reads no table."""
        with _explained(self.path):
            (version,) = self._open().execute("PRAGMA data_version").fetchone()
        seen, self._seen = self._seen, int(version)
        return self._seen != seen

    def keep_blob(self, raw: bytes) -> str:
        """Store bytes under their sha256, durably; the name is the hex digest."""
        name = hashlib.sha256(raw).hexdigest()
        with _explained(self.path):
            self.blobs.mkdir(mode=0o700, exist_ok=True)
            partial = self.blobs / f"{name}.{self.identity.agent}.part"
            with os.fdopen(os.open(partial, _NEW_FILE, 0o600), "wb") as out:
                out.write(raw)
                self._gate("blob.partial")
                out.flush()
                os.fsync(out.fileno())
            self._gate("blob.synced")
            partial.rename(self.blobs / name)
            self._gate("blob.renamed")
            self._sync_directory(self.blobs)
            self._gate("blob.durable")
        return name

    def blob(self, name: str) -> bytes:
        """The bytes kept under `name`, hashed again."""
        with _explained(self.path):
            raw = (self.blobs / name).read_bytes()
        if hashlib.sha256(raw).hexdigest() != name:
            raise OperatorError("ZDP-301", f"{self.blobs / name} is damaged")
        return raw

    def drop_blob(self, name: str) -> None:
        """Forget bytes nobody refers to any more."""
        with contextlib.suppress(OSError):
            (self.blobs / name).unlink()

    def _sync_directory(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _open(self) -> sqlite3.Connection:
        if self._file is not None and self._file != _identity(self.path):
            raise OSError(
                "it was removed, or is another file than this process opened:"
                " put it back, or restart the process"
            )
        if self._db is None:
            check_whole(self.path.parent)
            db = self._connect()
            try:
                _prepare(db)
            except BaseException:
                db.close()
                raise
            self._db, self._file = db, _identity(self.path)
        return self._db

    def _connect(self) -> sqlite3.Connection:
        # made here, since SQLite would follow the umask
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(
            self.path,
            timeout=self._settings.journal_wait_s,
            isolation_level=None,
            check_same_thread=False,
        )
        db.row_factory = sqlite3.Row
        return db


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def check_whole(directory: Path) -> None:
    """Raises OSError for a journal that somebody emptied: a new one has no bundles beside it."""
    path = directory / JOURNAL
    try:
        if path.stat().st_size:
            return
        kept = any((directory / "blobs").iterdir())
    except FileNotFoundError:
        return
    if kept:
        raise OSError(
            "it is empty, and there are bundles beside it: put a copy of it back, or remove it to"
            " begin anew"
        )


def check_version(version: int) -> None:
    """Raises OperatorError ZDP-301 for a journal that a newer zdpatch has written."""
    if version > SCHEMA_VERSION:
        raise OperatorError(
            "ZDP-301",
            f"the journal was written by a newer zdpatch (schema {version}, this one reads"
            f" {SCHEMA_VERSION})",
            next="install the newer zdpatch in this application",
        )


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    check_version(version)
    db.execute("PRAGMA synchronous = FULL")
    if version < SCHEMA_VERSION:
        # the mode is kept in the file; changing it needs the file for a moment
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise OperatorError(
            "ZDP-301",
            f"{path}: {error}",
            next="see docs/operations.md, section 'The journal cannot be written'",
        ) from error
