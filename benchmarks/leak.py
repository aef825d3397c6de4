"""What stays behind of applies and rollbacks: memory, objects, code, sources, modules, and rows of
the journal. Prints JSON lines.

Ten thousand times one patch is planned, applied and taken out in one process; what there is is
counted after each tenth, garbage collected. The baseline is the first tenth, in which everything is
made that is made once. Rows are counted of a real agent, over fewer rounds; history and audit, of
which no row is ever deleted, aside. An argument is the number of rounds.
"""

from __future__ import annotations

import collections
import gc
import importlib
import json
import linecache
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from place import Place

from zdpatch.agent import local
from zdpatch.cli.client import Client

ROUNDS = 10_000
PUSHES = 40
HISTORY = {"audit", "moves"}
SERVICE = """
import sys
import shop
from zdpatch import agent
agent.start(app="shop")
sys.stdin.read()
"""
SOURCE = """
import functools

LIMIT = {version}
TABLE = (LIMIT, {version})

@functools.lru_cache
def price(cart, vat={version}):
    def each(item):
        return item + {version}
    return [each(item) for item in range(cart)]

class Cart:
    "A cart of version {version}."
    rate = {version}
    def total(self):
        return self.rate + LIMIT + {version}
    @property
    def lines(self):
        return {version}
"""
OLD = f"{SOURCE.format(version=1)}\ndef only_old():\n    return 1\n"
NEW = f"{SOURCE.format(version=2)}\nclass New:\n    def f(self):\n        return 3\n"


def codes() -> int:
    """Code objects that functions run, and those inside of them."""
    found: set[int] = set()
    functions = (each for each in gc.get_objects() if type(each) is FunctionType)
    pending = [each.__code__ for each in functions]
    while pending:
        code = pending.pop()
        if id(code) not in found:
            found.add(id(code))
            pending += [each for each in code.co_consts if type(each) is CodeType]
    return len(found)


def present() -> dict[str, Any]:
    """What this process has now."""
    gc.collect()
    kinds = collections.Counter(type(each).__name__ for each in gc.get_objects())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "MiB resident": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "objects": sum(kinds.values()),
        "code objects": codes(),
        "sources in linecache": len(linecache.cache),
        "modules": len(sys.modules),
        "kinds": kinds,
    }


def in_process(rounds: int) -> list[dict[str, Any]]:
    """What there is after each tenth of the rounds."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "zdpatch_bench_shop.py").write_text(OLD)
        sys.path.insert(0, folder)
        importlib.import_module("zdpatch_bench_shop")
        name = "zdpatch_bench_shop.py"
        patch = local.make_patch({name: OLD.encode()}, {name: NEW.encode()})
        for _ in range(10):
            for _ in range(rounds // 10):
                local.apply(local.plan(patch))
                local.revert(patch.id)
            found.append(present())
    return found


def rows(home: Path) -> int:
    """Rows of the journal."""
    (file,) = home.glob("apps/*/journal.db")
    with sqlite3.connect(file) as journal:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        names = {name for (name,) in journal.execute(query)} - HISTORY
        counts = (journal.execute(f'SELECT count(*) FROM "{n}"').fetchone()[0] for n in names)
        return sum(counts)


def pushed() -> tuple[int, int]:
    """Rows after the first pushes and rollbacks, and after as many more."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder), {"shop.py": OLD}, {"shop.py": NEW}, SERVICE)
        found: list[int] = []
        try:
            with Client() as client:
                for _ in range(2):
                    for _ in range(PUSHES // 2):
                        place.push(client)
                        place.revert(client)
                    found.append(rows(place.path / "h"))
        finally:
            place.end()
    return found[0], found[1]


def show(what: str, values: list[float], rounds: int, reach: float, **also: object) -> None:
    """Print what came after the first values."""
    value = round(values[-1] - values[0], 2)
    row = {
        "figure": f"{what} that stayed of {rounds:,} more applies and rollbacks",
        "unit": what,
        "value": value,
        "baseline": round(values[0], 1),
        "baseline is": "what there was after the first of them",
        "reach": reach,
        "met": value <= reach,
        "also": {"each": [round(each, 1) for each in values], **also},
    }
    print(json.dumps(row))


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    begun = time.monotonic()
    found = in_process(rounds)
    first, last = found[0]["kinds"], found[-1]["kinds"]
    grown = {kind: last[kind] - first[kind] for kind in last if last[kind] > first[kind] + 20}
    minutes = round((time.monotonic() - begun) / 60, 1)
    # Two thousand objects: answers about code that is gone are thrown away from time to time.
    reaches = {"MiB resident": 1, "objects": 2_000}
    for what in ("MiB resident", "objects", "code objects", "sources in linecache", "modules"):
        values = [each[what] for each in found]
        show(what, values, rounds * 9 // 10, reaches.get(what, 0), kinds=grown, minutes=minutes)
    show("rows of the journal", [*map(float, pushed())], PUSHES // 2, 0)


main()
