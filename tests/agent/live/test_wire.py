"""A bundle goes over a real socket into a real process, and out again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.messages import MAX_BLOB_BYTES
from zdpatch.agent.protocol import Apply, Confirm, Hello, History, Hold, Plan, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = pytest.mark.e2e


def test_the_way_of_a_patch(site: Site) -> None:
    """Stage, plan, apply, confirm, revert; captured functions follow; every answer says who."""
    child = site.start()
    operator = site.operator(child)
    digest, raw = site.fix(fixes=["CVE-2024-1"])
    assert operator.ask(Hello()).result == {
        "protocol": 1,
        "trusted": True,
        "held": False,
        "floor": 0,
        "patches": 0,
    }
    assert operator.ask(Stage(digest), raw).result["state"] == "staged"
    plan = operator.ask(Plan(digest))
    assert plan.result["modules"] == ["shop.cart"]
    assert child.tell("cart.vat()") == 1
    applied = operator.ask(Apply(digest, trial_s=60))
    assert (applied.code, applied.result["state"], applied.result["functions"]) == (
        "ok",
        "trial",
        1,
    )
    assert child.tell("[cart.vat(), old()]") == [2, 2]
    assert child.tell("list(__import__('zdpatch.agent').agent.active())") == ["FIX-1"]
    again = operator.ask(Apply(digest))
    assert again.result == applied.result
    assert operator.ask(Confirm("FIX-1")).result["state"] == "confirmed"
    (row,) = operator.ask(Status(detail=True)).result["patches"]
    assert (row["state"], row["wanted"], row["fixes"]) == ("confirmed", "confirmed", ["CVE-2024-1"])
    assert operator.ask(Revert(digest[:8])).result["state"] == "reverted"
    assert child.tell("[cart.vat(), old()]") == [1, 1]
    agent = again.agent
    assert (agent.app, agent.release, agent.pid, agent.state) == ("shop", "1.4", child.pid, "ready")
    audit = operator.ask(History(audit=True)).result
    assert audit["intact"]
    assert {row["peer_pid"] for row in audit["rows"]} == {os.getpid()}


def test_silence_reverts(site: Site) -> None:
    """A trial that nobody confirms ends by itself, and the agent says so."""
    child = site.start()
    operator = site.operator(child)
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, trial_s=1))
    assert child.tell("cart.vat()") == 2
    site.eventually(lambda: child.tell("cart.vat()") == 1)
    status = operator.ask(Status()).result
    assert (status["patches"][0]["state"], status["patches"][0]["wanted"]) == ("reverted",) * 2
    assert "nobody confirmed it in time" in status["warnings"][0]


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk(site: Site, room: int) -> None:
    """When nothing more can be written, the answer says so and the process is as it was."""
    child = site.start()
    operator = site.operator(child)
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    child.tell("import resource; limits = resource.getrlimit(resource.RLIMIT_FSIZE)")
    size = f"os.stat({str(site.home / 'apps' / 'shop' / 'journal.db-wal')!r}).st_size"
    full = f"({size} + {room * 4120}, limits[1])"
    child.tell(f"resource.setrlimit(resource.RLIMIT_FSIZE, {full})")
    assert operator.ask(Apply(digest)).code == "ZDP-301"
    assert child.tell("cart.vat()") == 1
    child.tell("resource.setrlimit(resource.RLIMIT_FSIZE, limits)")
    assert operator.ask(Apply(digest)).code == "ok"
    assert child.tell("cart.vat()") == 2


def test_refusals_are_answered_and_audited(site: Site) -> None:
    """A tampered bundle, a foreign digest and an unknown patch are refused, and recorded."""
    operator = site.operator(site.start())
    digest, raw = site.fix()
    flipped = raw[:200] + bytes([raw[200] ^ 1]) + raw[201:]
    assert operator.ask(Stage(digest), flipped).code.startswith("ZDP-10")
    assert operator.ask(Stage("0" * 64), raw).code == "ZDP-102"
    assert operator.ask(Apply(digest)).code == "ZDP-212"
    assert operator.ask(Revert("NOPE")).code == "ZDP-212"
    rows = operator.ask(History(audit=True)).result["rows"]
    assert [row["verb"] for row in rows] == ["revert", "apply", "stage", "stage"]
    assert all(row["outcome"].startswith("ZDP-") for row in rows)


def test_hold_over_the_wire(site: Site) -> None:
    """A hold is for the whole application, and every answer shows it."""
    one, two = site.operator(site.start()), site.operator(site.start())
    digest, raw = site.fix()
    assert one.ask(Hold(on=True, reason="freeze")).result == {"held": True}
    two.ask(Stage(digest), raw)
    refused = two.ask(Apply(digest))
    assert (refused.code, refused.agent.state) == ("ZDP-213", "held")
    assert two.ask(Status()).result["held"]["reason"] == "freeze"
    one.ask(Hold(on=False))
    assert two.ask(Apply(digest)).agent.state == "ready"


def test_malformed_frames(site: Site) -> None:
    """Bad frames get an error or nothing, and the agent goes on."""
    operator = site.operator(site.start())
    msgid = os.urandom(16)
    for frames in ([b"hello", msgid], [b"evil", msgid, b"{}"], [b"hello", msgid, b"{"]):
        assert operator.raw(frames, msgid).code == "ZDP-404"
    assert operator.raw([b"hello", msgid, *([b"x"] * 500)], msgid).code == "ZDP-404"
    operator.socket.send_multipart([b"hello"])
    operator.socket.send_multipart([b""])
    assert operator.ask(Hello()).code == "ok"


def test_a_huge_frame_ends_the_connection_only(site: Site) -> None:
    """A frame above the limit costs its sender the connection; others are served."""
    child = site.start()
    greedy, operator = site.operator(child), site.operator(child)
    assert operator.ask(Hello()).code == "ok"
    digest, _ = site.fix()
    with pytest.raises(TimeoutError):
        greedy.ask(Stage(digest), b"x" * (MAX_BLOB_BYTES + 1), timeout_s=1)
    assert operator.ask(Hello()).code == "ok"


def test_a_flood_is_cut(site: Site) -> None:
    """More requests than the stated rate are answered "too many", and later ones are served."""
    operator = site.operator(site.start(rate_per_s=0.2, rate_burst=20))
    codes = {operator.ask(Hello()).code for _ in range(60)}
    assert codes == {"ok", "ZDP-405"}
    site.eventually(lambda: operator.ask(Hello()).code == "ok")


def test_the_log_filter(site: Site) -> None:
    """Records carry the ids of the active patches."""
    child = site.start()
    operator = site.operator(child)
    child.tell("from zdpatch.agent import PatchFilter; import logging")
    child.tell("record = logging.makeLogRecord({})")
    assert child.tell("PatchFilter().filter(record) and record.zdpatch") == ""
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest))
    assert child.tell("PatchFilter().filter(record) and record.zdpatch") == "FIX-1"
