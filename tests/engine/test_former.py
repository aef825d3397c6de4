"""Who holds what a name meant before a patch is told when it goes in; an undo names nothing that
was there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, sys
from zdpatch.agent import local
use = json.loads(sys.argv[1])
base = '''
import other
def v1():
    return 1
def v2():
    return 2
run = v1
def helper():
    return 1
def call(h=helper):
    return h()
class B:
    def f(self):
        return 1
    def old(self):
        return 3
class A(B):
    go = v1
Impl = A
def gone():
    return 4
'''
new = '''
import other
from collections import OrderedDict
from other import helped
def v1():
    return 1
def v2():
    return 2
run = v2
def helper2():
    return 2
def call(h=helper2):
    return h()
class B:
    def f(self):
        return 1
class A(B):
    go = v2
    def f(self):
        return 2
Impl = B
'''
open("shop.py", "w").write(base)
open("other.py", "w").write("def helped(): return 1\\ntable = [helped]")
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
import shop
from collections import OrderedDict
kept = [OrderedDict()]
exec(use)
applied = local.apply(local.plan(patch))
print(*[each for each in applied.notices if each.endswith(("that", "stay"))], sep="; ")
left = sorted(local.engine().left(patch.id).functions.items())
print(dict(left), dict(local.revert(patch.id).born_on_trial))
"""
HELD = {
    "nobody": ("pass", "{} {}"),
    "function": (
        "kept += [shop.run, shop.gone]",
        "shop:run meant shop:v1 before: one holder of it will go on to run that; "
        "shop:gone is gone: one holder of it will go on to run that\n"
        "{'shop:gone': 1, 'shop:v1': 1} {}",
    ),
    "methods": (
        "a = shop.B(); kept += [a.old, a.old, a.f]",
        "shop:B.old is gone: 2 holders of it will go on to run that\n{'shop:B.old': 1} {}",
    ),
    "hidden": (
        "a = shop.A(); kept.append(a.f);",
        "shop:A.f hides shop:B.f: one bound method will go on to run that; "
        "shop:Impl meant shop:A before: one instance of that will stay\n{} {}",
    ),
}


@pytest.mark.parametrize("who", HELD)
def test_who_holds_what_names_meant_is_told(who: str, tmp_path: Path) -> None:
    """By name and number; not the modules, classes and default values that have it too."""
    use, expected = HELD[who]
    assert sorted(told(tmp_path, CHILD, use).split("\n")) == sorted(expected.split("\n"))
