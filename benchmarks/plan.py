"""Make and plan a patch of 900 functions of one module, and of 50 modules with 20 functions each.

The baseline is `compile()` of the same sources, both sides, in the same run. Prints JSON, CPU time.
"""

from __future__ import annotations

import json
import sys
import time
from types import ModuleType

from zdpatch.agent import local

REACH_MS = 1000


def source(functions: int, version: int, before: str = "") -> bytes:
    """Functions with a loop, a branch, a default and reads of globals."""
    made = [
        f"def price_{n}(cart, vat=1, *, lower=None):\n"
        f"    total = cart + {version}\n"
        f"    for each in range(vat):\n"
        f"        total += helper(each) if each % 2 else len(str(each))\n"
        f"    return [total, lower, LIMIT]\n\n"
        for n in range(functions)
    ]
    return f"{before}LIMIT = 5\ndef helper(x):\n    return x\n\n{''.join(made)}".encode()


def chain(version: int) -> dict[str, bytes]:
    """50 modules, each of which imports from the one before."""
    names = [f"zdpatch_bench_{n}" for n in range(50)]
    heads = ["", *(f"from {name} import price_1 as other\n" for name in names[:-1])]
    pairs = zip(names, heads, strict=True)
    return {f"{name}.py": source(20, version, head) for name, head in pairs}


def load(files: dict[str, bytes]) -> None:
    """Run the modules of these files in this process."""
    for path, text in files.items():
        module = ModuleType(path.removesuffix(".py"))
        sys.modules[module.__name__] = module
        exec(compile(text, path, "exec"), vars(module))


def measure(what: str, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    """Print the figure of one patch."""
    load(old)
    begun = time.process_time()
    for text in [*old.values(), *new.values()]:
        compile(text, "<baseline>", "exec")
    compiled = time.process_time()
    patch = local.make_patch(old, new)
    made = time.process_time()
    local.plan(patch)
    planned = time.process_time()
    value = (planned - made) * 1000
    figure = {
        "figure": f"plan {what}",
        "unit": "ms",
        "value": round(value),
        "baseline": round((compiled - begun) * 1000),
        "baseline is": "compile() of both sides",
        "reach": REACH_MS,
        "met": value <= REACH_MS,
        "also": {"making the patch, ms": round((made - compiled) * 1000)},
    }
    print(json.dumps(figure))


def main() -> None:
    """Measure and print."""
    big = "zdpatch_bench_big.py"
    measure("900 functions of one module", {big: source(900, 1)}, {big: source(900, 2)})
    measure("1,000 functions of 50 modules", chain(1), chain(2))


if __name__ == "__main__":
    main()
