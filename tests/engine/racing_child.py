"""Readers race a patch of two modules that goes in and out; prints how many reads saw a half-
applied one.

A program: `racing_child.py engine|swap|loop SECONDS`. "engine" plans and applies through the public
interface, "swap" flips the steps of one plan to and fro, which is many more flips. "loop" flips the
same functions with a Python loop: the control, which must be seen torn. While the patch goes in,
whatever is new once stays new: so a reader that sees the last function of one module new must see
the first of the other new as well, whichever it reads first.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdpatch.agent import local
from zdpatch.patcher import swap

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

FUNCTIONS = 150
READERS = 3


def source(version: int) -> str:
    """A module whose functions, constant, default and class attribute all say `version`."""
    functions = "\n".join(
        f"def f{n}(given={version}):\n    return {version}, given" for n in range(FUNCTIONS)
    )
    return f"VALUE = {version}\nclass C:\n    value = {version}\n{functions}\n"


class Race:
    """Readers and what they saw."""

    def __init__(self, left: types.ModuleType, right: types.ModuleType) -> None:
        self.left, self.right = left, right
        self.phase = 0  # odd: the patch goes in and stays; even: it goes out and stays
        self.stop = False
        self.reads = [0] * READERS
        self.torn: list[str] = []

    def _pairs(self) -> list[tuple[str, Callable[[], int], Callable[[], int]]]:
        left, right, last = self.left, self.right, f"f{FUNCTIONS - 1}"
        values: list[tuple[str, Callable[[], int], Callable[[], int]]] = [
            ("functions", lambda: left.f0()[0], lambda: getattr(right, last)()[0]),
            ("constants", lambda: left.VALUE, lambda: right.VALUE),
            ("classes", lambda: left.C.value, lambda: right.C.value),
            ("code and constant", lambda: right.f0()[0], lambda: left.VALUE),
        ]
        return [*values, *((name, second, first) for name, first, second in values)]

    def read(self, number: int) -> None:
        """Read pairs until told to stop; note each that was half old and half new."""
        pairs, default = self._pairs(), self.left.f1
        while not self.stop:
            for name, first, second in pairs:
                phase = self.phase
                one, two = first(), second()
                code, given = default()
                self.reads[number] += 3
                if code != given:
                    self.torn.append("code and default")
                if phase != self.phase:
                    continue
                if (one, two) == ((2, 1) if phase % 2 else (1, 2)):
                    self.torn.append(name)

    def run(
        self, apply: Callable[[], None], revert: Callable[[], None], seconds: float, least: int
    ) -> int:
        """Patch in and out until the time is over, and `least` flips are done; their number."""
        readers = [threading.Thread(target=self.read, args=(n,)) for n in range(READERS)]
        for reader in readers:
            reader.start()
        flips, until = 0, time.monotonic() + seconds
        while time.monotonic() < until or flips < least:
            self.phase += 1
            apply()
            self.phase += 1
            revert()
            flips += 2
        self.stop = True
        for reader in readers:
            reader.join()
        return flips


def by_engine() -> tuple[Callable[[], None], Callable[[], None]]:
    """Apply and revert through the public interface; planned outside of the flip, as ever."""
    base = {f"{name}.py": source(1).encode() for name in ("left", "right")}
    new = {f"{name}.py": source(2).encode() for name in ("left", "right")}
    patch = local.make_patch(base, new)

    def apply() -> None:
        local.apply(local.plan(patch))

    def revert() -> None:
        local.revert(patch.id)

    return apply, revert


def by_swap() -> tuple[Callable[[], None], Callable[[], None]]:
    """The steps of one plan, committed and taken back as the engine does it."""
    base = {f"{name}.py": source(1).encode() for name in ("left", "right")}
    new = {f"{name}.py": source(2).encode() for name in ("left", "right")}
    steps = local.plan(local.make_patch(base, new)).steps
    undo: list[swap.Undo] = []

    def apply() -> None:
        undo.append(swap.commit(steps))

    def revert() -> None:
        undo.pop().revert()

    return apply, revert


def by_loop(modules: list[Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same changes set one by one from Python."""
    sets: dict[int, list[tuple[object, str, object]]] = {1: [], 2: []}
    for version, steps in sets.items():
        scratch: dict[str, Any] = {}
        exec(source(version), scratch)
        for module in modules:
            steps += [(module, "VALUE", version), (module.C, "value", version)]
            for n in range(FUNCTIONS):
                function = getattr(module, f"f{n}")
                steps += [(function, "__code__", scratch[f"f{n}"].__code__)]
                steps += [(function, "__defaults__", scratch[f"f{n}"].__defaults__)]

    def setter(version: int) -> Callable[[], None]:
        def run() -> None:
            for target, name, value in sets[version]:
                setattr(target, name, value)

        return run

    return setter(2), setter(1)


def main() -> None:
    """Race for argv[2] seconds and argv[3] flips at least; print the counts as JSON."""
    root = Path(tempfile.mkdtemp(prefix="racing-"))
    for name in ("left", "right"):
        (root / f"{name}.py").write_text(source(1))
    sys.path.insert(0, str(root))
    modules = [importlib.import_module(name) for name in ("left", "right")]
    sys.setswitchinterval(1e-5)
    if sys.argv[1] == "loop":
        apply, revert = by_loop(modules)
    else:
        apply, revert = by_engine() if sys.argv[1] == "engine" else by_swap()
    race = Race(*modules)
    flips = race.run(apply, revert, float(sys.argv[2]), int(sys.argv[3]))
    print(
        json.dumps(
            {
                "reads": sum(race.reads),
                "flips": flips,
                "torn": len(race.torn),
                "kinds": sorted(set(race.torn)),
            }
        )
    )


main()
