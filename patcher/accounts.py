"""After a flip, and after an undo: what is left of the code that a patch took away.

A frame, a suspended generator or coroutine keeps the code it began with; a function object that the
patch could not change, and methods bound to it, may run it again. One look over all objects finds
them, those hidden by `gc.freeze` too; it costs a scan of the heap, so only a person asks for it.
"""

from __future__ import annotations

import gc
from itertools import repeat
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.inflight import in_flight, suspended_call
from zdpatch.patcher.left import Left
from zdpatch.patcher.slots import MISSING, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    Codes = Mapping[str, tuple[CodeType, ...]]


def left_of(
    gone: Codes, steps: Iterable[Step], *, runs: Iterable[str] = (), waiting: Iterable[str] = ()
) -> Left:
    """What is left of `gone` (code by definition path) in this process.

    `steps` are those which took it away: objects that only their undo keeps do not count.
    """
    steps = tuple(steps)
    frames: dict[str, int] = {}
    suspended: dict[str, int] = {}
    paths = {id(code): path for path, group in gone.items() for code in group}
    for each in in_flight([code for group in gone.values() for code in group]):
        frames[each.path] = frames.get(each.path, 0) + 1
    functions: dict[str, int] = {}
    bound: dict[str, int] = {}
    instances: dict[str, int] = {}
    removed = {id(step.expected): step.what for step in steps if _is_gone_class(step)}
    kept = {id(step.expected) for step in steps}
    for thing in inventory.everything():
        kind = type(thing)
        if kind is FunctionType:
            _count(functions, paths.get(id(cast("FunctionType", thing).__code__)), thing, kept)
        elif kind is MethodType:
            inner = cast("MethodType", thing).__func__
            if type(inner) is FunctionType:
                _count(bound, paths.get(id(inner.__code__)), thing, ())
        elif id(kind) in removed:
            _count(instances, removed[id(kind)], thing, ())
        else:
            call = suspended_call(thing)
            if call is not None and call[1] is not None:
                _count(suspended, paths.get(id(call[0])), thing, ())
    return Left(sorted(runs), frames, suspended, functions, bound, instances, sorted(waiting))


def taken_away(steps: Iterable[Step]) -> dict[str, tuple[CodeType, ...]]:
    """Code by definition path that `steps` took from functions, or with what names meant."""
    found: dict[str, tuple[CodeType, ...]] = {}
    for step in steps:
        if step.kind == "function" and step.name == "__code__":
            codes = [cast("CodeType", step.expected)]
        elif step.kind in {"class", "item"}:
            codes = [each.__code__ for each in reach.inner_functions(step.expected)]
        else:
            continue
        for code in codes:
            path = f"{step.what.partition(':')[0]}:{code.co_qualname}"
            found[path] = (*found.get(path, ()), code)
    return found


def _is_gone_class(step: Step) -> bool:
    return step.value is MISSING and step.kind == "item" and reach.is_a(step.expected, type)


def _count(counts: dict[str, int], path: str | None, thing: object, kept: Iterable[int]) -> None:
    if path is not None and not (id(thing) in kept and _only_kept(thing)):
        counts[path] = counts.get(path, 0) + 1


def _only_kept(thing: object) -> bool:
    """Whether nobody but an undo, and this look, holds an object."""
    holders: list[object] = gc.get_referrers(thing)
    # No comprehension over a closure: its cell would hold `thing` as well.
    return all(map(_ours, holders, repeat(thing)))


def _ours(holder: object, thing: object) -> bool:
    if type(holder) in {FrameType, list} or type(holder).__module__.startswith("zdpatch.patcher."):
        return True  # the lists are those of the scan
    # the arguments of a writer that would put it back
    return type(holder) is tuple and len(holder) == 3 and holder[2] is thing
