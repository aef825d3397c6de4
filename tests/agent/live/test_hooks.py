"""Hooks in real processes: a kill in any of them leaves old or new, what fails leaves old."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.protocol import Apply, History, Plan, Revert, Stage, Status
from zdpatch.patcher.attached import HOOKS, Hooks

if TYPE_CHECKING:
    from tests.agent.live.conftest import Child, Operator, Site

pytestmark = pytest.mark.e2e

BASE = b"""
def load(n):
    return {"vat": n}

RATES = load(1)

def vat():
    return RATES["vat"]
"""
NEW = (
    BASE.replace(b'{"vat": n}', b'{"vat": [n]}')
    .replace(b"load(1)", b"load(2)")
    .replace(b'RATES["vat"]', b'RATES["vat"][0]')
)
CARRY = """
import os, signal
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def prepare(state):
    pass
def migrate(state):
    state.give("shop.cart:RATES", {"vat": [state.value("shop.cart:RATES")["vat"] + 1]})
def verify(state):
    import shop.cart
    assert shop.cart.vat() == 2
def undo_prepare(state): pass
def undo_migrate(state):
    state.give("shop.cart:RATES", {"vat": state.value("shop.cart:RATES")["vat"][0] - 1})
"""


def hooked(
    site: Site, source: str = CARRY, timeout_s: int = 10, **fields: object
) -> tuple[str, bytes]:
    """The digest of a bundle with hooks, and its bytes."""
    raw = source.encode()
    functions = [name for name in sorted(HOOKS) if f"def {name}(" in source]
    hooks = Hooks(
        source=hashlib.sha256(raw).hexdigest(),
        migrates=["shop.cart:RATES"],
        upgrades=[],
        functions=functions,  # type: ignore[arg-type]
        timeout_s=timeout_s,
    )
    return site.patch(BASE, NEW, hooks=hooks, more=[raw], **fields)


def started(site: Site) -> tuple[Child, Operator]:
    """A process of the base, and somebody at its agent."""
    (site.tree / "shop" / "cart.py").write_bytes(BASE)
    child = site.start()
    return child, site.operator(child)


def test_in_and_out(site: Site) -> None:
    """A push that is refused without hooks goes in with them, and comes out."""
    child, operator = started(site)
    plain, raw = site.patch(BASE, NEW)
    operator.ask(Stage(plain), raw)
    assert operator.ask(Plan(plain)).code == "ZDP-202"
    digest, raw = hooked(site)
    assert operator.ask(Stage(digest), raw).code == "ok"
    plan = operator.ask(Plan(digest)).result
    assert any("carry over: shop.cart:RATES" in said for said in plan["notices"])
    assert operator.ask(Apply(digest)).code == "ok"
    assert child.tell("(cart.vat(), cart.RATES)") == [2, {"vat": [2]}]
    assert operator.ask(Revert(digest)).code == "ok"
    assert child.tell("(cart.vat(), cart.RATES)") == [1, {"vat": 1}]


@pytest.mark.parametrize("name", ["prepare", "migrate", "verify", "undo_migrate"])
def test_killed_in_a_hook(site: Site, name: str) -> None:
    """The next process has old or new code and the state of it, as its journal says."""
    child, operator = started(site)
    once = f"if not os.path.exists({str(site.root / 'died')!r}):\n"
    once += f"        open({str(site.root / 'died')!r}, 'w').close()\n        die()\n"
    source = CARRY.replace(f"def {name}(state):", f"def {name}(state):\n    {once}", 1)
    digest, raw = hooked(site, source)
    operator.ask(Stage(digest), raw)
    if name.startswith("undo"):
        assert operator.ask(Apply(digest)).code == "ok"
    with pytest.raises(TimeoutError):
        operator.ask(Revert(digest) if name.startswith("undo") else Apply(digest), unless=child)
    assert child.process.wait(timeout=20) == -9
    after = site.start()
    operator = site.operator(after)
    (row,) = operator.ask(Status()).result["patches"]
    seen = after.tell("(cart.vat(), cart.RATES)")
    assert seen == ([1, {"vat": 1}] if name.startswith("undo") else [2, {"vat": [2]}])
    assert row["state"] == ("reverted" if name.startswith("undo") else "trial")
    assert operator.ask(History(audit=True)).result["intact"]


def test_a_hook_that_fails(site: Site) -> None:
    """The answer has what it raised; the process and the journal are as before."""
    child, operator = started(site)
    bad, raw = hooked(site, CARRY + "\ndef verify(state):\n    1 / 0\n")
    operator.ask(Stage(bad), raw)
    answer = operator.ask(Apply(bad))
    assert (answer.code, "ZeroDivisionError" in answer.cause) == ("ZDP-218", True)
    assert child.tell("(cart.vat(), cart.RATES)") == [1, {"vat": 1}]
    (row,) = operator.ask(Status()).result["patches"]
    assert row["state"] == "staged"
    for_ever = CARRY + "\ndef prepare(state):\n    while True: pass\n"
    slow, raw = hooked(site, for_ever, timeout_s=1, id="FIX-2", seq=8)
    operator.ask(Stage(slow), raw)
    answer = operator.ask(Apply(slow))
    assert (answer.code, "within 1 s" in answer.cause) == ("ZDP-218", True)
    assert child.tell("cart.vat()") == 1


def test_a_way_back_that_fails(site: Site) -> None:
    """The patch stays in this process, and the next one is without it."""
    child, operator = started(site)
    digest, raw = hooked(site, CARRY + "\ndef undo_migrate(state):\n    1 / 0\n")
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest)).code == "ok"
    assert operator.ask(Revert(digest)).code == "ZDP-218"
    assert child.tell("(cart.vat(), cart.RATES)") == [2, {"vat": [2]}]
    child.end()
    assert site.start().tell("cart.vat()") == 1


def test_neither_in_nor_out(site: Site) -> None:
    """It is told as one that is in, and that must go."""
    child, operator = started(site)
    digest, raw = hooked(
        site,
        CARRY + "\ndef verify(state):\n    import shop.cart\n    shop.cart.RATES = {}\n    1 / 0\n"
        "def undo_migrate(state):\n    1 / 0\n",
    )
    operator.ask(Stage(digest), raw)
    answer = operator.ask(Apply(digest))
    assert (answer.code, "could not be taken out" in answer.cause) == ("ZDP-307", True)
    (row,) = operator.ask(Status()).result["patches"]
    assert row["state"] == "trial"
    assert child.tell("handle.status()")["active"] == ["FIX-1"]


def test_a_trial_that_runs_out(site: Site) -> None:
    """Silence takes it out with its state."""
    child, operator = started(site)
    digest, raw = hooked(site)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, trial_s=1))
    site.eventually(lambda: child.tell("cart.RATES") == {"vat": 1})
    assert child.tell("cart.vat()") == 1
