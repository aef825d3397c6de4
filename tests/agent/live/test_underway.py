"""A patch that goes in or out by and by: what it waits for, its limit, and a kill on its way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.protocol import (
    Apply,
    Consistently,
    History,
    Plan,
    Revert,
    Stage,
    Status,
)

if TYPE_CHECKING:
    from tests.agent.live.conftest import Child, Operator, Site
    from zdpatch.agent.protocol import OnLimit

pytestmark = pytest.mark.e2e
BY_AND_BY = Consistently()
OPEN = "from zdpatch import agent; held = agent.request('user-7'); held.__enter__()"
CLOSE = "held.__exit__(None, None, None); del held"


@pytest.fixture
def begun(site: Site) -> tuple[Child, Operator, str]:
    """A process in the middle of a request, which has a patch staged."""
    digest, raw = site.fix()
    child = site.start()
    operator = site.operator(child)
    child.tell(OPEN)
    assert child.tell("cart.vat()") == 1
    operator.ask(Stage(digest), raw)
    return child, operator, digest


def row(operator: Operator) -> dict[str, Any]:
    """The patch, as status has it."""
    (found,) = operator.ask(Status()).result["patches"]
    return dict(found)


def until(operator: Operator, state: str) -> dict[str, Any]:
    """The patch when it has come to `state`."""
    end = time.monotonic() + 15
    while (found := row(operator))["state"] != state or found["way"] is not None:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def test_what_has_begun_ends_on_old_code(begun: tuple[Child, Operator, str]) -> None:
    """It is "applying" while the request is open, which is named; then on trial, then plain."""
    child, operator, digest = begun
    planned = operator.ask(Plan(digest, consistent=True)).result["consistent"]
    assert planned == {
        "group": ["shop.cart:vat"],
        "together": [],
        "callers": {"shop.cart:vat": ["__main__:main", "__main__:tell"]},
    }, planned
    answer = operator.ask(Apply(digest, consistent=BY_AND_BY))
    assert answer.result["state"] == "applying"
    assert answer.result["way"]["blockers"] == ["request user-7"], answer
    assert child.tell("cart.vat()") == 1
    assert row(operator)["way"]["group"] == ["shop.cart:vat"]
    assert operator.ask(Apply(digest, consistent=BY_AND_BY)).result["state"] == "applying"
    assert operator.ask(Plan(digest)).code == "ZDP-204"
    child.tell(CLOSE)
    assert until(operator, "trial")["reason"] == ""
    assert child.tell("cart.vat()") == 2
    assert child.tell("'routed' not in cart.vat.__code__.co_filename") is True
    audit = operator.ask(History(audit=True)).result
    assert audit["intact"]
    assert [one["outcome"] for one in audit["rows"] if one["verb"] == "apply"] == ["ok", "begun"]


def test_an_idle_process_has_it_at_once(site: Site) -> None:
    """The very answer says so, and the way out as well."""
    digest, raw = site.fix()
    child = site.start()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest, consistent=BY_AND_BY)).result["state"] == "trial"
    assert child.tell("cart.vat()") == 2
    gone = operator.ask(Revert(digest, BY_AND_BY)).result
    assert (gone["state"], gone["way"]) == ("reverted", None), gone
    assert child.tell("cart.vat() == 1 and cart.vat is old") is True


@pytest.mark.parametrize("then", ["abort", "flip"])
def test_the_limit(begun: tuple[Child, Operator, str], then: OnLimit) -> None:
    """After it the patch goes back, and the reason names who was in the way; or on at once."""
    child, operator, digest = begun
    wish = Consistently(limit_s=1, on_limit=then)
    assert operator.ask(Apply(digest, consistent=wish)).result["state"] == "applying"
    if then == "flip":
        until(operator, "trial")
        assert child.tell("cart.vat()") == 2
        return
    found = until(operator, "staged")
    assert "request user-7" in found["reason"], found
    assert "1 s" in found["reason"]
    child.tell(CLOSE)
    assert child.tell("cart.vat() == 1 and 'routed' not in cart.vat.__code__.co_filename") is True
    assert operator.ask(Apply(digest, consistent=BY_AND_BY)).result["state"] == "trial"


@pytest.mark.parametrize("how", [None, BY_AND_BY])
def test_a_rollback_on_the_way_in(
    begun: tuple[Child, Operator, str], how: Consistently | None
) -> None:
    """It goes back, and may come again."""
    child, operator, digest = begun
    operator.ask(Apply(digest, consistent=BY_AND_BY))
    assert operator.ask(Revert(digest, how)).code == "ok"
    found = until(operator, "staged")
    assert found["wanted"] == "staged"
    child.tell(CLOSE)
    assert child.tell("cart.vat()") == 1
    assert operator.ask(Apply(digest)).result["state"] == "trial"
    assert child.tell("cart.vat()") == 2


def test_the_way_out(begun: tuple[Child, Operator, str]) -> None:
    """What has begun on the patch ends on it; it is not wanted from the first moment."""
    child, operator, digest = begun
    child.tell(CLOSE)
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    child.tell(OPEN)
    assert child.tell("cart.vat()") == 2
    way = operator.ask(Revert(digest, BY_AND_BY)).result["way"]
    assert (way["leaves"], way["blockers"]) == (True, ["request user-7"])
    assert child.tell("cart.vat()") == 2
    assert (row(operator)["state"], row(operator)["wanted"]) == ("confirmed", "reverted")
    child.tell(CLOSE)
    until(operator, "reverted")
    assert child.tell("cart.vat()") == 1


WAYS = (
    "intent.durable",
    "entered",
    "flipped",
    "outcome.begin",
    "outcome.written",
    "outcome.durable",
)


@pytest.mark.parametrize("step", [f"{verb}.{at}" for verb in ("apply", "revert") for at in WAYS])
def test_killed_on_the_way(site: Site, step: str) -> None:
    """The next process comes up with what was wanted, whole."""
    digest, raw = site.fix()
    child = site.start(kill=step)
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    for header in (Apply(digest, consistent=BY_AND_BY), Revert(digest, BY_AND_BY)):
        try:
            operator.ask(header, unless=child)
        except TimeoutError:
            break
    child.process.wait(timeout=20)
    assert child.process.returncode == -9
    after = site.start()
    came = step.startswith("apply")
    assert after.tell("cart.vat()") == (2 if came else 1)
    asked = site.operator(after)
    assert row(asked)["state"] == ("trial" if came else "reverted")
    assert asked.ask(History(audit=True)).result["intact"]


def test_killed_while_it_waits(begun: tuple[Child, Operator, str], site: Site) -> None:
    """As at the step itself: nobody waits any more, so it is in at once."""
    child, operator, digest = begun
    operator.ask(Apply(digest, consistent=BY_AND_BY))
    child.kill()
    after = site.start()
    assert after.tell("cart.vat()") == 2
    assert row(site.operator(after))["state"] == "trial"


def test_a_forked_child_goes_its_own_way(begun: tuple[Child, Operator, str]) -> None:
    """It has none of the parent's requests to wait for, and arrives by itself."""
    child, operator, digest = begun
    operator.ask(Apply(digest, consistent=BY_AND_BY))
    assert child.tell("short()") == 0
    child.tell(CLOSE)
    until(operator, "trial")
