"""Somebody takes back, slot by slot, what a patch had set: it is told, and what is no such thing is
not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
LIMIT = 5
RATES = {"a": 1}
def f():
    return "old"
def g(strict=False):
    return strict
def later():
    return 1
class Kind:
    def meth(self):
        return "old"
    @staticmethod
    def still():
        return "old"
"""
APP = """
import importlib, json, pathlib, sys, types
import shop
from zdpatch.agent import local

base = pathlib.Path(shop.__file__).read_text()
new = base.replace('"old"', '"new"').replace("False", "True").replace("= 5", "= 6")
new = new.replace('"a": 1', '"a": 2') + "COUNT = 0\\ndef added():\\n    return 2\\n"
code, defaults = shop.f.__code__, shop.g.__defaults__
meth = shop.Kind.meth.__code__
local.apply(local.plan(local.make_patch({"shop.py": base}, {"shop.py": new}, id="ONE")))
assert (shop.f(), shop.g(), shop.LIMIT, shop.COUNT) == ("new", True, 6, 0)
assert local.engine().set_back() == {}
exec(json.loads(sys.argv[1]))
print(json.dumps(local.engine().set_back()))
"""


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("shop.f.__code__ = code", ["shop:f.__code__"]),
        ("shop.f.__code__ = (lambda: 3).__code__", ["shop:f.__code__"]),
        ("shop.g.__defaults__ = defaults", ["shop:g.__defaults__"]),
        ("shop.g.__defaults__ = (3,)", ["shop:g.__defaults__"]),
        ("shop.LIMIT = 5", ["shop:LIMIT"]),
        ("del shop.added", ["shop:added"]),
        (
            "shop.Kind.meth = types.FunctionType(meth, vars(shop), 'meth')",
            ["shop:Kind.meth (another function, with old code)"],
        ),
        ("shop.Kind.still = staticmethod(lambda: 3)", []),
        ("shop.Kind.meth = lambda self: 3", []),
        ("shop.LIMIT = 7", []),
        ("shop.COUNT += 1", []),
        ("importlib.reload(shop)", []),
    ],
)
def test_what_was_set_back(tmp_path: Path, does: str, words: list[str]) -> None:
    """Named by its path; a program's own values are its own."""
    (tmp_path / "shop.py").write_text(SHOP)
    assert json.loads(told(tmp_path, APP, does)) == ({"ONE": words} if words else {})


def test_what_a_later_patch_changes_is_not_set_back(tmp_path: Path) -> None:
    """Nor is it when that patch goes out; what somebody changes then is the first one's again."""
    more = """
newer = new.replace('"new"', '"newer"').replace("= 6", "= 5")
local.apply(local.plan(local.make_patch({"shop.py": new}, {"shop.py": newer}, id="TWO")))
print(json.dumps(local.engine().set_back()))
second = shop.f.__code__
shop.f.__code__ = code
print(json.dumps(local.engine().set_back()))
shop.f.__code__ = second
local.revert("TWO")
print(json.dumps(local.engine().set_back()))
shop.LIMIT = 5
"""
    (tmp_path / "shop.py").write_text(SHOP)
    found = [json.loads(line) for line in told(tmp_path, APP, more).splitlines()]
    assert found == [
        {},
        {"TWO": ["shop:f.__code__"], "ONE": ["shop:f (another function, with old code)"]},
        {},
        {"ONE": ["shop:LIMIT"]},
    ]
