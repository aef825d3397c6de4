"""A frame that outlives the drain runs old code for ever: a patch of its function would not take
effect.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zdpatch.patcher import codes, inventory
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.inflight import running_frames

if TYPE_CHECKING:
    from zdpatch.patcher.inventory import InFlight
    from zdpatch.patcher.plan import Plan

_POLL_S = 0.02


def drain(plan: Plan, seconds: float | None) -> None:
    """Wait up to `seconds`, not at all for None, for the frames there are now (later ones belong to
    later calls, which come and go).

    Raises Refused (ZDP-205) naming the frames that stay: of threads, of greenlets, and of
    coroutines and generators which have a `while` loop, or are in an `async for` or in a `for` over
    what has no end. Other suspended ones end with what they wait for, and are reported only.
    """
    if seconds is None:
        return
    every = [code for group in plan.watched.values() for code in group]
    held = running_frames(every)
    remaining = {each.frame_id: each for each in in_flight(plan) if _may_stay(each, plan)}
    standing = {id(frame) for frame in held}
    deadline = time.monotonic() + seconds
    while remaining and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        now = {each.frame_id: each for each in in_flight(plan)}
        remaining = {
            key: now[key]
            for key, was in remaining.items()
            if key in now and now[key].path == was.path
        }
        remaining = {k: e for k, e in remaining.items() if e.kind != "thread" or k in standing}
    held.clear()
    if remaining:
        raise _blocked(list(remaining.values()), seconds)


def in_flight(plan: Plan) -> list[InFlight]:
    """Frames that run code the plan replaces: of threads and greenlets, and suspended ones."""
    every = [code for group in plan.watched.values() for code in group]
    suspended = any(codes.kind(code) != "function" for code in every)
    return inventory.in_flight(every, heap=suspended)


def _may_stay(frame: InFlight, plan: Plan) -> bool:
    if frame.kind in {"thread", "greenlet"} or frame.unending:
        return True
    return any(codes.endless(code, frame.offset) for code in plan.watched.get(frame.path, ()))


def _blocked(stuck: list[InFlight], seconds: float) -> Refused:
    verdicts = tuple(
        Verdict(
            each.path,
            each.line,
            "in flight",
            "R",
            f"{each.kind} {each.name} is in it and did not leave within {seconds:g} s",
            "replace the worker",
        )
        for each in stuck
    )
    first = stuck[0]
    cause = (
        f"{first.path} runs in {first.kind} {first.name}, at line {first.line}, and does not return"
    )
    return Refused("ZDP-205", cause, verdicts, next="replace the worker")
