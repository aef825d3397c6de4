"""Services that crash, end or change their release: what is told of them, and what mends them."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import OLD

if TYPE_CHECKING:
    from tests.e2e.conftest import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_recovery_of_a_service_that_crashes(place: Place) -> None:
    """Start with no-apply, roll back, start again: the confirmed patch does not come back."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    assert "FIX-1" in place.run("history")
    quiet = place.serve(ZDPATCH="no-apply")
    assert quiet.ask(5) == "5"
    place.run("status", code=9)
    assert "FIX-1" in place.run("history")
    out = place.run("rollback", "FIX-1")
    assert "FIX-1 ran in none of 1 process, and is not wanted any more" in out
    place.run("status")
    assert "FIX-1 is out already" in place.run("rollback", "FIX-1")
    quiet.kill()
    assert place.serve().ask(5) == "5"
    place.run("status")


def files(place: Place) -> dict[str, bytes]:
    """Everything that the application keeps, byte by byte."""
    found = sorted((place.path / "h/apps/shop").rglob("*"))
    return {str(path): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize("end", ["killed", "ended", "off", "stopped"])
def test_history_of_a_service_that_does_not_answer(place: Place, end: str) -> None:
    """The journal is read where no process answers: said so, complete, and not touched."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm", "-m", "the bug")
    asked = place.json("history")["apps"]["shop"]
    assert asked["source"] == "process"
    if end == "stopped":
        os.kill(service.pid, signal.SIGSTOP)
    elif end == "ended":
        service.end()
    else:
        service.kill()
    if end == "off":
        place.start(ZDPATCH="off")
    before = files(place)
    read = place.json("history", "--timeout", "1s")["apps"]["shop"]
    assert (read["source"], read["rows"]) == ("journal", asked["rows"])
    assert "no process of it answers" in place.run("history", "--timeout", "1s", "--to", "app=sh*")
    trail = place.json("audit", "--timeout", "1s")["apps"]["shop"]
    assert (trail["source"], trail["intact"]) == ("journal", True)
    assert "the bug" in str(trail["rows"])
    assert files(place) == before
    place.run("history", "--to", "pid=1", code=5)
    place.run("history", "--to", "app=jobs", code=5)


def test_status_of_a_service_that_does_not_answer(place: Place) -> None:
    """Nobody answers, and the journal has patches: said with how the processes went, and exit 5."""
    service = place.serve()
    assert place.json("status")["absent"] == []
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    place.run("status")
    service.kill()
    told = place.json("status", code=5)
    assert (told["state"], told["agents"]) == ("unreached", [])
    (absent,) = told["absent"]
    assert absent["patches"] == [{"id": "FIX-1", "state": "confirmed"}]
    assert (absent["ended"], absent["living"]) == (1, 0)
    words = place.run("status", code=5)
    assert "no process of shop can be found, and its journal has FIX-1 (confirmed)" in words
    assert "1 process ended without a word" in words
    service = place.serve()
    place.run("status")
    service.end()
    assert place.json("status", code=5)["absent"][0]["ended"] == 0
    place.serve()
    place.run("rollback")
    place.services[-1].end()
    place.run("status")


def test_status_of_another_application(place: Place) -> None:
    """One of which processes crashed is named beside those that answer; one that was stopped is no
    trouble.
    """
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.end()
    (place.path / "h/apps/shop").rename(place.path / "h/apps/old")
    place.serve()
    assert place.json("status")["absent"][0]["app"] == "old"
    (place.path / "h/apps/old/journal.db").write_bytes(b"")
    told = place.json("status", code=9)
    assert "its journal says nothing" in told["troubles"][0]


def test_a_damaged_journal_that_nobody_answers_for(place: Place) -> None:
    """The exit codes are those of an answer: 9 for a broken chain and for a file that is none."""
    place.serve().end()
    journal = place.path / "h/apps/shop/journal.db"
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as db:
        db.execute("INSERT INTO audit VALUES (1, 'mine', '', '')")
    trail = place.json("audit", code=9)["apps"]["shop"]
    assert (trail["broken_at"], trail["rows"][0]["detail"]) == (1, "mine")
    assert "broken at row 1" in place.run("audit", code=9)
    journal.write_bytes(b"nothing of this kind" * 100)
    assert place.json("audit", code=9)["error"]["code"] == "ZDP-301"


def test_rollback_without_a_name_finds_what_would_come_back(place: Place) -> None:
    """Where nothing runs, the newest patch that a start would bring up is meant."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    place.serve(ZDPATCH="no-apply").ask(5)
    assert place.json("rollback")["state"] == "reverted"
    assert place.serve().ask(5) == "5"
    assert place.json("rollback", code=4)["error"]["code"] == "ZDP-213"


def test_superseded_patches_are_dropped(place: Place) -> None:
    """A release that changed what a patch fixes: rollback drops the patch, in every process."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    service.kill()
    (place.path / "other/shop").mkdir(parents=True)
    (place.path / "other/shop/__init__.py").write_text("")
    (place.path / "other/shop/cart.py").write_text(OLD.replace("return net", "return net + 1"))
    after = [place.serve(tree="other"), place.serve(tree="other")]
    place.run("status", code=9)
    assert len(place.json("rollback", "FIX-1")["targets"]) == 2
    states = [row["patches"][0]["state"] for row in place.json("status")["agents"]]
    assert states == ["reverted", "reverted"]
    after.append(place.serve(tree="other"))
    assert [one.ask(5) for one in after] == ["6", "6", "6"]
    place.run("status")


def test_push_into_a_process_that_lacks_what_is_wanted(place: Place) -> None:
    """What is wanted of the application and not in a process is no "already" there."""
    first, second = place.serve("a"), place.serve("b")
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm", "--to", "zone=a")
    assert (first.ask(5), second.ask(5)) == ("15 FIX-1", "5")
    place.run("push", "fix.zdp", "--yes", "--confirm")
    assert (first.ask(5), second.ask(5)) == ("15 FIX-1", "15 FIX-1")
