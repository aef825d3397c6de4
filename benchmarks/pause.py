"""What a patch of 1,000 functions in 50 modules costs the other threads of its process.

A heartbeat thread wants to run every millisecond, and notes how late it was. It is late for two
reasons, which are told apart:

- what nothing can interrupt: the flip, a call of `compile`, a look at the heap, a collection of
  garbage. Measured with a switch interval of 0.2 ms, so that plain Python work hardly counts;
- plain Python work in another thread, which keeps the interpreter for the switch interval (5 ms).
  Measured with that; a thread of plain Python work as long as the plan is the baseline.

The look at the heap is measured by the number of objects. Prints JSON lines.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plan import chain, load

from zdpatch.agent import local
from zdpatch.patcher import inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

BEAT_S = 0.001
ROUNDS = 3
REACH_MS = 2.0
SHORT_S = 0.0002
OBJECTS = (100_000, 1_000_000, 3_000_000)


@dataclass
class Heartbeat:
    """A thread that notes how late it was, in milliseconds."""

    late: list[float] = field(default_factory=list[float])
    running: bool = True

    def run(self) -> None:
        """Until it is not `running` any more."""
        due = time.perf_counter() + BEAT_S
        while self.running:
            time.sleep(max(0.0, due - time.perf_counter()))
            now = time.perf_counter()
            self.late.append((now - due) * 1000)
            due = now + BEAT_S


@contextmanager
def heartbeat() -> Generator[Heartbeat]:
    """A heartbeat that goes on during the block."""
    found = Heartbeat()
    thread = threading.Thread(target=found.run)
    thread.start()
    time.sleep(0.02)
    found.late.clear()
    try:
        yield found
    finally:
        found.running = False
        thread.join()


def lateness(action: Callable[[], object]) -> tuple[float, float]:
    """The worst lateness while `action` runs, and how long that was; milliseconds."""
    with heartbeat() as beats:
        begun = time.perf_counter()
        action()
        took = (time.perf_counter() - begun) * 1000
        time.sleep(0.002)
        return max(beats.late), took


def work(milliseconds: float) -> None:
    """Plain Python work."""
    until, n = time.perf_counter() + milliseconds / 1000, 0
    while time.perf_counter() < until:
        for each in range(1000):
            n += each * n % 7


def best(values: list[float]) -> float:
    """Others use the machine too: the least of the worst ones."""
    return round(min(values), 2)


def show(
    figure: str, value: float, baseline: float, what: str, reach: float | None, **also: object
) -> None:
    """Print one figure."""
    row = {"figure": figure, "unit": "ms", "value": value, "baseline": baseline}
    row |= {"baseline is": what, "reach": reach}
    print(json.dumps({**row, "met": reach is None or value <= reach, "also": also}))


def patched() -> None:
    """The pauses of one patch, put in and taken out."""
    old, new = chain(1), chain(2)
    load(old)
    patch = local.make_patch(old, new)
    seen: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        seen.setdefault(what, []).append(value)

    for interval in (SHORT_S, 0.005):
        sys.setswitchinterval(interval)
        kind = "short" if interval == SHORT_S else "usual"
        for _ in range(ROUNDS):
            gc.collect()
            worst, took = lateness(lambda: local.plan(patch))
            note(f"{kind} plan", worst)
            plan = local.plan(patch)  # the same one: nothing has changed
            note(f"{kind} apply", lateness(lambda p=plan: note("flip", local.apply(p).flip_us))[0])  # type: ignore[misc]
            del plan  # what holds it would have to be looked for in the next round
            note(f"{kind} revert", lateness(lambda: local.revert(patch.id))[0])
            note(f"{kind} work", lateness(lambda t=took: work(t))[0])  # type: ignore[misc]
            note(f"{kind} idle", lateness(lambda t=took: time.sleep(t / 1000))[0])  # type: ignore[misc]
    idle = best(seen["short idle"])
    flip = round(min(seen["flip"]) / 1000, 3)
    show("pause by the flip of 1,000 functions", flip, idle, "the heartbeat when idle", REACH_MS)
    for what, name in (
        ("plan", "the plan of 50 modules"),
        ("apply", "their apply"),
        ("revert", "their rollback"),
    ):
        figure = f"longest time that {name} cannot be interrupted"
        base = "plain Python work of the same length, switched every 0.2 ms"
        value = best(seen[f"short {what}"])
        show(figure, value, best(seen["short work"]), base, REACH_MS, idle=idle)
    value, base = best(seen["usual plan"]), "plain Python work of the same length"
    also = {each: best(seen[f"usual {each}"]) for each in ("apply", "revert", "idle")}
    show(
        "longest wait of another thread for a plan",
        value,
        best(seen["usual work"]),
        base,
        None,
        **also,
    )


def scans() -> None:
    """The look at the heap, by its size."""
    sys.setswitchinterval(SHORT_S)
    module = sys.modules["zdpatch_bench_0"]
    kept: list[list[int]] = []
    for wanted in OBJECTS:
        kept += [[] for _ in range(wanted - len(gc.get_objects()))]
        gc.collect()
        pauses, times, idle = list[float](), list[float](), list[float]()
        for _ in range(ROUNDS):
            pause, took = lateness(lambda: inventory.take(module, heap=True))
            idle.append(lateness(lambda t=took: time.sleep(t / 1000))[0])  # type: ignore[misc]
            pauses.append(pause)
            times.append(took)
        figure = f"pause by a look at {wanted:,} objects"
        show(figure, best(pauses), best(idle), "the heartbeat when idle", None, takes=best(times))


def main() -> None:
    """Measure and print."""
    patched()
    scans()


main()
