"""What is left of old code is counted, whoever holds it; what only the undo keeps is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import gc, json, sys
from zdpatch.agent import local
use, drop = json.loads(sys.argv[1])
frozen = len(sys.argv) > 2
base = '''
def f(xs):
    return (x for x in xs)
def same(xs):
    return 1, (x for x in xs)
def gone():
    return 1
class C:
    def m(self):
        return 1
    @staticmethod
    def s():
        return 1
    @property
    def p(self):
        return 1
    def g(self):
        yield 1
        yield 2
'''
new = '''
def f(xs):
    return (x + 100 for x in xs)
def same(xs):
    return 2, (x for x in xs)
class C:
    pass
'''
open("shop.py", "w").write(base)
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
import shop
space = {"m": shop}
exec(use, space)
plan = local.plan(patch)
outstanding = local.apply(plan).outstanding
def left():
    if frozen:
        gc.freeze()
    found = local.engine().left(patch.id)
    gc.unfreeze()
    return found
found = left()
assert outstanding.items() <= found.suspended.items(), outstanding
exec(drop, space)
after = left()
local.revert(patch.id)
undone = left()
print({**found.suspended, **found.functions}, found.bound, after.clear, undone.clear)
"""
HELD = {
    "nobody": ("pass", "pass", "{} {} True True"),
    "list": ("h = [m.gone]", "h.clear()", "{'shop:gone': 1} {} True True"),
    "tuple_of_three": ("h = (0, 0, m.gone)", "del h", "{'shop:gone': 1} {} True True"),
    "static_method": (
        "h = [vars(m.C)['s']]",
        "h.clear()",
        "{'shop:C.s': 1} {} True True",
    ),
    "function_of_it": ("h = [m.C.s]", "h.clear()", "{'shop:C.s': 1} {} True True"),
    "property": ("h = [vars(m.C)['p'].fget]", "h.clear()", "{'shop:C.p': 1} {} True True"),
    "method": ("h = m.C().m", "del h", "{'shop:C.m': 1} {'shop:C.m': 1} True True"),
    "generator": (
        "h = m.f([1, 2]); next(h)",
        "del h",
        "{'shop:f.<locals>.<genexpr>': 1} {} True True",
    ),
    "equal_generator": ("h = m.same([1, 2])[1]; next(h)", "del h", "{} {} True True"),
    "generator_of_a_method": (
        "h = m.C().g(); next(h)",
        "del h",
        "{'shop:C.g': 1} {} True True",
    ),
}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("frozen", ["", "frozen"])
def test_it_is_counted(tmp_path: Path, name: str, frozen: str) -> None:
    """Until it is let go, also where the collector does not see who holds it."""
    use, drop, expected = HELD[name]
    more = [frozen] if frozen else []
    assert told(tmp_path, CHILD, [use, drop], *more) == expected


BORN = """
import json, sys
from zdpatch.agent import local
use, expected = json.loads(sys.argv[1])
base = "def f(n):\\n    yield 1\\n    yield 1\\ndef make():\\n    return lambda: 1\\n"
new = "def f(n):\\n    yield 2\\n    yield 2\\ndef make():\\n    return lambda: 2\\n"
new += "def extra():\\n    return 4\\nclass Born:\\n    def hi(self):\\n        return 5\\n"
open("shop.py", "w").write(base)
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
import shop
plan = local.plan(patch)
local.apply(plan)
space = {"m": shop}
exec(use, space)
print(local.revert(patch.id).born_on_trial)
"""
MADE = {
    "nothing": ("list(m.f(1)), m.make()(), m.extra(), m.Born().hi()", "{}"),
    "function": ("h = [m.extra]", "{'shop:extra': 1}"),
    "instances": ("h = [m.Born(), m.Born()]", "{'shop:Born': 2}"),
    "generators": ("h = [m.f(1), m.f(2)]; [next(g) for g in h]", "{'shop:f': 2}"),
    "closure_led_back": ("h = m.make()", "{}"),
}


@pytest.mark.parametrize("name", MADE)
def test_a_rollback_says_what_was_born_on_trial(tmp_path: Path, name: str) -> None:
    """Whatever kind it is of, and only while somebody has it."""
    assert told(tmp_path, BORN, list(MADE[name])) == MADE[name][1]


TAKEN = """
import gc, json, sys
from zdpatch.agent import local
use, drop = json.loads(sys.argv[1])
frozen = len(sys.argv) > 2
base = "T = {'a': [1]}\\nU = T\\nclass C:\\n    t = [1]\\ndef f(t=T):\\n    return len(t)\\n"
new = "T = {'a': [1, 2]}\\nU = T\\nclass C:\\n    t = [1, 2]\\ndef f(t=T):\\n    return len(t)\\n"
new += "LATER = [3]\\ndef g(t=LATER):\\n    return t\\nclass D:\\n    t = LATER\\n"
open("shop.py", "w").write(base)
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
import shop
space = {"m": shop}
plan = local.plan(patch)
local.apply(plan)
exec(use, space)
if frozen:
    gc.freeze()
born = local.revert(patch.id).born_on_trial
left = local.engine().left(patch.id).tables
exec(drop, space)
print(born, left == born, local.engine().left(patch.id).tables)
"""
TABLES = {
    "nobody": ("m.f(), m.g(), m.D().t", "pass", "{} True {}"),
    "list": ("h = [m.T]", "h.clear()", "{'shop:T': 1} True {}"),
    "object": ("h = m.C(); h.mine = m.C.t", "del h", "{'shop:C.t': 1} True {}"),
    "iterator": ("h = iter(m.T)", "del h", "{'shop:T': 1} True {}"),
    "part": ("h = m.T['a']", "del h", "{'shop:T': 1} True {}"),
    "new_one": ("h = [m.LATER]", "h.clear()", "{'shop:LATER': 1} True {}"),
    "old_one": ("h = [[1]]", "pass", "{} True {}"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("frozen", ["", "frozen"])
def test_who_took_a_table_on_trial_is_counted(tmp_path: Path, name: str, frozen: str) -> None:
    """It stays with them; the names have the one from before. What went with the patch counts for
    nobody.
    """
    use, drop, expected = TABLES[name]
    more = [frozen] if frozen else []
    assert told(tmp_path, TAKEN, [use, drop], *more) == expected
