"""Each audit row holds the hash of the one before, so a row changed or taken out breaks the chain.

Pure: rows in, verdict out. Control characters cannot get in, so a row is always one honest line.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS: Final = "0" * 64
MAX_TEXT: Final = 500


class Actor(msgspec.Struct, frozen=True):
    """Who asked: a user on the socket, or the agent itself (uid -1)."""

    uid: int
    user: str
    pid: int

    def __str__(self) -> str:
        return self.user


class Entry(msgspec.Struct, frozen=True):
    """Who did what to which patch, where, with what outcome ("ok" or an error id)."""

    at: float
    uid: int
    user: str
    peer_pid: int
    verb: str
    patch: str
    digest: str
    signed_by: list[str]
    agent: str
    app: str
    release: str
    pid: int
    outcome: str
    detail: str


class Row(msgspec.Struct, frozen=True):
    """One row as stored; `hash` is over `previous` and the bytes of `body`."""

    n: int
    body: str
    previous: str
    hash: str


def clean(text: str) -> str:
    """`text` on one line: at most 500 characters, none of them a control or separator."""
    cut = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def body_of(entry: Entry) -> str:
    """The canonical text of an entry: every string cleaned, keys in one order."""
    fields = msgspec.to_builtins(entry)
    fields["signed_by"] = [clean(key) for key in entry.signed_by[:16]]
    cleaned = {key: clean(v) if isinstance(v, str) else v for key, v in fields.items()}
    return msgspec.json.encode(cleaned, order="sorted").decode()


def link(previous: str, body: str) -> str:
    """The hash of the row that follows `previous`."""
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def broken_at(rows: Iterable[Row], head: str) -> int | None:
    """The number of the first row that does not follow from the one before; None when all do.

    `head` is the hash of the last row, kept apart: rows missing at the end show there.
    """
    previous, expected = GENESIS, 1
    for row in rows:
        if (
            row.n != expected
            or row.previous != previous
            or row.hash != link(row.previous, row.body)
        ):
            return expected
        previous, expected = row.hash, expected + 1
    return None if previous == head else expected
