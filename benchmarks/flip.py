"""The flip of a patch with 1,000 functions, beside a Python loop over the same functions.
Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdpatch.agent import local

if TYPE_CHECKING:
    import types

FUNCTIONS = 1000
ROUNDS = 15


def source(version: int) -> str:
    """A module of 1,000 functions whose bodies name the version."""
    return "\n".join(
        f"def f{n}(x):\n    return x + {version * 10_000 + n}" for n in range(FUNCTIONS)
    )


def python_loop(module: types.ModuleType, codes: list[Any]) -> float:
    """The time of setting 1,000 code objects one by one, in microseconds."""
    functions = [getattr(module, f"f{n}") for n in range(FUNCTIONS)]
    old = [function.__code__ for function in functions]
    started = time.perf_counter()
    for function, code in zip(functions, codes, strict=True):
        function.__code__ = code
    took = (time.perf_counter() - started) * 1e6
    for function, code in zip(functions, old, strict=True):
        function.__code__ = code
    return took


def main() -> None:
    """Measure, alternating, and print the medians."""
    root = Path(tempfile.mkdtemp())
    (root / "many.py").write_text(source(1))
    sys.path.insert(0, str(root))
    module = importlib.import_module("many")
    scratch: dict[str, Any] = {}
    exec(source(2), scratch)
    codes = [scratch[f"f{n}"].__code__ for n in range(FUNCTIONS)]
    patch = local.make_patch({"many.py": source(1).encode()}, {"many.py": source(2).encode()})
    flips, undos, plans, loops = list[float](), list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        loops.append(python_loop(module, codes))
        started = time.perf_counter()
        plan = local.plan(patch)
        plans.append((time.perf_counter() - started) * 1e3)
        flips.append(local.apply(plan).flip_us)
        assert module.f7(1) == 20_008
        undos.append(local.revert(patch.id).flip_us)
    print(
        json.dumps(
            {
                "figure": "flip of 1,000 functions",
                "unit": "us",
                "value": round(statistics.median(flips), 1),
                "spread": [round(min(flips), 1), round(max(flips), 1)],
                "baseline": round(statistics.median(loops), 1),
                "baseline is": "a Python loop over the same functions (readers see it torn)",
                "reach": 300,
                "met": statistics.median(flips) <= 300,
                "also": {
                    "undo us": round(statistics.median(undos), 1),
                    "plan ms": round(statistics.median(plans), 1),
                },
            }
        )
    )


main()
