"""A patch that meets another one in the same module is told which, whatever the two change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

BASE = """
RATE = 1
def price():
    return RATE
def tax():
    return 1
class Cart:
    def total(self):
        return 1
    def count(self):
        return 1
"""
APP = """
import json, pathlib, sys
import shop
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError

base = pathlib.Path(shop.__file__).read_text()
def patch(id, changes):
    new = base
    for old, text in changes:
        assert old in new
        new = new.replace(old, text)
    return local.make_patch({"shop.py": base}, {"shop.py": new}, id=id)

one, two, drift = json.loads(sys.argv[1])
local.apply(local.plan(patch("ONE", one)))
exec(drift, vars(shop))
try:
    plan = local.plan(patch("TWO", two))
    print("planned")
except ZdpatchError as error:
    print(error.code, error.cause, error.next, sep="|")
"""
PRICE, OTHER = ("return RATE", "return RATE + 1"), ("return RATE", "return RATE + 2")
TAX, NEW = ("def tax():\n    return 1", "def tax():\n    return 2"), ("class", "LIMIT = 1\nclass")
CASES = {
    "the same function": ([PRICE], [OTHER], "", "ZDP-204|ONE changed shop:price, and TWO was"),
    "another function": ([PRICE], [TAX], "", "ZDP-204|ONE changed shop:price, and TWO was"),
    "the same fix": (
        [PRICE],
        [PRICE],
        "",
        "ZDP-204|the fix is in already: all that TWO changes is as it would leave it; active",
    ),
    "the same constant": (
        [("RATE = 1", "RATE = 2")],
        [("RATE = 1", "RATE = 3")],
        "",
        "ZDP-204|ONE changed shop:RATE",
    ),
    "a name that is new in both": (
        [NEW],
        [("class", "LIMIT = 2\nclass")],
        "",
        "ZDP-204|ONE changed shop:LIMIT",
    ),
    "a method": (
        [("def total(self):\n        return 1", "def total(self):\n        return 2")],
        [TAX],
        "",
        "ZDP-204|ONE changed shop:Cart.total",
    ),
    "something that nobody patched": (
        [PRICE],
        [TAX],
        "Cart.count = lambda self: 2",
        "ZDP-201|shop:price: price was replaced",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_another_patch_is_named(tmp_path: Path, name: str) -> None:
    """ZDP-204 with the name of the patch and what to do; ZDP-201 when something else drifted."""
    *given, said = CASES[name]
    (tmp_path / "shop.py").write_text(BASE)
    answer = told(tmp_path, APP, given)
    assert answer.startswith(said)
    assert ("zdpatch rollback ONE" in answer) == ("ONE changed" in said)
