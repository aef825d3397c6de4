"""What was written down for people: transitions and audit rows, read and never written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from zdpatch.agent.audit import GENESIS, Entry, Row, broken_at
from zdpatch.agent.protocol import HistoryResult

_MOVE: Final = "release, agent, pid, id, digest, old, new, by, reason"

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from zdpatch.agent.protocol import History


def answer(db: sqlite3.Connection, header: History) -> HistoryResult:
    """The newest transitions; or the newest audit rows, and whether the whole chain holds."""
    if not header.audit:
        return HistoryResult(moves(db, header.limit))
    broken = audit_broken_at(db)
    return HistoryResult(audit_rows(db, header.limit), broken is None, broken)


def moves(db: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The newest transitions, newest first.

    A move of a process and the same move of the application, in one second, are one row.
    """
    rows = db.execute(
        f"SELECT MAX(n) AS n, MAX(at) AS at, {_MOVE} FROM moves"  # noqa: S608 - a fixed text
        f" GROUP BY CAST(at AS INTEGER), {_MOVE} ORDER BY n DESC LIMIT ?",
        (limit,),
    )
    return [dict(row) for row in rows]


def audit_rows(db: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The newest audit rows, newest first, as they are hashed."""
    rows = db.execute("SELECT * FROM audit ORDER BY n DESC LIMIT ?", (limit,))
    return [{**_body(row["body"]), "n": row["n"], "hash": row["hash"]} for row in rows]


def _body(text: object) -> dict[str, Any]:
    """One entry as `body_of` wrote it; what somebody else put there is shown as its words."""
    try:
        entry = msgspec.json.decode(str(text), type=Entry)
    except msgspec.MsgspecError:
        entry = Entry(0.0, -1, "", 0, "", "", "", [], "", "", "", 0, "", str(text))
    return dict(msgspec.to_builtins(entry))


def audit_broken_at(db: sqlite3.Connection) -> int | None:
    """The first audit row that does not follow from the one before; None when all do."""
    head = db.execute("SELECT value FROM meta WHERE key = 'audit_head'").fetchone()
    return broken_at(_audit_all(db), GENESIS if head is None else head[0])


def _audit_all(db: sqlite3.Connection) -> Iterator[Row]:
    for row in db.execute("SELECT n, body, previous, hash FROM audit ORDER BY n"):
        yield Row(*row)
