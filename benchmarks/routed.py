"""A call that a dispatcher decides beside the same call of a plain function, in one process: in a
request, and outside of any, where the caller's stack is asked once for a context; or at each call,
where the patch has a generator. Prints JSON.
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

def items():
    yield f(1)
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


def _going(space: dict[str, Any], *names: str) -> Group:
    """Dispatchers for functions of a module, in."""
    new = codes.flatten(codes.compile_source(SOURCE, "<new>"))
    group = Group([Change.of(space[name], f"routed:{name}", new[name][0], {}) for name in names])
    swap.commit(group.steps_in())
    group.start()
    return group


def main() -> None:
    """Time a plain and a routed module in turn."""
    spaces: list[dict[str, Any]] = [{}, {}, {}]
    for space in spaces:
        exec(codes.compile_source(SOURCE, "<routed>"), space)
        timed(space["run"])
    plain, routed, asked = (space["run"] for space in spaces)
    group, other = _going(spaces[1], "f"), _going(spaces[2], "f", "items")
    took: dict[str, list[float]] = {}
    gc.disable()
    for _ in range(ROUNDS):
        took.setdefault("plain", []).append(timed(plain))
        with scopes.Request("one"):
            took.setdefault("request", []).append(timed(routed))
        took.setdefault("outside", []).append(timed(routed))
        took.setdefault("asked", []).append(timed(asked))
        took.setdefault("deep", []).append(deeper(20, lambda: timed(asked)))
    swap.commit(other.steps_out(1))
    swap.commit(group.steps_out(1))
    for _ in range(ROUNDS):
        took.setdefault("after", []).append(timed(routed))
        took["plain"].append(timed(plain))
    # The best round of each: what other processes of the machine took is no part of the figure.
    best = {name: min(times) for name, times in took.items()}
    figure("call that a dispatcher routes, in a request", best["request"], best["plain"], REACH)
    figure("the same outside", best["outside"], best["plain"], REACH)
    figure("outside, each call asks, stack of 3", best["asked"], best["plain"], REACH)
    figure("outside, each call asks, stack of 23", best["deep"], best["plain"], REACH)
    figure("call after the dispatchers left", best["after"], best["plain"], 6)


main()
