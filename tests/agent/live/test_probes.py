"""A probe decides in front of real processes: a patch that fails one is in none of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.protocol import Apply, History, Plan, Revert, Stage, Status
from zdpatch.patcher.attached import Probe

if TYPE_CHECKING:
    from tests.agent.live.conftest import Child, Operator, Site

pytestmark = pytest.mark.e2e


def with_probe(
    site: Site, source: str, new: int = 2, base: int = 1, **fields: object
) -> tuple[str, bytes]:
    """The digest of a bundle with a probe, and its bytes."""
    raw = source.encode()
    probe = Probe(name="checks.py", source=hashlib.sha256(raw).hexdigest(), timeout_s=10)
    return site.fix(new, base, probes=[probe], more=[raw], **fields)


def started(site: Site) -> tuple[Child, Operator]:
    """A process, and somebody at its agent."""
    child = site.start()
    return child, site.operator(child)


def test_a_probe_that_passes(site: Site) -> None:
    """It saw the new code while the old one answered; the plan says so."""
    child, operator = started(site)
    digest, raw = with_probe(site, "import shop.cart\nEXPECT = [('shop.cart:vat', (), 2)]\n")
    assert operator.ask(Stage(digest), raw).code == "ok"
    plan = operator.ask(Plan(digest))
    assert any("probe checks.py: 1 check passes" in said for said in plan.result["notices"])
    assert child.tell("cart.vat()") == 1
    assert operator.ask(Apply(digest)).code == "ok"
    assert child.tell("cart.vat()") == 2


def test_a_probe_that_fails(site: Site) -> None:
    """Plan and apply are refused with what it saw; nothing runs, nothing is wanted."""
    child, operator = started(site)
    digest, raw = with_probe(site, "EXPECT = [('shop.cart:vat', (), 3)]\n")
    operator.ask(Stage(digest), raw)
    for header in (Plan(digest), Apply(digest)):
        answer = operator.ask(header)
        assert (answer.code, "vat() gives 2, not 3" in answer.cause) == ("ZDP-217", True)
    assert child.tell("cart.vat()") == 1
    (row,) = operator.ask(Status()).result["patches"]
    assert row["state"] == "refused"
    assert operator.ask(History(audit=True)).result["intact"]
    assert child.tell("handle.status()")["active"] == []


def test_it_sees_the_patches_below(site: Site) -> None:
    """What another patch made of a module is what runs here, whatever is on disk."""
    child, operator = started(site)
    first, raw = site.fix(2, 1)
    operator.ask(Stage(first), raw)
    operator.ask(Apply(first, confirm=True))
    seen = "import shop.cart\ndef test_a():\n    assert shop.cart.vat() == 3\n"
    digest, raw = with_probe(site, seen, 3, 2, id="FIX-2", seq=8)
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest)).code == "ok"
    assert child.tell("cart.vat()") == 3
    assert operator.ask(Revert("FIX-2")).code == "ok"


def test_a_process_that_is_killed_while_it_probes(site: Site) -> None:
    """Old code, and the next process is asked again."""
    child, operator = started(site)
    digest, raw = with_probe(
        site,
        "import os, signal\ndef test_a():\n    os.kill(os.getppid(), signal.SIGKILL)\n",
    )
    operator.ask(Stage(digest), raw)
    with pytest.raises(TimeoutError):
        operator.ask(Apply(digest), unless=child)
    assert child.process.wait(timeout=20) == -9
    after, operator = started(site)
    assert after.tell("cart.vat()") == 1
    (row,) = operator.ask(Status()).result["patches"]
    assert row["state"] == "staged"


def test_a_restart_does_not_wait_for_probes(site: Site) -> None:
    """What passed and was confirmed comes up before the application serves."""
    child, operator = started(site)
    digest, raw = with_probe(site, "EXPECT = [('shop.cart:vat', (), 2)]\n")
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    child.end()
    assert site.start().tell("cart.vat()") == 2
