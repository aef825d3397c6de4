"""Bundles and orders in a directory, and what somebody else may put there."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.handed import Handed
from zdpatch.agent.inbox import Inbox
from zdpatch.agent.protocol import History
from zdpatch.agent.results import Results
from zdpatch.agent.verbs import Counter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import Desk

NOBODY = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@dataclass
class Box:
    """An inbox, and the process that looks into it."""

    path: Path
    desk: Desk
    handed: Handed

    def put(self, name: str, data: bytes, *, at: float | None = None) -> Path:
        """Hand a file in, by a rename."""
        partial = self.path / f".{name}"
        partial.write_bytes(data)
        when = self.desk.clock.wall() if at is None else at
        os.utime(partial, (when, when))
        return partial.rename(self.path / name)

    def look(self) -> None:
        """Let the process look until there is nothing to do."""
        for _ in range(20):
            self.desk.clock.tick(11)
            self.handed.tend()

    def result(self, name: str) -> dict[str, Any] | None:
        """The result file of this process."""
        agent = self.desk.here.identity.agent
        path = self.path / "results" / f"{name}.{agent}.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def code(self, name: str) -> str:
        """ "ok", an error's id, or "" without a result."""
        result = self.result(name)
        if result is None:
            return ""
        return result["error"]["code"] if "error" in result else "ok"

    def of(self, desk: Desk) -> Box:
        """The same directory, seen by another process."""
        return opened(self.path, desk)


def opened(path: Path, desk: Desk, gid: int | None = None) -> Box:
    """A box of `desk`'s process."""
    settings = desk.here.settings
    results = Results((path / "results", desk.home / "spare"), gid, settings.results_s, 3)
    inbox = Inbox(path, gid, 50)
    return Box(path, desk, Handed(desk.here, inbox, results, Counter(desk.here)))


@pytest.fixture
def box(tmp_path: Path, desk: Desk) -> Box:
    """An empty inbox."""
    made = opened(tmp_path / "inbox", desk)
    made.handed.at_start(5)
    return made


def test_a_bundle_goes_in(box: Box) -> None:
    """As a push: on trial, audited with the owner of the file, and the result is a file."""
    box.put("fix.zdp", box.desk.fix())
    box.look()
    result = box.result("fix.zdp")
    assert result is not None
    assert (result["schema"], result["result"]["state"]) == ("zdpatch.inbox/v1", "trial")
    assert box.desk.vat == b"VAT = 2\n"
    with box.desk.here.journal.read() as ledger:
        rows = ledger.history(History(audit=True)).rows
    asked = [(row["verb"], row["uid"], row["detail"]) for row in rows if row["verb"] == "apply"]
    assert ("apply", os.geteuid(), "handed in as fix.zdp") in asked


def test_options_beside_it(box: Box) -> None:
    """`fix.zdp.json` says how; when it says more later, that counts."""
    box.put("fix.zdp.json", b'{"plan": true}')
    box.put("fix.zdp", box.desk.fix())
    box.look()
    assert (box.code("fix.zdp"), box.desk.vat) == ("ok", b"VAT = 1\n")
    box.put("fix.zdp.json", b'{"confirm": true, "reason": "CVE"}')
    box.look()
    result = box.result("fix.zdp")
    assert result is not None
    assert result["result"]["state"] == "confirmed"
    box.put("fix.zdp.json", b'{"confirm": true, "force": 1}')
    box.look()
    assert box.code("fix.zdp") == "ZDP-404"


def test_orders(box: Box) -> None:
    """confirm, revert, status and history; and nothing else."""
    box.put("fix.zdp", box.desk.fix())
    box.look()
    box.put("keep.order.json", b'{"verb": "confirm", "patch": "FIX-1"}')
    box.look()
    assert box.code("keep.order.json") == "ok"
    box.put("state.order.json", b'{"verb": "status"}')
    box.look()
    result = box.result("state.order.json")
    assert result is not None
    assert result["result"]["patches"][0]["state"] == "confirmed"
    box.put("out.order.json", b'{"verb": "revert", "patch": "FIX-1"}')
    box.look()
    assert (box.code("out.order.json"), box.desk.vat) == ("ok", b"VAT = 1\n")
    bad = {b"[]": "ZDP-404", b'{"verb": "hold"}': "ZDP-001", b"{": "ZDP-404"}
    bad[b'{"verb": "revert", "patch": "FIX-1", "now": 1}'] = "ZDP-404"
    for number, (text, code) in enumerate(bad.items()):
        box.put(f"bad{number}.order.json", text)
        box.look()
        assert box.code(f"bad{number}.order.json") == code


def test_what_was_decided_later_counts_more(box: Box) -> None:
    """A file that lies there brings nothing back, also not at a restart; touching it does."""
    path = box.put("fix.zdp", box.desk.fix())
    box.look()
    box.desk.revert("FIX-1")
    again = box.of(box.desk.restart())
    again.look()
    assert (again.code("fix.zdp"), again.desk.vat) == ("ZDP-213", b"VAT = 1\n")
    when = again.desk.clock.wall()
    os.utime(path, (when, when))
    again.look()
    assert (again.code("fix.zdp"), again.desk.vat) == ("ok", b"VAT = 2\n")


def test_an_old_order_takes_nothing_out(box: Box) -> None:
    """An order that lies there since before a push is not about that push."""
    path = box.put("fix.zdp", box.desk.fix())
    box.look()
    box.put("out.order.json", b'{"verb": "revert", "patch": "FIX-1"}')
    box.look()
    when = box.desk.clock.wall()
    os.utime(path, (when, when))
    box.look()
    assert box.desk.vat == b"VAT = 2\n"
    box.put("keep.order.json", b'{"verb": "confirm", "patch": "FIX-1"}')
    box.look()
    again = box.of(box.desk.restart())
    again.look()
    assert again.desk.vat == b"VAT = 2\n"
    assert (again.code("out.order.json"), again.code("keep.order.json")) == ("ZDP-213", "ok")


def test_each_process_does_it(box: Box) -> None:
    """A second process of the application gets the patch too, with the same trial."""
    box.put("fix.zdp", box.desk.fix())
    other = box.of(box.desk.another())
    box.look()
    other.look()
    assert (other.code("fix.zdp"), other.desk.vat) == ("ok", b"VAT = 2\n")


def test_absorbed_by_the_release(box: Box) -> None:
    """An image that has the fix already needs nothing, and says so to whoever requires it."""
    raw = box.desk.fix()
    box.put("fix.zdp", raw)
    other = box.of(box.desk.another({"shop.cart": b"VAT = 2\n"}))
    other.look()
    result = other.result("fix.zdp")
    assert result is not None
    assert result["result"]["state"] == "absorbed"


def test_refused_as_a_push_is(box: Box) -> None:
    """Signatures and the base are held against it in the same way, and nothing is in."""
    raw = box.desk.mint.bundle("stranger", created=box.desk.mint.now)
    box.put("stranger.zdp", raw)
    box.put("other.zdp", box.desk.fix(base=b"VAT = 9\n", seq=9))
    box.look()
    assert (box.code("stranger.zdp"), box.code("other.zdp")) == ("ZDP-103", "ZDP-201")
    assert box.desk.vat == b"VAT = 1\n"


def test_no_apply(box: Box) -> None:
    """With ZDPATCH=no-apply nothing comes in this way either."""
    box.desk.here.no_apply = True
    box.put("fix.zdp", box.desk.fix())
    box.look()
    assert (box.code("fix.zdp"), box.desk.vat) == ("ZDP-213", b"VAT = 1\n")


def test_half_written_files(box: Box) -> None:
    """A file that somebody still copies has no result until it is whole, or lies still."""
    raw = box.desk.fix()
    later = box.desk.clock.wall() + 100
    path = box.put("fix.zdp", raw[:500], at=later)
    box.desk.clock.tick(100)
    box.handed.tend()
    assert box.code("fix.zdp") == ""
    path.write_bytes(raw)
    box.look()
    assert (box.code("fix.zdp"), box.desk.vat) == ("ok", b"VAT = 2\n")
    box.put("cut.zdp", raw[:500])
    box.look()
    assert box.code("cut.zdp") == "ZDP-102"


def test_names_that_are_not_meant(box: Box) -> None:
    """What is hidden, partial or called otherwise is left alone."""
    raw = box.desk.fix()
    for name in ("a.zdp.part", "notes.txt", "b.json"):
        box.put(name, raw)
    (box.path / ".hidden.zdp").write_bytes(raw)
    (box.path / os.fsdecode(b"\xff.zdp")).write_bytes(raw)
    box.look()
    assert box.desk.vat == b"VAT = 1\n"
    assert not (box.path / "results").exists()


def test_hostile_names(box: Box) -> None:
    """Links, FIFOs, sockets, directories and huge files cost a refusal each, and no waiting."""
    secret = box.path.parent / "fix.zdp"
    secret.write_bytes(box.desk.fix())
    (box.path / "link.zdp").symlink_to(secret)
    (box.path / "loop.zdp").symlink_to("loop.zdp")
    (box.path / "gone.zdp").symlink_to("nothing")
    (box.path / "one.zdp").symlink_to("two.zdp")
    (box.path / "two.zdp").symlink_to("one.zdp")
    os.mkfifo(box.path / "fifo.zdp")
    (box.path / "dir.zdp").mkdir()
    (box.path / "device.zdp").symlink_to("/dev/zero")
    os.truncate(box.put("huge.zdp", b""), 1 << 40)
    box.look()
    codes = {name: box.code(f"{name}.zdp") for name in ("link", "fifo", "dir", "device", "huge")}
    refused = dict.fromkeys(("link", "fifo", "dir", "device"), "ZDP-403")
    assert codes == {**refused, "huge": "ZDP-101"}
    for name in ("loop", "gone", "one", "two"):
        assert box.code(f"{name}.zdp") == "ZDP-403"
    assert box.desk.vat == b"VAT = 1\n"


@ROOT
def test_other_owners(box: Box) -> None:
    """A file of a third user does not count, nor a directory that others can write to."""
    path = box.put("fix.zdp", box.desk.fix())
    os.chown(path, NOBODY, NOBODY)
    box.look()
    assert box.code("fix.zdp") == "ZDP-403"
    os.chown(path, 0, 0)
    box.path.chmod(0o777)
    box.put("again.zdp", box.desk.fix())
    box.look()
    assert box.code("again.zdp") == ""
    assert "others can write to the inbox" in box.desk.here.notices[-1]
    box.path.chmod(0o700)
    box.look()
    assert box.code("again.zdp") == "ok"
    assert box.desk.here.notices == []


@ROOT
def test_the_operators_group(tmp_path: Path, desk: Desk) -> None:
    """Members of the group that may speak to the agent may hand in, and read the results."""
    box = opened(tmp_path / "inbox", desk, gid=61234)
    box.handed.at_start(5)
    assert box.path.stat().st_mode & 0o777 == 0o770
    path = box.put("fix.zdp", desk.fix())
    os.chown(path, NOBODY, 61234)
    box.look()
    assert box.code("fix.zdp") == "ok"
    files = [box.path / "results", *(box.path / "results").iterdir()]
    assert [(f.stat().st_mode & 0o777, f.stat().st_gid) for f in files] == [
        (0o750, 61234),
        (0o640, 61234),
    ]


@ROOT
def test_a_volume_of_links(box: Box) -> None:
    """As Kubernetes mounts them: names are links to links inside a directory of root's own."""
    data = box.path / "..2026"
    data.mkdir()
    (data / "fix.zdp").write_bytes(box.desk.fix())
    (box.path / "..data").symlink_to("..2026")
    (box.path / "fix.zdp").symlink_to("..data/fix.zdp")
    box.look()
    assert (box.code("fix.zdp"), box.desk.vat) == ("ok", b"VAT = 2\n")


def test_result_of_the_same_name(box: Box) -> None:
    """Whatever has the name of a result is replaced, never written through; a directory stays."""
    victim = box.path.parent / "victim"
    victim.write_text("mine")
    results = box.path / "results"
    results.mkdir(mode=0o700)
    agent = box.desk.here.identity.agent
    (results / f"fix.zdp.{agent}.json").symlink_to(victim)
    (results / f".fix.zdp.{agent}.json.part").symlink_to(victim)
    box.put("fix.zdp", box.desk.fix())
    box.look()
    assert (victim.read_text(), box.code("fix.zdp")) == ("mine", "ok")
    blocked = results / f"cut.zdp.{agent}.json"
    blocked.mkdir()
    box.put("cut.zdp", b"PK")
    box.look()
    assert list(box.desk.home.glob("spare/cut.zdp.*"))


def test_results_elsewhere(tmp_path: Path, desk: Desk) -> None:
    """Where the inbox cannot hold them (here: results is a link), the application's place does."""
    (tmp_path / "inbox").mkdir(mode=0o700)
    (tmp_path / "inbox" / "results").symlink_to("/")
    box = opened(tmp_path / "inbox", desk)
    box.put("fix.zdp", desk.fix())
    box.look()
    assert [path.name[:7] for path in (desk.home / "spare").iterdir()] == ["fix.zdp"]


def test_old_results_go(box: Box) -> None:
    """Those of processes that are long gone, and the oldest of too many."""
    results = box.path / "results"
    results.mkdir(mode=0o700)
    for number in range(6):
        path = results / f"fix.zdp.shop-{number}.json"
        path.write_text("{}")
        when = box.desk.clock.wall() - number
        os.utime(path, (when, when))
    box.put("fix.zdp", box.desk.fix())
    box.look()
    assert len(list(results.iterdir())) == 4


def test_full_disk(box: Box) -> None:
    """Nothing is half in; when there is room again, it goes in by itself."""

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    box.desk.gate.at["apply.intent.written"] = full
    box.put("fix.zdp", box.desk.fix())
    box.desk.clock.tick(11)
    box.handed.tend()
    assert (box.code("fix.zdp"), box.desk.vat) == ("", b"VAT = 1\n")
    box.look()
    assert (box.code("fix.zdp"), box.desk.vat) == ("ok", b"VAT = 2\n")


def test_no_room_for_the_result(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch is in; its result comes when there is room."""
    box.put("fix.zdp", box.desk.fix())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Results, "write", full)
        box.look()
        assert (box.code("fix.zdp"), box.desk.vat) == ("", b"VAT = 2\n")
    box.desk.clock.tick(100)
    box.look()
    assert box.code("fix.zdp") == "ok"


def test_missing_directory_and_too_many_names(box: Box) -> None:
    """Said in the status, and taken back when it is mended."""
    for number in range(60):
        (box.path / f"{number}.txt").touch()
    box.look()
    assert "more than 50 names" in box.desk.here.notices[-1]
    box.path.rename(box.path.with_name("gone"))
    box.look()
    assert "cannot be read" in box.desk.here.notices[-1]
    box.path.mkdir(mode=0o700)
    box.look()
    assert box.desk.here.notices == []


def test_a_bug_does_not_end_the_agent(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is a result with ZDP-901."""

    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(box.desk.engine, "standing", broken)
    box.put("fix.zdp", box.desk.fix())
    box.look()
    assert box.code("fix.zdp") == "ZDP-901"
    assert box.desk.vat == b"VAT = 1\n"
