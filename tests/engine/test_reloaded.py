"""A patch goes out of a module that was reloaded, or imported again, while it was in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.programs import told

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import importlib, json, os, sys
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError
base, new, use, check = json.loads(sys.argv[1])
def tree(text, data):
    files = {"__init__.py": "", "m.py": text}
    if "__file__" in base:
        files[".".join(("x", "txt"))] = data  # who names a data file may keep what is in it
    return {f"shop/{name}": each for name, each in files.items()}
os.mkdir("shop")
for path, text in tree(base, "one").items():
    open(path, "w").write(text)
patch = local.make_patch(tree(base, "one"), tree(new, "two"))
import shop.m
space = {"m": shop.m, "importlib": importlib, "sys": sys, "first": shop.m.f}
local.apply(local.plan(patch))
space["trial"] = shop.m.f()
exec(use, space)
space["m"] = sys.modules["shop.m"]
try:
    local.revert(patch.id)
    again = len(sys.argv) > 2
    if again:
        local.apply(local.plan(patch))
        assert space["m"].f() == space["trial"]
        importlib.reload(space["m"])
        local.revert(patch.id)
    print(eval(check, space), not local.engine().active())
except ZdpatchError as error:
    print(error.code, bool(local.engine().active()))
"""
RELOAD = "importlib.reload(m)"
FILE = "import os\ndef f():\n    return open(os.path.dirname(__file__) + '/x.txt').read()"
OUT = {
    "function": (
        "def f():\n    return 1\n",
        "def f():\n    return 2\n",
        RELOAD,
        "m.f() == 1 and first() == 1 and first is not m.f",
    ),
    "twice": (
        "def f():\n    return 1\n",
        "def f():\n    return 2\n",
        f"{RELOAD}; middle = m.f; {RELOAD}",
        "(m.f(), middle(), first()) == (1, 1, 1)",
    ),
    "constant": (
        "A = 'one'\ndef f():\n    return A\n",
        "A = 'two more'\ndef f():\n    return A\n",
        RELOAD,
        "m.f() == first() == m.A == 'one'",
    ),
    "table": (
        "T = {'a': 1}\ndef f():\n    return T['a']\n",
        "T = {'a': 2}\ndef f():\n    return T['a']\n",
        RELOAD,
        "m.f() == first() == m.T['a'] == 1",
    ),
    "added_and_gone": (
        "def f():\n    return g()\ndef g():\n    return 1\n",
        "def f():\n    return h()\ndef h():\n    return 2\n",
        RELOAD,
        "m.f() == first() == m.g() == 1 and not hasattr(m, 'h')",
    ),
    "method": (
        "class C:\n    def g(self):\n        return 1\nheld = C()\ndef f():\n    return C().g()\n",
        "class C:\n    def g(self):\n        return 2\nheld = C()\ndef f():\n    return C().g()\n",
        f"kept = m.held; {RELOAD}",
        "m.f() == kept.g() == m.held.g() == 1",
    ),
    "data_file": (f"{FILE}\n", f"{FILE}\n", RELOAD, "m.f() == first() == 'one'"),
    "data_file_and_code": (
        f"{FILE}\n",
        f"{FILE} * 2\n",
        RELOAD,
        "m.f() == first() == 'one' and '.zdpatch' not in m.__file__",
    ),
    "reload_that_fails": (
        "import sys\ndef f():\n    return 1\n",
        "import sys\ndef f():\n    return 2\nif hasattr(sys, 'broken'):\n    raise OSError\n",
        "sys.broken = 1\ntry:\n    importlib.reload(m)\nexcept OSError:\n    del sys.broken",
        "m.f() == 1 and first() == 1",
    ),
}
STUCK = {
    "set_since": (
        "A = 'one'\ndef f():\n    return A\n",
        "A = 'two more'\ndef f():\n    return A\n",
        f"{RELOAD}; m.A = 'three'",
    ),
    "table_written_to": (
        "T = {'a': 1}\ndef f():\n    return T['a']\n",
        "T = {'a': 2}\ndef f():\n    return T['a']\n",
        f"{RELOAD}; m.T['b'] = 'three'",
    ),
    "set_alone": (
        "A = 'one'\ndef f():\n    return A\n",
        "A = 'two more'\ndef f():\n    return A\n",
        "m.A = 'three'",
    ),
    "imported_afresh": (
        "def f():\n    return 1\n",
        "def f():\n    return 2\n",
        "del sys.modules['shop.m']; import shop.m",
    ),
    "two_classes": (
        "class C:\n    def g(self):\n        return 1\ndef f():\n    return C().g()\n",
        "class C:\n    def g(self):\n        return self.h()\n    def h(self):\n        return 2\n"
        "def f():\n    return C().g()\n",
        f"kept = m.C(); {RELOAD}",
    ),
    "code_set_since": (
        "def f():\n    return 1\n",
        "def f():\n    return 2\n",
        f"{RELOAD}; m.f.__code__ = (lambda: 3).__code__",
    ),
}


@pytest.mark.parametrize("name", OUT)
def test_it_goes_out(tmp_path: Path, name: str) -> None:
    """What the reload made and what was there before it both do what the base does."""
    assert told(tmp_path, CHILD, list(OUT[name])) == "True True"


@pytest.mark.parametrize("name", [each for each in OUT if each != "reload_that_fails"])
def test_it_comes_in_again(tmp_path: Path, name: str) -> None:
    """What a reload has left behind is no drift."""
    assert told(tmp_path, CHILD, list(OUT[name]), "again") == "True True"


@pytest.mark.parametrize("name", STUCK)
def test_what_cannot_go_back_is_said(tmp_path: Path, name: str) -> None:
    """A value or code that somebody has set, a second copy of a module or of a class that is to
    lose a name: nothing is changed.
    """
    assert told(tmp_path, CHILD, [*STUCK[name], "True"]) == "ZDP-209 True"
