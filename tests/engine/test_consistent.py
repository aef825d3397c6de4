"""A patch that goes in or out consistently: nothing that began on one version sees the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

CHILD = Path(__file__).parent / "consistent_child.py"


def load(how: str, seconds: float, *more: str) -> dict[str, Any]:
    """Run the requests in a child interpreter; what they saw."""
    done = subprocess.run(
        [sys.executable, str(CHILD), how, str(seconds), *more],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert not told["failed"], told
    return told


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_no_request_sees_both_versions() -> None:
    """Thousands of requests in threads, tasks and executors, calls and await chains: none mixed."""
    told = load("consistent", 8)
    assert not told["mixed"], told
    assert told["both"] == [1, 2], told
    assert sum(told["done"].values()) > 5_000, told


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_values_flip_when_nobody_is_inside() -> None:
    """A changed constant and the code that reads it flip in one instant between requests."""
    told = load("consistent", 6, "values")
    assert not told["mixed"], told
    assert told["both"] == [1, 2], told


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_same_load_is_mixed_without_dispatchers() -> None:
    """The control: the patch goes in by one flip, and requests in flight see old, then new."""
    told = load("direct", 4)
    assert {"request", "task", "call", "chain"} <= told["mixed"].keys(), told


class RunCase(Protocol):
    """Runs one script in a fresh interpreter."""

    def __call__(self, script: str) -> None: ...


@pytest.fixture
def run_case(tmp_path: Path) -> RunCase:
    """The script has `shop` (loaded), `patch_of(old, new)` and `engine`."""

    def run(script: str) -> None:
        (tmp_path / "shop.py").write_text(SHOP)
        text = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PRELUDE}\ndef main():\n"
        body = "".join(f"    {line}\n" for line in script.strip("\n").splitlines())
        (tmp_path / "case.py").write_text(f"{text}{body}main()\n")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(tmp_path / "case.py")],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    return run


SHOP = """
import functools
import sys
LIMIT = 1
VERSION = "1"
def rate():
    return "old"
def price(net, unit="a"):
    if callable(net): net()
    return "old", rate(), unit
def limited():
    return LIMIT
def looks():
    return sys._getframe(1).f_code.co_name
@functools.cache
def cached():
    return "old"
class Cart:
    def total(self):
        return "old"
async def paid(wait):
    first = rate()
    await wait
    return first, rate()
"""

PRELUDE = """
import asyncio, gc, pathlib, sys, types
import shop
from zdpatch.agent import local
from zdpatch.patcher import scopes
from zdpatch.patcher.errors import ProcessError, Refused

SHOP = pathlib.Path(shop.__file__).read_text()
engine = local.engine()
def patch_of(*pairs):
    new = SHOP
    for old, value in pairs:
        assert old in new
        new = new.replace(old, value)
    return local.make_patch({"shop.py": SHOP}, {"shop.py": new})
def refused(call, *words):
    try:
        call()
    except (Refused, ProcessError) as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError
RATE = ('return "old"\\ndef price', 'return "new"\\ndef price')
PRICE = ('"old", rate()', '"new", rate()')
"""


def test_the_end_is_that_of_a_direct_flip(run_case: RunCase) -> None:
    """In, and out again at once or consistently: the very objects; no second patch meanwhile."""
    run_case(
        """
patch = patch_of(RATE, PRICE, ('unit="a"', 'unit="b"'), ('VERSION = "1"', 'VERSION = "2"'),
                 ("def limited", "def added(): return rate()\\ndef limited"))
before = {name: [f.__code__, f.__defaults__] for name, f in vars(shop).items()
          if type(f) is types.FunctionType}
plan = local.plan(patch)
foreseen = engine.foresee(plan)
assert foreseen.group == ["shop:rate", "shop:price"] and not foreseen.together, foreseen
assert foreseen.callers["shop:rate"] == ["__main__:main", "shop:paid"], foreseen
entered = engine.begin(plan)
assert entered.group == ["shop:rate", "shop:price"] and entered.together == [], entered
assert engine.moving() == patch.id
assert shop.price(1) == ("new", "new", "b") and shop.added() == "new" and shop.VERSION == "1"
refused(lambda: local.plan(patch), "ZDP-204", "on its way in")
running = engine.running("shop")
assert running.state == "verified" and running.source.decode() == SHOP, running
assert engine.standing(patch) == "base", engine.standing(patch)
refused(lambda: local.revert(patch.id), "ZDP-204")
assert not engine.blockers()
engine.finish()
assert engine.active() == (patch.id,) and shop.VERSION == "2"
assert shop.price(1) == ("new", "new", "b") and shop.price.__defaults__ == ("b",)
after = shop.rate.__code__
local.revert(patch.id)
assert not hasattr(shop, "added")
local.apply(local.plan(patch))
assert shop.rate.__code__ == after and not hasattr(shop.price, "__signature__")
del after, plan
engine.begin_revert(patch.id)
assert shop.price(1) == ("old", "old", "a") and engine.moving() == patch.id
assert not engine.blockers(), engine.blockers()
engine.finish()
now = {name: [f.__code__, f.__defaults__] for name, f in vars(shop).items()
       if type(f) is types.FunctionType}
assert all(now[n][0] is c and now[n][1] is d for n, (c, d) in before.items())
assert now.keys() == before.keys() and engine.active() == () and shop.VERSION == "1"
"""
    )


def test_blockers_are_named(run_case: RunCase) -> None:
    """Task, request, function, reference, with the line; no finish until they are gone."""
    run_case(
        """
async def all_of_it():
    gate = asyncio.get_running_loop().create_future()
    patch = patch_of(RATE, PRICE, ("first, rate()", "first, rate() or 1"))
    begun = asyncio.create_task(shop.paid(gate), name="the payment")
    await asyncio.sleep(0)
    plan = local.plan(patch)
    request = scopes.enter("user-7")
    engine.begin(plan)
    first = engine.blockers()
    assert [(b.kind, b.name) for b in first] == [("request", "user-7")], first
    refused(engine.finish, "ZDP-205", "user-7")
    assert shop.price(1)[0] == "old"
    scopes.leave(request)
    del request
    then = engine.blockers()
    assert [(b.kind, b.name, b.path) for b in then] == [("task", "the payment", "shop:paid")], then
    assert then[0].line == 23, then
    gate.set_result(None)
    assert await begun == ("old", "old")
    del begun
    held = types.FunctionType(engine._moving.transition.group.codes[0][0], vars(shop))
    assert [b.kind for b in engine.blockers()] == ["function"], engine.blockers()
    del held
    hidden = (engine._moving.transition.group.codes[0][0],)
    gc.collect()
    assert [(b.kind, b.path) for b in engine.blockers()] == [("reference", "shop:rate")]
    hidden = None
    assert not engine.blockers(), engine.blockers()
    engine.finish()
asyncio.run(all_of_it())
assert shop.price(1)[0] == "new"
"""
    )


def test_a_patch_turns_back_consistently_or_at_once(run_case: RunCase) -> None:
    """A request that began on new code ends on it after a turn; an abort is one flip."""
    run_case(
        """
patch = patch_of(RATE, PRICE, ("def limited", "def added(): return rate()\\ndef limited"))
engine.begin(local.plan(patch))
request = scopes.enter("late")
assert shop.price(1)[:2] == ("new", "new")
engine.turn()
assert shop.price(1)[:2] == ("new", "new")
assert [str(b) for b in engine.blockers()] == ["request late"]
scopes.leave(request)
assert shop.price(1)[:2] == ("old", "old")
assert engine.finish() is None and engine.moving() is None and engine.active() == ()
assert not hasattr(shop, "added")
engine.begin(local.plan(patch))
with scopes.Request("late"):
    assert shop.price(1)[0] == "new"
    engine.abort()
    assert shop.price(1)[0] == "old"
assert not hasattr(shop, "added") and engine.moving() is None
local.apply(local.plan(patch))
assert shop.price(1)[0] == "new"
"""
    )


def test_what_is_read_waits_for_an_instant_without_anybody(run_case: RunCase) -> None:
    """A value that the group reads, and unchanged readers of it, flip together; caches too."""
    run_case(
        """
patch = patch_of(RATE, ("LIMIT = 1", "LIMIT = 2"), ("return LIMIT", "return LIMIT + 0"))
entered = engine.begin(local.plan(patch))
assert any("LIMIT" in why for why in entered.together), entered
with scopes.Request("in it"):
    assert shop.limited() == 1 and shop.rate() == "old"
    assert [str(b) for b in engine.blockers()] == ["request in it"]
    refused(engine.finish, "ZDP-205")
with scopes.Request("beside it"):
    engine.finish()
    assert shop.limited() == 2 and shop.rate() == "new"
local.revert(patch.id)
cached = patch_of(("def cached():\\n    return \\"old\\"", "def cached():\\n    return \\"new\\""))
assert shop.cached() == "old"
entered = engine.begin(local.plan(cached))
assert "cache" in entered.together[0], entered
with scopes.Request("may know an answer"):
    refused(engine.finish, "ZDP-205", "may know")
engine.finish()
assert shop.cached() == "new"
"""
    )


def test_who_looks_at_its_caller_is_refused_a_dispatcher(run_case: RunCase) -> None:
    """Its frame would be a dispatcher's; the same patch goes in at one instant."""
    run_case(
        """
patch = patch_of(("f_code.co_name", "f_code.co_name + '!'"))
plan = local.plan(patch)
refused(lambda: engine.begin(plan), "ZDP-202", "frame of its caller")
assert engine.moving() is None
local.apply(local.plan(patch))
assert shop.looks() == "main!"
"""
    )


def test_a_greenlet_that_waits_in_old_code_is_named(run_case: RunCase) -> None:
    """It is on no thread's stack; what it calls is decided by its own."""
    run_case(
        """
import greenlet
patch = patch_of(RATE, PRICE)
one = greenlet.greenlet(lambda: shop.price(greenlet.getcurrent().parent.switch))
one.switch()
engine.begin(local.plan(patch, drain_s=None))
assert shop.price(1)[:2] == ("new", "new")
assert [(b.kind, b.path) for b in engine.blockers()] == [("greenlet", "shop:price")]
assert one.switch() == ("old", "old", "a")
assert one.dead and not engine.blockers(), engine.blockers()
engine.finish()
"""
    )


def test_what_waits_for_work_of_others_holds_nothing_up(run_case: RunCase) -> None:
    """A worker that a request was the first to need carries its scope and is not waited for; a task
    that the request began is, and is named.
    """
    run_case(
        """
async def worker(jobs):
    while True:
        (await jobs.get())()
async def sends_mail(gate):
    await gate
async def all_of_it():
    jobs, gate = asyncio.Queue(), asyncio.get_running_loop().create_future()
    with scopes.Request("user-7"):
        tasks = [asyncio.create_task(worker(jobs)),
                 asyncio.create_task(sends_mail(gate), name="mail")]
        assert shop.rate() == "old"
    await asyncio.sleep(0)
    engine.begin(local.plan(patch_of(RATE)))
    told = [str(each) for each in engine.blockers()]
    assert told == ["request user-7, by task mail (main.<locals>.sends_mail)"], told
    gate.set_result(None)
    await tasks[1]
    assert not engine.blockers(), engine.blockers()
    engine.finish()
    tasks[0].cancel()
asyncio.run(all_of_it())
assert shop.rate() == "new"
"""
    )


def test_what_comes_in_goes_out_without_a_collection(run_case: RunCase) -> None:
    """Nothing of a plan, or of a way, leads back to itself and so holds code until it is collected:
    neither what was looked at, nor what was asked about modules and functions that go.
    """
    run_case(
        """
here = pathlib.Path(shop.__file__).parent
(here / "gone.py").write_text("import shop\\ndef f(): return 1\\n")
import gone
held = types.SimpleNamespace(module=sys.modules.pop("gone"))
sys.modules["gone"] = held.module
GONE = (here / "gone.py").read_text()
new = SHOP.replace(*RATE).replace(*PRICE)
patch = local.make_patch({"shop.py": SHOP, "gone.py": GONE}, {"shop.py": new})
del gone
for _ in range(2):
    plan = local.plan(patch)
    gc.disable()
    engine.begin(plan)
    del plan
    assert not engine.blockers(), engine.blockers()
    engine.finish()
    engine.begin_revert(patch.id)
    assert not engine.blockers(), [str(each) for each in engine.blockers()]
    engine.finish()
    gc.enable()
assert shop.rate() == "old"
"""
    )
