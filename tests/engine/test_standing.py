"""A patch is absorbed by a process that has all of it: equal code proves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.local import make_patch
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import json, sys
from zdpatch.agent import local
base, new, runs, later = json.loads(sys.argv[1])
patch = local.make_patch({"shop.py": base}, {"shop.py": new})
open("shop.py", "w").write(runs)
if not later:
    import shop
before = local.engine().standing(patch)
if before == "base" and runs == base and not later:
    local.apply(local.plan(patch))
    before += " " + local.engine().standing(patch)
    local.revert(patch.id)
    before += " " + local.engine().standing(patch)
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


def standing(tmp_path: Path, base: str, new: str, runs: str, *, later: bool = False) -> str:
    """How a process with the source `runs`, or that will import it `later`, stands to the patch
    from `base` to `new`.
    """
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([base, new, runs, later])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped directory is no empty one: nothing would be changed by its patch but added."""
    (tmp_path / "new").mkdir()
    with pytest.raises(OperatorError, match="is no directory"):
        make_patch(tmp_path / "old", tmp_path / "new")


MORE = "def more():\n    return 1\n"
WAS, NOW = "def g():\n    return 1\n", "def g():\n    return 2\n"


@pytest.mark.parametrize("name", PAIRS)
def test_all_of_it(tmp_path: Path, name: str) -> None:
    """At the base, patched, turned back; and from the new source."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base, new, base) == "base absorbed base"
    assert standing(tmp_path, base, new, new + MORE) == "absorbed"


@pytest.mark.parametrize("name", PAIRS)
def test_all_of_it_later(tmp_path: Path, name: str) -> None:
    """The same of a module that is not imported yet, with more in it than the fix."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base, new, base, later=True) == "base"
    assert standing(tmp_path, base, new, new + MORE, later=True) == "absorbed"
    assert standing(tmp_path, base, new, base + MORE, later=True) == "superseded"


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "body"])
def test_half_of_it(tmp_path: Path, name: str) -> None:
    """A release with one part of the fix has not got the fix."""
    base, new = PAIRS[name]
    assert standing(tmp_path, base + WAS, new + NOW, base + NOW) == "superseded"
    assert standing(tmp_path, base + WAS, new + NOW, base + NOW, later=True) == "superseded"
