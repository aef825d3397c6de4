"""A patch that goes in and out again and again leaves nothing behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

OLD = """
import functools

LIMIT = 1
TABLE = (LIMIT, 1)

@functools.lru_cache
def price(cart, vat=1):
    def each(item):
        return item + 1
    return [each(item) for item in range(cart)]

class Cart:
    "A cart."
    rate = 1
    def total(self):
        return self.rate + LIMIT + 1

def only_old():
    return 1
"""
NEW = OLD.replace("1", "2").partition("def only_old")[0] + "class New:\n    def f(self): return 2\n"
PROGRAM = """
import collections, gc, json, linecache, sys
sys.path.insert(0, ".")
import shop
from zdpatch.agent import local

old, new, rounds = json.loads(sys.argv[1])
patch = local.make_patch({"shop.py": old}, {"shop.py": new})

def go(times):
    for _ in range(times):
        local.apply(local.plan(patch))
        assert shop.price(1) == [2]
        local.revert(patch.id)
        assert shop.price(1) == [1]

def present():
    gc.collect()
    kinds = collections.Counter(type(each).__name__ for each in gc.get_objects())
    # what is remembered of code that is gone is bounded, and thrown away from time to time
    del kinds["tuple"], kinds["ReferenceType"]
    return kinds, len(linecache.cache), len(sys.modules)

go(rounds // 4)
before = present()
go(rounds)
after = present()
grown = {kind: n - before[0][kind] for kind, n in after[0].items() if n > before[0][kind]}
print(json.dumps([grown, after[1] - before[1], after[2] - before[2]]))
"""


@pytest.mark.timeout(300)
def test_nothing_grows_with_the_number_of_patches(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(OLD)
    rounds = 100
    grown, sources, modules = json.loads(told(tmp_path, PROGRAM, [OLD, NEW, rounds]))
    assert (sources, modules) == (0, 0)
    # less than one of a kind for ten rounds: a list that was just being filled, say
    assert {kind: n for kind, n in grown.items() if n > rounds // 10} == {}
