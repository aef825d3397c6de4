"""The journal is durable step by step, private, and says what is wrong with it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.audit import GENESIS, Row, body_of, broken_at, clean, link
from zdpatch.agent.journal import BLOB_STEPS, STEPS
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import MOVES, move
from zdpatch.agent.protocol import History
from zdpatch.agent.readonly import read_history
from zdpatch.patcher.errors import BugError, OperatorError

if TYPE_CHECKING:
    from tests.agent.conftest import Desk


def audit_rows(desk: Desk) -> list[dict[str, Any]]:
    """All audit rows, oldest first."""
    with desk.here.journal.read() as ledger:
        rows: list[dict[str, Any]] = ledger.history(History(limit=1000, audit=True)).rows
    return rows[::-1]


def test_every_step_is_known(desk: Desk) -> None:
    """A life with every verb passes only steps that are listed."""
    digest = desk.push(desk.fix())
    desk.confirm(digest)
    desk.revert(digest)
    flips = {"apply.flipped", "revert.flipped"}
    assert set(desk.gate.passed) <= set(STEPS) | flips
    assert set(BLOB_STEPS) <= set(desk.gate.passed)


def test_the_intent_is_durable_before_the_flip(desk: Desk) -> None:
    """Another connection sees the intent before anything is flipped."""
    digest = desk.stage(desk.fix())
    seen: list[tuple[str, bytes]] = []

    def look() -> None:
        with sqlite3.connect(desk.here.journal.path) as other:
            (state,) = other.execute("SELECT state FROM patches").fetchone()
        other.close()
        seen.append((state, desk.vat))

    desk.gate.at["apply.intent.durable"] = look
    desk.apply(digest)
    assert seen == [("applying", b"VAT = 1\n")]


def test_private_files(desk: Desk) -> None:
    """Journal and blobs are for their owner alone."""
    desk.push(desk.fix())
    app = desk.home / "apps" / "shop"
    modes = {path.name: path.stat().st_mode & 0o777 for path in app.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert app.stat().st_mode & 0o777 == 0o700


def test_a_newer_schema_refuses(desk: Desk) -> None:
    """A journal of a newer zdpatch is left alone."""
    desk.here.journal.close()
    with sqlite3.connect(desk.here.journal.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OperatorError, match="newer zdpatch") as caught:
        desk.stage(desk.fix())
    assert caught.value.code == "ZDP-301"


def test_not_a_database(desk: Desk) -> None:
    """A file that is no journal is said to be none."""
    desk.here.journal.close()
    desk.here.journal.path.write_bytes(b"hello" * 1000)
    with pytest.raises(OperatorError, match="not a database"):
        desk.stage(desk.fix())


def test_an_emptied_journal_is_not_a_new_one(desk: Desk) -> None:
    """Patches were wanted, as the bundles beside it tell; an empty file without any is begun."""
    desk.push(desk.fix(), confirm=True)
    desk.here.journal.close()
    path = desk.here.journal.path
    for name in ("journal.db-wal", "journal.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(b"")
    with pytest.raises(OperatorError, match="it is empty, and there are bundles beside it"):
        desk.restart()
    with pytest.raises(OperatorError, match="it is empty"):
        read_history(path.parent, History())
    assert path.stat().st_size == 0
    for blob in path.with_name("blobs").iterdir():
        blob.unlink()
    assert desk.another(replayed=False).here.journal.changed()


def test_old_stages_are_forgotten(desk: Desk) -> None:
    """Only so many bundles wait; their bytes go with them."""
    for seq in range(70):
        desk.stage(desk.fix(seq=100 + seq))
    with desk.here.journal.read() as ledger:
        assert len(ledger.wanted()) == desk.here.settings.staged_patches
    assert len(list(desk.here.journal.blobs.iterdir())) == desk.here.settings.staged_patches


def test_audit_says_who_did_what_with_what_outcome(desk: Desk) -> None:
    """Each row names user, verb, patch, signer, place and outcome."""
    digest = desk.push(desk.fix())
    desk.revert(digest)
    rows = audit_rows(desk)
    told = [(row["verb"], row["outcome"]) for row in rows]
    assert told == [
        ("stage", "ok"),
        ("apply", "begun"),
        ("apply", "ok"),
        ("revert", "begun"),
        ("revert", "ok"),
    ]
    assert {(row["user"], row["patch"], row["digest"]) for row in rows} == {
        ("alice", "FIX-1", digest)
    }
    assert rows[0]["signed_by"] == [desk.mint.keyid("ci")]
    assert rows[0]["agent"] == desk.here.identity.agent


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit SET body = replace(body, 'alice', 'mallory') WHERE n = 2",
        "DELETE FROM audit WHERE n = 2",
        "DELETE FROM audit WHERE n = 3",
    ],
)
def test_a_broken_chain_shows(desk: Desk, attack: str) -> None:
    """A changed or missing row shows, at the end too; a trigger must be dropped to get there."""
    desk.push(desk.fix())
    with desk.here.journal.read() as ledger:
        assert ledger.history(History(audit=True)).broken_at is None
    with sqlite3.connect(desk.here.journal.path) as db:
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            db.execute(attack)
        db.execute("DROP TRIGGER audit_keeps_rows")
        db.execute("DROP TRIGGER audit_keeps_words")
        db.execute(attack)
    db.close()
    with desk.here.journal.read() as ledger:
        assert ledger.history(History(audit=True)).broken_at == (3 if "n = 3" in attack else 2)


def test_chain_is_pure() -> None:
    """The chain holds for rows made with it, and for none at all."""
    assert broken_at([], GENESIS) is None
    first = link(GENESIS, "{}")
    assert broken_at([Row(1, "{}", GENESIS, first)], first) is None
    assert broken_at([Row(2, "{}", GENESIS, first)], first) == 1


def test_no_control_characters(desk: Desk) -> None:
    """Whatever an operator writes, an audit row is one honest line."""
    evil = "a\nb\x1b[31mc\u202ed" + "x" * 1000
    assert clean(evil).isprintable()
    assert len(clean(evil)) == 500
    with desk.here.journal.write("hold") as ledger:
        ledger.hold(SYSTEM, evil)
        ledger.note(SYSTEM, evil, "ok", detail=evil)
        ledger.log_move(_some(desk, ledger), evil[:3], "x", evil, SYSTEM)
        held = ledger.held()
    assert held is not None
    assert held.reason.isprintable()
    assert all(str(value).isprintable() for value in audit_rows(desk)[-1].values())
    assert body_of.__doc__


def _some(desk: Desk, ledger: Any) -> Any:  # noqa: ANN401
    del desk
    return ledger.wanted()[0] if ledger.wanted() else _Nothing


class _Nothing:
    id = "NONE"
    digest = ""


def test_only_the_moves_of_the_table() -> None:
    """A move outside the table is a bug, staying put is none."""
    assert move("staged", "staged") == "staged"
    for old, allowed in MOVES.items():
        for new in MOVES:
            if new == old or new in allowed:
                assert move(old, new) == new
            else:
                with pytest.raises(BugError):
                    move(old, new)


def test_history_tells_the_transitions(desk: Desk) -> None:
    """Every change of state leaves a row, newest first."""
    digest = desk.push(desk.fix())
    desk.confirm(digest)
    with desk.here.journal.read() as ledger:
        moves = [
            (row["old"], row["new"], row["by"]) for row in ledger.history(History(limit=50)).rows
        ]
    assert moves == [
        ("trial", "confirmed", "alice"),
        ("applying", "trial", "alice"),
        ("staged", "applying", "alice"),
        ("", "staged", "alice"),
    ]


def test_a_journal_that_was_taken_away(desk: Desk) -> None:
    """Nothing is written into a file that nobody will read again, nor into another one."""
    digest = desk.push(desk.fix(), confirm=True)
    path = desk.here.journal.path
    more = desk.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=8)
    kept = path.rename(path.with_suffix(".kept"))
    with pytest.raises(OperatorError, match="removed, or is another file"):
        desk.stage(more)
    path.write_bytes(b"")
    with pytest.raises(OperatorError, match="removed, or is another file"):
        desk.stage(more)
    path.unlink()
    kept.rename(path)
    assert desk.wanted(digest) == "confirmed"


def test_history_of_two_processes(desk: Desk) -> None:
    """Each process makes its own moves; the limit counts the rows that are shown."""
    digest = desk.push(desk.fix())
    desk.revert(digest)
    desk.clock.tick(2)
    desk.apply(digest)
    key = desk.here.identity.key
    other = desk.another(key=type(key)(key.pid + 1, key.ticks, key.boot), replayed=False)
    other.apply(digest, confirm=True)
    with other.here.journal.read() as ledger:
        rows = ledger.history(History(limit=50)).rows
        newest = ledger.history(History(limit=3)).rows
    pids = (key.pid, key.pid + 1)
    assert [(pids.index(row["pid"]), row["old"], row["new"]) for row in rows[::-1]] == [
        (0, "", "staged"),
        (0, "staged", "applying"),
        (0, "applying", "trial"),
        (0, "trial", "reverted"),
        (0, "reverted", "applying"),
        (0, "applying", "trial"),
        (1, "staged", "applying"),
        (1, "trial", "confirmed"),
        (1, "applying", "confirmed"),
    ]
    assert newest == rows[:3]
