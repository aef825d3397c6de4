"""What one journal transaction may write; every change of state is a legal move and leaves a row.

Rows go in together and become durable together, when the journal commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import records
from zdpatch.agent.audit import GENESIS, Actor, Entry, body_of, clean, link
from zdpatch.agent.identity import ProcessKey, life
from zdpatch.agent.lifecycle import WANTED_IN, move
from zdpatch.agent.protocol import Held
from zdpatch.patcher.adoption import Adoption

if TYPE_CHECKING:
    import sqlite3

    from zdpatch.agent.identity import Identity
    from zdpatch.agent.lifecycle import State
    from zdpatch.agent.protocol import History, HistoryResult


class Facts(msgspec.Struct, frozen=True):
    """What a verified bundle says of itself, for status and history."""

    fixes: list[str]
    origin: dict[str, str]
    modules: list[str]
    signed_by: dict[str, list[str]]
    adopted: list[str] = []
    replaced: list[str] = []

    @property
    def adoption(self) -> Adoption:
        """What the operator said, at the last apply, of things that were replaced at run time."""
        return Adoption(frozenset(self.adopted), frozenset(self.replaced))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One patch as the operator wants it for a release.

    Times are unix seconds. `place` orders the applies; 0 was never applied.
    """

    digest: str
    id: str
    seq: int
    state: State
    place: int
    blob: str
    accepted_at: float
    since: float
    until: float | None
    crashes: int
    reason: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Process:
    """One process that entered the journal at `since` (unix seconds)."""

    key: ProcessKey
    release: str
    since: float


@dataclass(frozen=True, slots=True)
class Applied:
    """One patch as one process has it. Times are unix seconds."""

    digest: str
    state: State
    since: float
    until: float | None
    reason: str


SYSTEM: Final = Actor(-1, "zdpatch", 0)
"""The agent itself, acting on a deadline or at start."""


class Ledger:
    """The rows of one application in one open transaction; `now` is its one clock reading."""

    def __init__(self, db: sqlite3.Connection, identity: Identity, now: float) -> None:
        self._db: Final = db
        self._me: Final = identity
        self.now: Final = now

    # -- what is wanted ---------------------------------------------------------------------

    def wanted(self, release: str | None = None) -> list[Wanted]:
        """Every patch of this (or another) release, in the order of applies, staged ones last."""
        rows = self._db.execute(
            "SELECT * FROM patches WHERE release = ? ORDER BY place = 0, place, accepted_at",
            (release or self._me.release,),
        )
        return [_wanted(row) for row in rows]

    def find(self, digest: str) -> Wanted | None:
        """The patch with exactly this digest."""
        row = self._db.execute(
            "SELECT * FROM patches WHERE release = ? AND digest = ?", (self._me.release, digest)
        ).fetchone()
        return None if row is None else _wanted(row)

    def add(self, new: Wanted) -> None:
        """Write a patch as it is, new or again."""
        self._db.execute(
            "INSERT OR REPLACE INTO patches VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (self._me.release, *_columns(new)),
        )

    def forget(self, digest: str) -> None:
        """Take out a patch that was staged and never applied."""
        self._db.execute(
            "DELETE FROM patches WHERE release = ? AND digest = ? AND state = 'staged'",
            (self._me.release, digest),
        )

    def want(self, old: Wanted, new: State, *, until: float | None, reason: str, by: Actor) -> None:
        """Move what is wanted. Raises BugError for a move that is not in the table."""
        move(old.state, new)
        self._db.execute(
            "UPDATE patches SET state = ?, since = ?, until = ?, reason = ?"
            " WHERE release = ? AND digest = ?",
            (new, self.now, until, clean(reason), self._me.release, old.digest),
        )
        if old.state != new:
            self.log_move(old, old.state, new, reason, by)

    def want_elsewhere(self, digest: str, new: State, by: Actor) -> None:
        """What somebody decides of a patch that is wanted counts for releases of which no process
        runs, too: nobody can be asked there. `new` is "confirmed" or "reverted".
        """
        for release in self.asleep_with(digest):
            patch = next(one for one in self.wanted(release) if one.digest == digest)
            if patch.state == new:
                continue
            reason = f"while no process of release {release} ran"
            self._db.execute(
                "UPDATE patches SET state = ?, since = ?, until = NULL, reason = ?"
                " WHERE release = ? AND digest = ?",
                (new, self.now, clean(reason), release, digest),
            )
            self.log_move(patch, patch.state, new, reason, by, release=release)

    def sleeping(self) -> list[str]:
        """The other releases of which no process runs."""
        lives = {one.release for one in self.processes() if life(one.key, self._me.key) != "dead"}
        rows = self._db.execute(
            "SELECT DISTINCT release FROM patches WHERE release != ?", (self._me.release,)
        )
        return [row["release"] for row in rows if row["release"] not in lives]

    def asleep_with(self, digest: str) -> list[str]:
        """The other releases that want a patch, and of which no process runs."""
        return [
            release
            for release in self.sleeping()
            if any(p.digest == digest and p.state in WANTED_IN for p in self.wanted(release))
        ]

    def decided_by_people(self, patch: Wanted, release: str) -> bool:
        """Whether somebody asked for the state that a patch has in another release."""
        row = self._db.execute(
            "SELECT by FROM moves WHERE digest = ? AND release = ? AND new = ?"
            " ORDER BY n DESC LIMIT 1",
            (patch.digest, release, patch.state),
        ).fetchone()
        return row is not None and row["by"] != str(SYSTEM)

    def restore(self, old: Wanted) -> None:
        """Put a patch back as it was before an attempt that failed."""
        self._db.execute(
            "UPDATE patches SET state = ?, since = ?, until = ?, reason = ?"
            " WHERE release = ? AND digest = ?",
            (old.state, old.since, old.until, old.reason, self._me.release, old.digest),
        )

    def take_place(self, digest: str) -> None:
        """Give a patch the last place in the order of applies."""
        self._db.execute(
            "UPDATE patches SET place = (SELECT MAX(place) + 1 FROM patches WHERE release = ?)"
            " WHERE release = ? AND digest = ?",
            (self._me.release, self._me.release, digest),
        )

    def blob_is_used(self, name: str) -> bool:
        """Whether any release still refers to these bytes."""
        found = self._db.execute("SELECT 1 FROM patches WHERE blob = ? LIMIT 1", (name,))
        return found.fetchone() is not None

    # -- sequence -----------------------------------------------------------------------------

    def floor(self) -> int:
        """The highest sequence number ever accepted to run, in any release; 0 before the first."""
        (floor,) = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM known").fetchone()
        return int(floor)

    def known(self) -> frozenset[str]:
        """Digests ever accepted to run."""
        return frozenset(row[0] for row in self._db.execute("SELECT digest FROM known"))

    def learn(self, digest: str, seq: int) -> None:
        """Raise the floor; never lowers it."""
        self._db.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", (digest, seq))

    # -- roots of trust -------------------------------------------------------------------------

    def pinned(self) -> tuple[int, str] | None:
        """Version and digest of the last root document that was accepted here."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'trust_root'").fetchone()
        if row is None:
            return None
        version, _, digest = str(row["value"]).partition(":")
        return int(version), digest

    def pin(self, version: int, digest: str) -> None:
        """Accept a root document; an older one never counts again."""
        value = f"{version}:{digest}"
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('trust_root', ?)", (value,))

    # -- what this process has --------------------------------------------------------------

    def have(self, patch: Wanted, had: State | None, row: Applied, by: Actor) -> None:
        """Write what this process has of a patch; `had` is what it had before."""
        if had is not None:
            move(had, row.state)
        key = self._me.key
        self._db.execute(
            "INSERT OR REPLACE INTO applied VALUES (?,?,?,?,?,?,?,?,?)",
            (
                *(key.pid, key.ticks, key.boot, row.digest, self._me.release),
                *(row.state, row.since, row.until, clean(row.reason)),
            ),
        )
        if had != row.state:
            without: State = "staged" if patch.state in WANTED_IN else patch.state
            self.log_move(patch, had or without, row.state, row.reason, by)

    def lose(self, digest: str) -> None:
        """This process has nothing of a patch any more."""
        key = self._me.key
        self._db.execute(
            "DELETE FROM applied WHERE pid = ? AND ticks = ? AND boot = ? AND digest = ?",
            (key.pid, key.ticks, key.boot, digest),
        )

    def others_have(self, digest: str) -> bool:
        """Whether another process of this release, not known to be dead, has the patch."""
        rows = self._db.execute(
            "SELECT pid, ticks, boot FROM applied WHERE release = ? AND digest = ?"
            " AND state IN ('applying', 'trial', 'confirmed')",
            (self._me.release, digest),
        )
        keys = [ProcessKey(row["pid"], row["ticks"], row["boot"]) for row in rows]
        return any(key != self._me.key and life(key, self._me.key) != "dead" for key in keys)

    # -- processes and releases, for the census ------------------------------------------------

    def processes(self) -> list[Process]:
        """Every process that entered and did not leave."""
        rows = self._db.execute("SELECT * FROM processes")
        return [
            Process(ProcessKey(r["pid"], r["ticks"], r["boot"]), r["release"], r["since"])
            for r in rows
        ]

    def pids(self) -> set[int]:
        """Of these."""
        return {one.key.pid for one in self.processes()}

    def add_process(self) -> None:
        """This process enters; its release is now the one that was used last."""
        me, key = self._me, self._me.key
        self._db.execute(
            "INSERT OR REPLACE INTO processes VALUES (?,?,?,?,?,?)",
            (key.pid, key.ticks, key.boot, me.agent, me.release, self.now),
        )
        self._db.execute("INSERT OR REPLACE INTO releases VALUES (?, ?)", (me.release, self.now))

    def drop_process(self, key: ProcessKey) -> None:
        """Clear away everything of one process."""
        for table in ("processes", "applied"):
            self._db.execute(
                f"DELETE FROM {table} WHERE pid = ? AND ticks = ? AND boot = ?",  # noqa: S608 - two fixed names
                (key.pid, key.ticks, key.boot),
            )

    def states_of(self, key: ProcessKey) -> dict[str, State]:
        """What a process had, by digest."""
        rows = self._db.execute(
            "SELECT digest, state FROM applied WHERE pid = ? AND ticks = ? AND boot = ?",
            (key.pid, key.ticks, key.boot),
        )
        return {row["digest"]: row["state"] for row in rows}

    def count_crash(self, patch: Wanted) -> int:
        """One more crash on account of `patch`; how many that makes."""
        self._db.execute(
            "UPDATE patches SET crashes = crashes + 1 WHERE release = ? AND digest = ?",
            (self._me.release, patch.digest),
        )
        return patch.crashes + 1

    def release_before(self) -> str | None:
        """The other release whose processes entered last, when that was after this release's."""
        row = self._db.execute(
            "SELECT release FROM releases WHERE release != ? AND last >="
            " COALESCE((SELECT last FROM releases WHERE release = ?), 0)"
            " ORDER BY last DESC LIMIT 1",
            (self._me.release, self._me.release),
        ).fetchone()
        return None if row is None else str(row["release"])

    # -- hold -----------------------------------------------------------------------------------

    def held(self) -> Held | None:
        """Who blocks applies, when someone does."""
        row = self._db.execute("SELECT by, reason, since FROM hold").fetchone()
        return None if row is None else Held(*row)

    def hold(self, by: Actor, reason: str) -> None:
        """Block applies of the application."""
        self._db.execute(
            "INSERT OR REPLACE INTO hold VALUES (1, ?, ?, ?)",
            (clean(str(by)), clean(reason), self.now),
        )

    def lift(self) -> None:
        """Allow applies again."""
        self._db.execute("DELETE FROM hold")

    # -- history ----------------------------------------------------------------------------

    def log_move(  # noqa: PLR0913 - the row
        self, patch: Wanted, old: str, new: str, reason: str, by: Actor, *, release: str = ""
    ) -> None:
        """One row of the history, of this release unless another one is given."""
        me = self._me
        self._db.execute(
            "INSERT INTO moves (at, release, agent, pid, id, digest, old, new, by, reason)"
            " VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                *(self.now, release or me.release, me.agent, me.key.pid, patch.id, patch.digest),
                *(old, new, clean(str(by)), clean(reason)),
            ),
        )

    def history(self, header: History) -> HistoryResult:
        """The rows that people see."""
        return records.answer(self._db, header)

    def note(  # noqa: PLR0913 - who, what, which patch, what came of it
        self,
        by: Actor,
        verb: str,
        outcome: str,
        *,
        patch: Wanted | None = None,
        digest: str = "",
        detail: str = "",
    ) -> None:
        """Append one audit row."""
        me = self._me
        keys = {} if patch is None else patch.facts.signed_by
        entry = Entry(
            at=self.now,
            uid=by.uid,
            user=by.user,
            peer_pid=by.pid,
            verb=verb,
            patch="" if patch is None else patch.id,
            digest=digest if patch is None else patch.digest,
            signed_by=sorted({key for held in keys.values() for key in held}),
            agent=me.agent,
            app=me.app,
            release=me.release,
            pid=me.key.pid,
            outcome=outcome,
            detail=detail,
        )
        body, (n, previous) = body_of(entry), self._audit_end()
        digest = link(previous, body)
        self._db.execute("INSERT INTO audit VALUES (?,?,?,?)", (n + 1, body, previous, digest))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('audit_head', ?)", (digest,))

    def _audit_end(self) -> tuple[int, str]:
        row = self._db.execute("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
        return (0, GENESIS) if row is None else (row[0], row[1])


def _wanted(row: sqlite3.Row) -> Wanted:
    values = dict(row)
    del values["release"]
    facts = msgspec.json.decode(values.pop("facts"), type=Facts)
    return Wanted(**values, facts=facts)


def _columns(patch: Wanted) -> tuple[object, ...]:
    return (
        *(patch.digest, patch.id, patch.seq, patch.state, patch.place, patch.blob),
        *(patch.accepted_at, patch.since, patch.until, patch.crashes, patch.reason),
        msgspec.json.encode(patch.facts).decode(),
    )
