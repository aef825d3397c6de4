"""The whole way through the command line: build, sign, push into real processes, and out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import NEW, OLD

if TYPE_CHECKING:
    from tests.e2e.conftest import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_fix_goes_in_and_out(place: Place) -> None:
    """Two processes get the fix without a restart, keep it when confirmed, and lose it exactly."""
    services = [place.serve(), place.serve("b")]
    assert [service.ask(5) for service in services] == ["5", "5"]
    place.build("--fixes", "CVE-2026-1")
    place.json("status", "--require", "CVE-2026-1", code=9)
    assert place.json("push", "fix.zdp", "--plan", code=10)["state"] == "planned"
    assert [service.ask(5) for service in services] == ["5", "5"]
    pushed = place.json("push", "fix.zdp", "--yes", "-m", "the bug")
    assert [target["outcome"] for target in pushed["targets"]] == ["applied", "applied"]
    assert [service.ask(5) for service in services] == ["15 FIX-1", "15 FIX-1"]
    place.json("status", "--require", "CVE-2026-1")
    assert place.json("push", "fix.zdp", "--yes")["state"] == "already"
    assert place.json("confirm", "FIX-1")["state"] == "confirmed"
    assert "+    return net * RATE" in place.run("diff", str(services[0].pid), "shop.cart:price")
    assert place.json("rollback")["state"] == "reverted"
    assert [service.ask(5) for service in services] == ["5", "5"]
    moves = place.json("history")["apps"]["shop"]["rows"]
    assert {"trial", "confirmed", "reverted"} <= {row["new"] for row in moves}
    trail = place.json("audit")["apps"]["shop"]
    assert trail["intact"] is True
    assert "the bug" in str(trail["rows"])


def test_what_is_left_is_told(place: Place) -> None:
    """`status --detail` names what runs the patch, and says when nothing of the other code is."""
    place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes", "--confirm")
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    counts = ("frames", "suspended", "functions", "bound", "instances", "tables")
    none: dict[str, object] = {kind: {} for kind in counts}
    assert patch["left"] == {"runs": ["shop.cart:price"], "waiting": [], **none}
    assert patch["notices"] == []
    told = place.run("status", "--detail")
    assert "runs it   shop.cart:price" in told
    assert "old code  nothing is left of it" in told
    place.run("rollback", "FIX-1")
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    assert patch["left"] == {"runs": [], "waiting": [], **none}
    assert "new code  nothing is left of it" in place.run("status", "--detail")


def test_what_the_old_initialiser_made_is_told(place: Place) -> None:
    """The plan, the push and `status --detail` say how many objects the old initialiser made."""
    basket = "class Basket:\n    def __init__(self):\n        self.limit = 1\nKEPT = Basket()\n"
    (place.path / "old/shop/cart.py").write_text(OLD + basket)
    (place.path / "new/shop/cart.py").write_text(NEW + basket.replace("limit = 1", "limit = 2"))
    place.serve()
    place.build()
    told = "shop.cart:Basket: a live object was made by the old Basket.__init__"
    assert told in place.run("push", "fix.zdp", "--plan", code=10)
    (target,) = place.json("push", "fix.zdp", "--yes")["targets"]
    assert told in str(target["notices"])
    (patch,) = place.json("status", "--detail")["agents"][0]["patches"]
    assert told in str(patch["notices"])
    assert told in place.run("status", "--detail")


def test_a_data_file_goes_in_and_out(place: Place) -> None:
    """A data file goes in with a running process, is there after a restart, and goes out; one that
    the process does not have is refused.
    """
    cart = (
        "import json\nfrom pathlib import Path\n\n\n"
        "def price(net):\n"
        "    return net * json.loads((Path(__file__).parent / 'rate.json').read_text())\n"
    )
    for tree, rate in (("old", "1"), ("new", "3"), ("newer", "4")):
        (place.path / tree / "shop").mkdir(parents=True, exist_ok=True)
        (place.path / tree / "shop/__init__.py").write_text("")
        (place.path / tree / "shop/cart.py").write_text(cart)
        (place.path / tree / "shop/rate.json").write_text(rate)
    first = place.serve()
    assert place.build(base="new", new="newer")["data"] == ["shop/rate.json"]
    error = place.json("push", "fix.zdp", "--yes", code=4)["error"]
    assert (error["code"], "shop/rate.json" in error["cause"]) == ("ZDP-201", True)
    built = place.build()
    assert built["modules"] == ["shop", "shop.cart"]
    assert "+3" in place.run("diff", "fix.zdp")
    assert "2 modules, 1 data file" in place.run("inspect", "fix.zdp")
    assert place.json("check", "fix.zdp")["in_place"] is True
    place.run("push", "fix.zdp", "--yes", "--confirm")
    assert first.ask(5) == "15 FIX-1"
    assert (place.path / "old/shop/rate.json").read_text() == "1"
    first.end()
    second = place.serve()
    assert second.ask(5) == "15 FIX-1"
    third = place.serve(tree="new")  # a release that has it
    assert third.ask(5) == "15"
    place.run("rollback", "FIX-1")
    assert second.ask(5) == "5"


def test_one_that_runs_something_else_stops_all(place: Place) -> None:
    """If one process runs another base, none changes; --partial changes those which can."""
    same = place.serve()
    text = OLD.replace("return net", "return net + 1")
    (place.path / "other" / "shop").mkdir(parents=True)
    (place.path / "other/shop/__init__.py").write_text("")
    (place.path / "other/shop/cart.py").write_text(text)
    other = place.serve(tree="other")
    place.build()
    refused = place.json("push", "fix.zdp", "--yes", code=4)["error"]
    assert refused["code"] == "ZDP-201"
    assert "shop.cart" in refused["cause"] + str(refused["verdicts"])
    assert (same.ask(5), other.ask(5)) == ("5", "6")
    partial = place.json("push", "fix.zdp", "--yes", "--partial", code=9)
    assert sorted(target["outcome"] for target in partial["targets"]) == ["applied", "refused"]
    assert (same.ask(5), other.ask(5)) == ("15 FIX-1", "6")
    assert place.json("status", code=9)["state"] == "degraded"


def test_silence_reverts(place: Place) -> None:
    """A trial that nobody confirms ends by itself, and --wait tells it with exit 6."""
    service = place.serve()
    place.build()
    error = place.json("push", "fix.zdp", "--yes", "--trial", "1s", "--wait", code=6)["error"]
    assert error["code"] == "ZDP-501"
    assert service.ask(5) == "5"


def test_refused_bundles_change_nothing(place: Place) -> None:
    """Unsigned, tampered with, or signed by a stranger: exit 3, and the service is as it was."""
    service = place.serve()
    place.build()
    file = place.path / "fix.zdp"
    good = file.read_bytes()
    at = good.index(b"net * RATE")
    file.write_bytes(good[:at] + b"net + RATE" + good[at + 10 :])
    place.run("push", "fix.zdp", "--yes", code=3)
    place.run("keygen", "evil.key", "--no-passphrase")
    ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp")
    place.run("build", *ends)
    assert place.json("push", "fix.zdp", "--yes", code=3)["error"]["code"] == "ZDP-103"
    place.run("sign", "fix.zdp", "--key", "evil.key")
    assert place.json("push", "fix.zdp", "--yes", code=3)["error"]["code"] == "ZDP-103"
    assert service.ask(5) == "5"


def test_killed_process_is_no_target(place: Place) -> None:
    """A killed process is skipped and what it left is removed; the other one is patched."""
    dead, alive = place.serve(), place.serve()
    dead.kill()
    place.build()
    assert len(place.json("push", "fix.zdp", "--yes", "--confirm")["targets"]) == 1
    assert alive.ask(5) == "15 FIX-1"
    assert len(list((place.path / "h" / "agents").iterdir())) == 1


def test_hold(place: Place) -> None:
    """While an application is held nothing new comes in, and what is in can still go out."""
    service = place.serve()
    place.build()
    place.run("push", "fix.zdp", "--yes")
    place.run("hold", "-m", "sale")
    place.run("rollback", "FIX-1")
    assert place.json("push", "fix.zdp", "--yes", code=4)["error"]["code"] == "ZDP-213"
    place.run("hold", "--off")
    place.run("push", "fix.zdp", "--yes")
    assert service.ask(5) == "15 FIX-1"
