"""kill -9 at every named step leaves old or new, never half, and a journal that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.journal import STEPS
from zdpatch.agent.protocol import (
    Apply,
    Confirm,
    Header,
    History,
    Hold,
    Plan,
    Revert,
    Stage,
    Status,
    Want,
)

if TYPE_CHECKING:
    from tests.agent.live.conftest import Child, Operator, Site

pytestmark = pytest.mark.e2e

FLIPS = ("apply.flipped", "revert.flipped", "replay.flipped", "expire.flipped")
ELSEWHERE = ("refusal.", "trust.")
ALL = [step for step in (*STEPS, *FLIPS) if not step.startswith(ELSEWHERE)]


def drive(operator: Operator, child: Child, digest: str, raw: bytes) -> None:
    """Every verb that writes; the other end may die at any of them."""
    requests: list[tuple[Header, bytes | None]] = [
        (Hold(on=False), None),
        (Stage(digest), raw),
        (Apply(digest, trial_s=600), None),
        (Confirm(digest), None),
        (Revert(digest), None),
        (Want(digest, trial_s=600), None),
        (Revert(digest), None),
        (Apply(digest, trial_s=1), None),
    ]
    for header, blob in requests:
        if operator.ask(header, blob, unless=child).code != "ok":
            raise AssertionError(header)


@pytest.mark.parametrize("step", ALL)
def test_killed(site: Site, step: str) -> None:
    """After a kill at `step` a new process has old or new code, as its journal says."""
    digest, raw = site.fix()
    if step.startswith("replay."):
        _prepare_a_confirmed_patch(site, digest, raw)
    child = site.start(kill=step)
    if child.process.poll() is None and not step.startswith(("enter.", "replay.")):
        _let_it_die(site, child, digest, raw, step)
    child.process.wait(timeout=20)
    assert child.process.returncode == -9
    after = site.start()
    operator = site.operator(after)
    wanted = {row["state"] for row in operator.ask(Status()).result["patches"]}
    vat = after.tell("cart.vat()")
    assert vat == (2 if wanted & {"trial", "confirmed"} else 1)
    if step.startswith("apply.outcome") or step == "apply.flipped":
        assert wanted == {"trial"}
    if step.startswith("revert.outcome") or step == "revert.flipped":
        assert wanted == {"reverted"}
    assert operator.ask(History(audit=True)).result["intact"]
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    assert after.tell("cart.vat()") == 2
    assert operator.ask(Revert(digest)).code == "ok"
    assert after.tell("cart.vat()") == 1


def _prepare_a_confirmed_patch(site: Site, digest: str, raw: bytes) -> None:
    first = site.start()
    operator = site.operator(first)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    if digest:
        first.kill()


def _let_it_die(site: Site, child: Child, digest: str, raw: bytes, step: str) -> None:
    operator = site.operator(child)
    if step.startswith("leave."):
        child.end()
        return
    try:
        drive(operator, child, digest, raw)
    except TimeoutError:
        return


def test_killed_while_settling_at_start(site: Site) -> None:
    """A kill while a start gives up a patch leaves it to the next start."""
    digest, raw = site.fix()
    _prepare_a_confirmed_patch(site, digest, raw)
    site.write(9)
    for step in ("replay.outcome.begin", "replay.outcome.written", "replay.outcome.durable"):
        assert site.start(kill=step).process.wait(timeout=20) == -9
    after = site.start()
    (row,) = site.operator(after).ask(Status()).result["patches"]
    assert (row["state"], row["wanted"]) == ("superseded", "confirmed")


def test_crash_loop_ends_in_quarantine(site: Site) -> None:
    """A patch that kills its process on trial comes up once more, and not a third time."""
    digest, raw = site.fix()
    child = site.start()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, trial_s=600))
    child.kill()
    second = site.start()
    assert second.tell("cart.vat()") == 2
    second.kill()
    third = site.start()
    assert third.tell("cart.vat()") == 1
    (row,) = site.operator(third).ask(Status()).result["patches"]
    assert row["state"] == "quarantined"
    assert any("quarantined" in said for said in third.tell("handle.status()")["warnings"])
    assert site.operator(third).ask(Plan(digest)).code == "ZDP-303"
    assert site.operator(third).ask(Revert("FIX-1")).result["state"] == "reverted"
    (row,) = site.operator(third).ask(Status()).result["patches"]
    assert (row["state"], row["wanted"]) == ("reverted", "reverted")
    assert third.tell("handle.status()")["warnings"] == []
