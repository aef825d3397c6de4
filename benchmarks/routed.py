"""A call that a dispatcher decides beside the same call of a plain function, in one process: in a
request, and outside of any, where the caller's stack is asked. Prints JSON.
"""

from __future__ import annotations

import gc
import json
import time
from typing import TYPE_CHECKING, Any

from zdpatch.patcher import codes, scopes, swap
from zdpatch.patcher.versions import Change, Group

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 50_000
ROUNDS = 81
SOURCE = b"""
def f(a, b=1):
    return a + b

def run(times):
    for n in times:
        f(n)
"""
REACH = 60  # ns


def timed(run: Callable[[Any], None]) -> float:
    """Nanoseconds a call."""
    times = range(CALLS)
    started = time.perf_counter_ns()
    run(times)
    return (time.perf_counter_ns() - started) / CALLS


def deeper(frames: int, call: Callable[[], float]) -> float:
    """`call()`, with so many frames more below it."""
    return deeper(frames - 1, call) if frames else call()


def figure(name: str, took: float, plain: float, reach: float) -> None:
    """Print one."""
    more = took - plain
    print(
        json.dumps(
            {
                "figure": name,
                "unit": "ns more",
                "value": round(more, 1),
                "baseline": round(plain, 1),
                "baseline is": "the same call of a plain function",
                "reach": reach,
                "met": more <= reach,
            }
        )
    )


def main() -> None:
    """Time a plain and a routed module in turn."""
    spaces: list[dict[str, Any]] = [{}, {}]
    for space in spaces:
        exec(codes.compile_source(SOURCE, "<routed>"), space)
        timed(space["run"])
    plain, routed = (space["run"] for space in spaces)
    new = codes.flatten(codes.compile_source(SOURCE, "<new>"))["f"][0]
    group = Group([Change.of(spaces[1]["f"], "routed:f", new, {})])
    swap.commit(group.steps_in())
    group.start()
    took: dict[str, list[float]] = {}
    gc.disable()
    for _ in range(ROUNDS):
        took.setdefault("plain", []).append(timed(plain))
        with scopes.Request("one"):
            took.setdefault("request", []).append(timed(routed))
        took.setdefault("outside", []).append(timed(routed))
        took.setdefault("deep", []).append(deeper(20, lambda: timed(routed)))
    swap.commit(group.steps_out(1))
    for _ in range(ROUNDS):
        took.setdefault("after", []).append(timed(routed))
        took["plain"].append(timed(plain))
    # The best round of each: what other processes of the machine took is no part of the figure.
    best = {name: min(times) for name, times in took.items()}
    figure("call that a dispatcher routes, in a request", best["request"], best["plain"], REACH)
    figure("the same outside, stack of 3", best["outside"], best["plain"], REACH)
    figure("the same outside, stack of 23", best["deep"], best["plain"], REACH)
    figure("call after the dispatchers left", best["after"], best["plain"], 6)


main()
