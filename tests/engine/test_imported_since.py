"""A patch goes out of a module that was imported with it, whatever was made meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, sys
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError
base, new, use, check = json.loads(sys.argv[1])
open("shop.py", "w").write(base)
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
local.apply(local.plan(patch))
import shop
space = {"m": shop}
exec(use, space)
try:
    local.revert(patch.id)
    if len(sys.argv) > 2:
        local.apply(local.plan(patch))
        local.revert(patch.id)
    print(eval(check, space), not local.engine().active())
except ZdpatchError as error:
    print(error.code, bool(local.engine().active()))
"""
OUT = {
    "parameter": (
        "def f(x, y=1):\n    return x + y\n",
        "def f(x, y=1, z=5):\n    return x + y + z\n",
        "held = m.f",
        "held(1) == 2 and held.__defaults__ == (1,)",
    ),
    "method": (
        "class C:\n    def g(self):\n        return 1\n",
        "class C:\n    def g(self):\n        return self.h()\n    def h(self):\n        return 2\n",
        "held = m.C(); bound = held.h",
        "held.g() == 1 and not hasattr(held, 'h')",
    ),
    "several": (
        "class C:\n    def f(self):\n        return 1\ndef total(x):\n    return x\n",
        "A = ('n', 1)\nclass C:\n    def f(self):\n        return self.g()\n    def g(self):\n"
        "        return A\ndef total(x):\n    return x\nclass Fresh:\n    v = 1\n",
        "pass",
        "m.C().f() == 1",
    ),
    "cache": (
        "import functools\n@functools.lru_cache\ndef f(x):\n    return 1\n",
        "import functools\n@functools.lru_cache\ndef f(x):\n    return 2\n",
        "m.f(3)",
        "m.f(3) == 1",
    ),
    "class": ("X = 1\n", "X = 1\nclass N: pass\n", "held = m.N()", "not hasattr(m, 'N')"),
    "hash": (
        "class C:\n    def __hash__(self):\n        return 1\n",
        "class C:\n    def __hash__(self):\n        return 2\n",
        "held = {m.C(): 1}",
        "hash(m.C()) == 1",
    ),
    "generator": (
        "def g():\n    yield 1\n",
        "def g():\n    yield 2\n    yield 3\n",
        "held = m.g(); next(held)",
        "list(m.g()) == [1] and list(held) == [3]",
    ),
    "closure": (
        "def f(a):\n    def g():\n        return a\n    return g\n",
        "def f(a, b=1):\n    def g():\n        return a + b\n    return g\n",
        "held = m.f(1)",
        "m.f(1)() == 1 and held() == 2",
    ),
}
STUCK = {
    "table": (
        "T = {'a': 1}\nclass C:\n    def __init__(self):\n        self.t = T\nMAIN = C()\n",
        "T = {'a': 2}\nclass C:\n    def __init__(self):\n        self.t = T\nMAIN = C()\n",
    ),
    "computed": ("def f():\n    return 1\nY = f()\n", "def f():\n    return 2\nY = f()\n"),
    "attributes": (
        "class C:\n    def __init__(self):\n        self.a = 1\n    def g(self):\n"
        "        return self.a\nMAIN = C()\n",
        "class C:\n    def __init__(self):\n        self.b = 2\n    def g(self):\n"
        "        return self.b\nMAIN = C()\n",
    ),
    "consumed": (
        "import functools\n@functools.singledispatch\ndef f(x):\n    return 1\n"
        "@f.register\ndef g(x: int):\n    return 2\n",
        "import functools\n@functools.singledispatch\ndef f(x):\n    return 1\n"
        "@f.register\ndef g(x: str):\n    return 2\n",
    ),
    "bases": ("class A: pass\nclass C: pass\n", "class A: pass\nclass C(A): pass\n"),
}


def undo(tmp_path: Path, base: str, new: str, use: str, check: str, *more: str) -> str:
    """What became of it; with `more` it came in again, and went out again."""
    return told(tmp_path, CHILD, [base, new, use, check], *more)


@pytest.mark.parametrize("name", OUT)
def test_it_goes_out(tmp_path: Path, name: str) -> None:
    """New calls do what the base does; what new code made stays as it was made."""
    assert undo(tmp_path, *OUT[name]) == "True True"


@pytest.mark.parametrize("name", ["parameter", "method", "several", "class", "closure"])
def test_it_comes_in_again(tmp_path: Path, name: str) -> None:
    """What is left of what the patch had added is no drift."""
    assert undo(tmp_path, *OUT[name], "again") == "True True"


@pytest.mark.parametrize("name", STUCK)
def test_what_the_import_did_stays(tmp_path: Path, name: str) -> None:
    """What can only be had by another import is said, and nothing is changed."""
    assert undo(tmp_path, *STUCK[name], "pass", "True") == "ZDP-209 True"
