"""Patches real modules of the standard library in turn; prints what was not right, one line each.

Each patch moves every line of a module and adds one function: so the running code of real modules
is compared with what their source compiles to, and nothing but the addition may come out.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError

ADDED = b"\n\n\ndef zdpatch_added(x=1):\n    return x\n"


def look(name: str) -> list[str]:
    """Patch and revert one module; what was not right."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    base = Path(module.__file__).read_bytes()
    new = b"# moved\n\n" + base.rstrip(b"\n") + ADDED
    path = name.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
    before = dict(vars(module))
    try:
        patch = local.make_patch({path: base}, {path: new})
        plan = local.plan(patch)
        local.apply(plan)
        works = vars(module)["zdpatch_added"]() == 1
        local.revert(patch.id)
    except ZdpatchError as error:
        return [f"{name}: {error}"]
    wrong = [] if works else [f"{name}: the added function does not work"]
    extra = [each for each in plan.summary().verdicts if each.path != f"{name}:zdpatch_added"]
    wrong += [f"{name}: {each}" for each in extra]
    after = vars(module)
    changed = [key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)]
    return [*wrong, *(f"{name}: {key} is another after the revert" for key in changed)]


def main() -> None:
    """Look at every module named."""
    print(json.dumps([line for name in sys.argv[1:] for line in look(name)]))


main()
