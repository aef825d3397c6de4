"""A patch is absorbed by a process that has all of it: equal code proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told
from zdpatch.agent.local import make_patch
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, os, sys, time
from zdpatch.agent import local
base, new, runs, how = json.loads(sys.argv[1])
later = how == "later"
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
open("shop.py", "w").write(runs)
while (since := time.time()) <= os.stat("shop.py").st_ctime:
    pass
since = since if how == "by the file" else 0.0
standing = lambda: local.engine().standing(patch, since=since)
if not later:
    import shop
before = standing()
if before == "base" and runs == base and not later:
    local.apply(local.plan(patch))
    before += " " + standing()
    local.revert(patch.id)
    before += " " + standing()
print(before)
"""
PAIRS = {
    "body": ("def f():\n    return 1\n", "def f():\n    return 2\n"),
    "default": ("def f(x=1):\n    return x\n", "def f(x=2):\n    return x\n"),
    "keyword default": ("def f(*, x=1):\n    return x\n", "def f(*, x=2):\n    return x\n"),
    "named default": ("D = 1\ndef f(x=D):\n    return x\n", "D = 2\ndef f(x=D):\n    return x\n"),
    "annotation": ("def f(x: int):\n    return x\n", "def f(x: str):\n    return x\n"),
    "docstring": ("def f():\n    'a'\n", "def f():\n    'b'\n"),
    "constant": ("X = 1\n", "X = 2\n"),
    "new constant": ("X = 1\n", "X = 1\nY = 1\n"),
    "removed constant": ("X = 1\nY = 1\n", "X = 1\n"),
    "new import": ("X = 1\n", "X = 1\nimport json\n"),
    "class attribute": ("class C:\n    x = 1\n", "class C:\n    x = 2\n"),
    "new class attribute": ("class C:\n    x = 1\n", "class C:\n    x = 1\n    y = 1\n"),
    "class docstring": ("class C:\n    'a'\n", "class C:\n    'b'\n"),
    "attribute of a function": ("def f(): pass\nf.x = 1\n", "def f(): pass\nf.x = 2\n"),
    "method default": (
        "class C:\n    def f(self, x=1):\n        return x\n",
        "class C:\n    def f(self, x=2):\n        return x\n",
    ),
}


def standing(tmp_path: Path, base: str, new: str, runs: str, how: str = "by what lives") -> str:
    """How a process with the source `runs` stands to the patch from `base` to `new`: it will import
    it "later", or has done so and is judged "by the file" or "by what lives".
    """
    return told(tmp_path, CHILD, [base, new, runs, how])


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped directory is no empty one: nothing would be changed by its patch but added."""
    (tmp_path / "new").mkdir()
    with pytest.raises(OperatorError, match="is no directory"):
        make_patch(tmp_path / "old", tmp_path / "new")


MORE = "def more():\n    return 1\n"
WAS, NOW = "def g():\n    return 1\n", "def g():\n    return 2\n"


@pytest.mark.parametrize("how", ["by the file", "by what lives"])
@pytest.mark.parametrize("name", PAIRS)
def test_all_of_it(tmp_path: Path, name: str, how: str) -> None:
    """At the base, patched, turned back; and from the new source."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base, new, base, how) == "base absorbed base"
    assert standing(tmp_path, base, new, new + MORE, how) == "absorbed"


@pytest.mark.parametrize("name", PAIRS)
def test_all_of_it_later(tmp_path: Path, name: str) -> None:
    """The same of a module that is not imported yet, with more in it than the fix."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base, new, base, "later") == "base"
    assert standing(tmp_path, base, new, new + MORE, "later") == "absorbed"
    assert standing(tmp_path, base, new, base + MORE, "later") == "superseded"


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "body"])
def test_half_of_it(tmp_path: Path, name: str) -> None:
    """A release with one part of the fix has not got the fix."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base + WAS, new + NOW, base + NOW) == "superseded"
    assert standing(tmp_path, base + WAS, new + NOW, base + NOW, "later") == "superseded"


ALMOST = {
    "another default": ("def g(x=1):\n    return x\n", "def g(x=2):\n    return x\n"),
    "another decorator": (
        "@functools.cache\ndef g():\n    return 1\n",
        "def g():\n    return 1\n",
    ),
    "another pattern": ("P = re.compile('a')\n", "P = re.compile('.*')\n"),
    "other bases": ("class E(ValueError): pass\n", "class E(Exception): pass\n"),
    "another value": ("class C:\n    x = (1, -2)\n", "class C:\n    x = (1, 2)\n"),
    "another name": ("def g():\n    return 1\n", "def g():\n    return 1\n_g = g\ng = print\n"),
    "a method moved": (
        "class C:\n    def m(self):\n        return 1\n",
        "class C:\n    def m(self):\n        return 1\nC.m = print\n",
    ),
    "no name": ("def g():\n    return 1\n", "def g():\n    return 1\ndel g\n"),
}


@pytest.mark.parametrize("how", ["by the file", "by what lives", "later"])
@pytest.mark.parametrize("name", ALMOST)
def test_almost_the_fix(tmp_path: Path, name: str, how: str) -> None:
    """A release in which something that the fix adds is another thing has not got the fix."""
    fix, other = ALMOST[name]
    base = "import functools, re\ndef f():\n    return 1\n"
    new = base.replace("return 1", "return 2")
    assert standing(tmp_path, base, new + fix, new + other, how) == "superseded"


SHARED = {
    "lock": "import threading\nL = threading.Lock()\n",
    "object": "O = object()\n",
    "lambda": "F = lambda: 1\n",
    "enum": "import enum\nclass E(enum.Enum):\n    A = 1\n",
    "tuple": "import typing\nclass T(typing.NamedTuple):\n    a: int = 1\n",
    "private": "class P:\n    __a = 1\n",
}


@pytest.mark.parametrize("name", SHARED)
def test_what_only_the_source_tells(tmp_path: Path, name: str) -> None:
    """A file that is older than the process, and explains what it runs, tells of such things."""
    base = "def f():\n    return 1\n"
    new = base.replace("1", "2") + SHARED[name]
    assert standing(tmp_path, base, new, new + MORE, "by the file") == "absorbed"
