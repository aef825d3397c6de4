"""A call of a patched function beside the same call of one never patched, in one process.
Prints JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdpatch.agent import local

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 200_000
ROUNDS = 41
BASE = """
def {name}(a, b=1):
    return a + b

def run_{name}(times):
    for n in times:
        {name}(n)
"""
NEW = BASE.replace("return a + b", "return b + a")


def timed(run: Callable[[Any], None]) -> float:
    """Nanoseconds a call, in a loop inside the module as real callers are."""
    times = range(CALLS)
    started = time.perf_counter_ns()
    run(times)
    return (time.perf_counter_ns() - started) / CALLS


def main() -> None:
    """Patch one of two equal modules, then time both in turn."""
    root = Path(tempfile.mkdtemp())
    for name in ("patched", "never"):
        text = (BASE if name == "patched" else NEW).format(name="f")
        (root / f"{name}.py").write_text(text)
    sys.path.insert(0, str(root))
    patched, never = importlib.import_module("patched"), importlib.import_module("never")
    for module in (patched, never):
        timed(module.run_f)  # specialised before the patch, as in a service that ran for a while
    change = (
        {"patched.py": BASE.format(name="f").encode()},
        {"patched.py": NEW.format(name="f").encode()},
    )
    patch = local.make_patch(*change)
    local.apply(local.plan(patch))
    pairs: list[tuple[float, float]] = []
    gc.disable()
    for number in range(ROUNDS):
        first, second = (patched, never) if number % 2 else (never, patched)
        times = {first: timed(first.run_f), second: timed(second.run_f)}
        pairs.append((times[patched], times[never]))
    # The best round of each: what other processes of the machine took is no part of the figure.
    after, before = min(one for one, _ in pairs), min(two for _, two in pairs)
    ratio = after / before
    reach = 1.02 if sys.version_info < (3, 13) else (before + 6) / before
    print(
        json.dumps(
            {
                "figure": "call after a patch against never patched",
                "unit": "ratio",
                "value": round(ratio, 3),
                "baseline": 1.0,
                "baseline is": "the same function in a module that was never patched",
                "reach": round(reach, 3),
                "met": ratio <= reach,
                "also": {"patched ns": round(after, 2), "never patched ns": round(before, 2)},
            }
        )
    )


main()
