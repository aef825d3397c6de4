"""A patch that comes in again finds the process as the first one did: the engine itself holds
nothing that would have to be looked for on the heap, also while nothing is collected.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
def price(x):
    return x + 1

def prices(xs):
    return [price(x) for x in xs]

class Cart:
    limit = 1
    def total(self):
        return 1
"""
APP = """
import ast, gc, pathlib, sys
import shop
from zdpatch.agent import local

base = pathlib.Path(shop.__file__).read_bytes()
new = base.replace(b"x + 1", b"x + 2").replace(b"return 1", b"return 2").replace(b"= 1", b"= 2")
held = lambda: iter((vars(shop), shop.price.__code__, shop.Cart.total.__code__))
count = lambda: [sys.getrefcount(each) for each in held()]
trees = lambda: sum(type(each) is ast.Module for each in gc.get_objects())
gc.collect()
gc.disable()
before = count()
for _ in range(3):
    patch = local.make_patch({"shop.py": base}, {"shop.py": new})
    plan = local.plan(patch)
    print("scan" if plan.heap_scan else "no scan")
    del plan
    assert trees() == 0
    local.apply(local.plan(patch))
    assert shop.price(1) == 3
    local.revert(patch.id)
    assert shop.price(1) == 2
    print([now - was for now, was in zip(count(), before)])
"""


def test_what_comes_in_again_needs_no_scan(tmp_path: Path) -> None:
    """Neither the heap is scanned, nor does anything more hold what the patch changed, and what was
    read of the sources is gone.
    """
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["no scan", "[0, 0, 0]"] * 3, done.stderr
