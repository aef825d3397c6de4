"""Hooks carry live state over with the code, and back: whole, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

BASE = """
def load(n):
    return {"a": n}

RATES = load(1)
SEEN = []

class Cart:
    def __init__(self):
        self.items = [1]

    def total(self):
        return sum(self.items) * RATES["a"]
"""
NEW = """
def load(n):
    return {"a": (n, "EUR")}

RATES = load(2)
SEEN = []

class Cart:
    def __init__(self):
        self.items = [1]
        self.currency = "EUR"

    def total(self):
        return [sum(self.items) * RATES["a"][0], self.currency]
"""
USER = "from mcart import RATES, SEEN\ndef rates():\n    return RATES\n"
HOOKS = """
MIGRATES = ["mcart:RATES"]
UPGRADES = ["mcart:Cart"]

def prepare(state):
    state.kept["n"] = 1

def migrate(state):
    old = state.value("mcart:RATES")
    state.give("mcart:RATES", {k: (v + state.kept["n"], "EUR") for k, v in old.items()})

def upgrade(state, cart):
    if not hasattr(cart, "currency"):
        state.set(cart, "currency", "USD")

def verify(state):
    import mcart
    assert mcart.Cart().total() == [2, "EUR"]

def undo_prepare(state):
    state.kept.clear()

def undo_migrate(state):
    new = state.value("mcart:RATES")
    state.give("mcart:RATES", {k: v[0] - 1 for k, v in new.items()})

def downgrade(state, cart):
    state.delete(cart, "currency")
"""
PRELUDE = """
import ast, gc, json, sys, threading, time, weakref
from dataclasses import replace
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.source import Hooks
given = json.loads(sys.argv[1])
sys.path.insert(0, "")
import mcart, muser
carts = [mcart.Cart(), mcart.Cart()]

def hooked(source, limit=10, base=given[0], new=given[1]):
    tree = ast.parse(source)
    names = {n.targets[0].id: frozenset(ast.literal_eval(n.value))
             for n in tree.body if isinstance(n, ast.Assign)}
    functions = frozenset(n.name for n in tree.body if isinstance(n, ast.FunctionDef))
    hooks = Hooks(source.encode(), names.get("MIGRATES", frozenset()),
                  names.get("UPGRADES", frozenset()), functions, limit)
    return replace(local.make_patch({"mcart.py": base}, {"mcart.py": new}, id="M-1"), hooks=hooks)

def go(source=given[2], **more):
    try:
        local.apply(local.plan(hooked(source, **more)))
    except ZdpatchError as error:
        return [error.code, error.cause]
    return "in"

def out():
    try:
        return local.revert("M-1").born_on_trial
    except ZdpatchError as error:
        return [error.code, error.cause]

def now():
    return [dict(mcart.RATES), muser.rates() is mcart.RATES, [c.total() for c in carts],
            [sorted(vars(c)) for c in carts]]

def show(*values):
    print(json.dumps(values))
"""
OLD_STATE = [{"a": 1}, True, [1, 1], [["items"], ["items"]]]
NEW_STATE = [
    {"a": [2, "EUR"]},
    True,
    [[2, "USD"], [2, "USD"]],
    [["currency", "items"], ["currency", "items"]],
]


def run(folder: Path, program: str, hooks: str = HOOKS, base: str = BASE, new: str = NEW) -> Any:  # noqa: ANN401
    """The values that a program shows in an interpreter that has the base."""
    (folder / "mcart.py").write_text(base)
    (folder / "muser.py").write_text(USER)
    return json.loads(told(folder, PRELUDE + program, [base, new, hooks]).splitlines()[-1])


def test_in_and_out(tmp_path: Path) -> None:
    """Variables and objects come with the code, and go with it, with what came since."""
    program = """
in_, state = go(), now()
mcart.RATES["b"] = (9, "EUR")
carts.append(mcart.Cart())
show(in_, state, out(), now(), go(), now()[2][0], out())
"""
    found = run(tmp_path, program)
    assert found[:3] == ["in", NEW_STATE, {}]
    assert found[3] == [{"a": 1, "b": 8}, True, [1, 1, 1], [["items"]] * 3]
    assert found[4:] == ["in", [2, "USD"], {}]


def test_not_side_by_side(tmp_path: Path) -> None:
    """State has one shape at a time: consistently such a patch goes neither in nor out."""
    program = """
def code(call, *arguments):
    try:
        return call(*arguments)
    except ZdpatchError as error:
        return error.code
engine = local.engine()
plan = local.plan(hooked(given[2]))
show(code(engine.foresee, plan), code(engine.begin, plan), go(),
     code(engine.begin_revert, "M-1"), out())
"""
    assert run(tmp_path, program) == ["ZDP-213", "ZDP-213", "in", "ZDP-213", {}]


def test_without_hooks_it_is_refused(tmp_path: Path) -> None:
    """And with hooks for one of two names, for the other."""
    only = "def verify(state):\n    pass\n"
    cart = HOOKS.replace('MIGRATES = ["mcart:RATES"]', "MIGRATES = []")
    rates = HOOKS.replace('UPGRADES = ["mcart:Cart"]', "UPGRADES = []")
    program = f"show(go({only!r}), go({cart!r}), go({rates!r}), now())"
    none, no_rates, no_cart, state = run(tmp_path, program)
    assert none[0] == no_rates[0] == no_cart[0] == "ZDP-202"
    assert "mcart:RATES" in no_rates[1]
    assert "more" not in no_rates[1]
    assert "mcart:Cart" in no_cart[1]
    assert state == OLD_STATE


def test_what_reads_it_must_be_carried_over_too(tmp_path: Path) -> None:
    """Nothing can be computed from a value that a hook will give; the hook says that as well."""
    base, new = BASE + 'TOP = RATES["a"]\n', NEW + 'TOP = RATES["a"]\n'
    both = HOOKS.replace('["mcart:RATES"]', '["mcart:RATES", "mcart:TOP"]')
    both = both.replace("    new = state", '    state.give("mcart:TOP", 1)\n    new = state')
    both = both.replace("    old = state", '    state.give("mcart:TOP", 2)\n    old = state')
    program = f"show(go(), go({both!r}), mcart.TOP, out(), mcart.TOP)"
    alone, *together = run(tmp_path, program, base=base, new=new)
    assert alone[0] == "ZDP-202"
    assert "a hook gives mcart:RATES, which it reads" in alone[1]
    assert together == ["in", 2, {}, 1]


@pytest.mark.parametrize("name", ["prepare", "migrate", "upgrade", "complete", "verify"])
def test_a_hook_that_fails_undoes_all(tmp_path: Path, name: str) -> None:
    """State, code and objects are what they were, and what had begun is undone; then it goes in."""
    log = """
LOG = []
def complete(state):
    LOG.append("complete")
def undo_complete(state):
    LOG.append("undo_complete")
"""
    hooks = HOOKS.replace("state.kept.clear()", "import builtins; builtins.LOG = [*LOG]") + log
    hooks = hooks.replace('MIGRATES = ["mcart:RATES"]', 'MIGRATES = ["mcart:RATES", "mcart"]')
    arguments = "state, cart" if name == "upgrade" else "state"
    bad = hooks + f"\ndef {name}({arguments}):\n    1 / 0\n"
    program = f"show(go({bad!r}), now(), LOG, local.engine().active(), go(), now())"
    (code, cause), before, undone, active, again, after = run(tmp_path, program)
    assert (code, f"the hook {name} of M-1 fails" in cause) == ("ZDP-218", True)
    assert "ZeroDivisionError" in cause
    assert (before, active) == (OLD_STATE, [])
    done = ["complete", "undo_complete"] if name == "verify" else []
    assert undone == (["undo_complete"] if name == "complete" else done)
    assert (again, after) == ("in", NEW_STATE)


@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(60)"])
def test_a_hook_has_its_time(tmp_path: Path, body: str) -> None:
    """Python code is interrupted, and nobody waits for what is not; nothing has changed."""
    slow = HOOKS + f"\ndef migrate(state):\n    {body}\n"
    program = (
        f"at = time.monotonic()\nshow(go({slow!r}, limit=1), now(), time.monotonic() - at < 30)"
    )
    (code, cause), state, soon = run(tmp_path, program)
    assert (code, "it did not end within 1 s" in cause) == ("ZDP-218", True)
    assert (state, soon) == (OLD_STATE, True)


@pytest.mark.parametrize("name", ["undo_migrate", "downgrade"])
def test_a_way_back_that_fails_is_told(tmp_path: Path, name: str) -> None:
    """The patch stays in, whole."""
    arguments = "state, cart" if name == "downgrade" else "state"
    bad = HOOKS + f"\ndef {name}({arguments}):\n    1 / 0\n"
    program = f"show(go({bad!r}), out(), now(), local.engine().active())"
    in_, (code, cause), state, active = run(tmp_path, program)
    assert (in_, code, state, active) == ("in", "ZDP-218", NEW_STATE, ["M-1"])
    assert f"the hook {name} of M-1 fails" in cause


def test_neither_in_nor_out(tmp_path: Path) -> None:
    """What fails on both ways says so, and the patch is one that is in."""
    bad = HOOKS + (
        "\ndef verify(state):\n    import mcart\n    mcart.RATES = {}\n    1 / 0\n"
        "def undo_migrate(state):\n    1 / 0\n"
    )
    (code, cause), active = run(tmp_path, f"show(go({bad!r}), local.engine().active())")
    assert (code, active) == ("ZDP-307", ["M-1"])
    assert "the hook verify of M-1 fails" in cause
    assert "could not be taken out: the hook undo_migrate of M-1 fails" in cause


def test_new_code_wrote_before_a_check_failed(tmp_path: Path) -> None:
    """Then the hooks carry that back."""
    bad = HOOKS + (
        "\ndef verify(state):\n    import mcart\n    mcart.RATES = {'a': (7, 'EUR')}\n    1 / 0\n"
    )
    (code, cause), rates = run(tmp_path, f"show(go({bad!r}), mcart.RATES)")
    assert (code, rates) == ("ZDP-218", {"a": 6}), cause


def test_a_table_that_is_written_to_meanwhile(tmp_path: Path) -> None:
    """It is carried over once more; one that never rests refuses the patch."""
    once = HOOKS.replace(
        '    old = state.value("mcart:RATES")\n',
        '    old = state.value("mcart:RATES")\n    live = __import__("mcart").RATES\n'
        "    old = dict(old)\n    if len(live) < LIMIT:\n        live[str(len(live))] = 5\n",
    )
    program = f"""
show(go({once.replace("LIMIT", "2")!r}), dict(mcart.RATES), out(), dict(mcart.RATES),
     go({once.replace("LIMIT", "99")!r}), now()[2])
"""
    in_, rates, out, back, (code, cause), totals = run(tmp_path, program)
    assert (in_, rates) == ("in", {"a": [2, "EUR"], "1": [6, "EUR"]})
    assert (out, back) == ({}, {"a": 1, "1": 5})
    assert (code, "the table was written to since" in cause) == ("ZDP-218", True)
    assert totals == [1, 1]


def test_objects_that_old_code_makes_meanwhile(tmp_path: Path) -> None:
    """They are carried over after the flip."""
    late = HOOKS.replace(
        '        state.set(cart, "currency", "USD")\n',
        '        state.set(cart, "currency", "USD")\n        import __main__, mcart\n'
        "        if len(__main__.carts) < 4:\n            __main__.carts.append(mcart.Cart())\n",
    )
    in_, state = run(tmp_path, f"show(go({late!r}), now()[2])")
    assert (in_, state) == ("in", [[2, "USD"]] * 4)


def test_a_hook_that_leaves_something_out(tmp_path: Path) -> None:
    """What it owes is looked at, on every object; and it may touch nothing but what it names."""
    no_value = HOOKS + "\ndef migrate(state):\n    pass\n"
    no_object = HOOKS + "\ndef upgrade(state, cart):\n    pass\n"
    foreign = HOOKS + "\ndef migrate(state):\n    state.give('muser:RATES', 1)\n"
    other = HOOKS + "\ndef upgrade(state, cart):\n    state.set(cart.items, 'x', 1)\n"
    program = f"show(*(go(each)[1] for each in {[no_value, no_object, foreign, other]!r}), now())"
    *causes, state = run(tmp_path, program)
    words = (
        "it gives no value for mcart:RATES",
        "2 live objects of mcart:Cart have no currency",
        "MIGRATES of the hooks does not name muser:RATES",
        "only the object that a hook was called for",
    )
    assert [word in cause for word, cause in zip(words, causes, strict=True)] == [True] * 4
    assert state == OLD_STATE


def test_objects_live_and_die_as_before(tmp_path: Path) -> None:
    """What is kept to undo the patch keeps no object."""
    program = """
gone = weakref.ref(carts[0])
in_ = go()
del carts[0]
gc.collect()
dead = gone() is None
show(in_, dead, out(), [vars(c) for c in carts])
"""
    assert run(tmp_path, program) == ["in", True, {}, [{"items": [1]}]]


def test_state_of_which_the_text_says_nothing(tmp_path: Path) -> None:
    """A table whose statement is the same has other entries: who took it by its name follows."""
    hooks = """
MIGRATES = ["mcart:SEEN"]
def migrate(state):
    state.give("mcart:SEEN", [(each, 1) for each in state.value("mcart:SEEN")])
def undo_migrate(state):
    state.give("mcart:SEEN", [each for each, _ in state.value("mcart:SEEN")])
"""
    base = BASE.replace("        return sum", "        SEEN.append(7)\n        return sum")
    new = BASE.replace("        return sum", "        SEEN.append((7, 1))\n        return sum")
    program = """
carts[0].total()
in_ = go()
carts[0].total()
show(in_, mcart.SEEN, muser.SEEN is mcart.SEEN, out(), mcart.SEEN, muser.SEEN is mcart.SEEN)
"""
    found = run(tmp_path, program, hooks, base, new)
    assert found == ["in", [[7, 1], [7, 1]], True, {}, [7, 7], True]


def test_a_statement_with_an_effect(tmp_path: Path) -> None:
    """A hook does what it would have done, and takes it back."""
    hooks = """
MIGRATES = ["mcart"]
def complete(state):
    import mcart
    mcart.register("new")
def undo_complete(state):
    import mcart
    mcart.PLACES.remove("new")
"""
    base = "PLACES = []\ndef register(x):\n    PLACES.append(x)\nregister('old')\n" + BASE
    new = base.replace("register('old')", "register('old')\nregister('new')")
    program = "show(go('def verify(s): pass')[0], go(), [*mcart.PLACES], out(), mcart.PLACES)"
    found = run(tmp_path, program, hooks, base, new)
    assert found == ["ZDP-202", "in", ["old", "new"], {}, ["old"]]


def test_modules_that_are_not_imported(tmp_path: Path) -> None:
    """There is nothing to carry over; later imports have the new shape from the start."""
    program = """
del sys.modules["mcart"], sys.modules["muser"], mcart, muser, carts
gc.collect()
in_ = go()
import mcart
cart, rates = mcart.Cart(), dict(mcart.RATES)
show(in_, rates, out(), mcart.RATES, vars(cart), cart.total())
"""
    hooks = HOOKS + "\ndef migrate(state):\n    1 / 0\n"
    found = run(tmp_path, program, hooks)
    assert found == ["in", {"a": [2, "EUR"]}, {}, {"a": 1}, {"items": [1]}, 1]
