"""A frame keeps the code it began with; here is what still runs, or may resume, given code.

Threads' stacks are seen at one instant. Suspended generators and coroutines are on no stack and
are found only through the heap, as are greenlets that have switched away, whose stacks are of no
thread for as long; those hidden by `gc.freeze` show in the reference count alone.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, replace
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.unending import unending

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType, FrameType, GetSetDescriptorType

    _Frame = tuple[FrameType, "Kind", str]

_CALLS: Final = frozenset(map(id, (GeneratorType, CoroutineType, AsyncGeneratorType)))
Kind = Literal["thread", "greenlet", "generator", "coroutine", "async generator"]


@dataclass(frozen=True, slots=True)
class InFlight:
    """One frame of old code: `path` is "module:qualname", `name` the thread's or the coroutine's.

    `line` is where it is now (0 when unknown), in the source of the code it runs; `frame_id` tells
    two frames apart while both live; `offset` is that of its instruction in the code. `unending`:
    it is suspended in a `for` over something that has no end.
    """

    path: str
    kind: Kind
    name: str
    line: int
    frame_id: int
    offset: int = -1
    unending: bool = False


def in_flight(codes: Collection[CodeType], *, heap: bool = False) -> list[InFlight]:
    """Frames that run one of `codes` (these very objects), the innermost of each stack first.

    Of threads and greenlets always; with `heap` also suspended generators, coroutines and async
    generators. Where the program has greenlets, this is a look at the heap either way.
    """
    wanted = {id(code) for code in codes}
    found: dict[int, InFlight] = {}
    for frame, kind, name in (*_on_threads(wanted), *_on_greenlets(wanted)):
        found.setdefault(id(frame), _entry(frame, kind, name))
    if heap:
        for each in _suspended(wanted):
            found.setdefault(each.frame_id, each)
    return list(found.values())


def _on_threads(wanted: set[int]) -> Iterator[_Frame]:
    names = thread_names()
    tops = current_frames()
    for ident in list(tops):
        # Held to the end, the frame of this very call would hold itself, and `codes`, until garbage
        # is collected; references to code are counted.
        frame: FrameType | None = tops.pop(ident)
        while frame is not None:
            if id(frame.f_code) in wanted:
                yield frame, "thread", names.get(ident, f"thread {ident}")
            frame = frame.f_back


def _on_greenlets(wanted: set[int]) -> Iterator[_Frame]:
    """Of those that have switched away: that of each thread which runs is on the thread's stack."""
    base = getattr(sys.modules.get("greenlet"), "greenlet", None)
    if not isinstance(base, type):
        return
    top = cast("GetSetDescriptorType", vars(base)["gr_frame"])  # a subclass may have its own
    for thing in scan.of([id(kind) for kind in reach.family(base)]):
        frame: FrameType | None = top.__get__(thing)
        while frame is not None:
            if id(frame.f_code) in wanted:
                yield frame, "greenlet", f"{id(thing):#x}"
            frame = frame.f_back


def running_frames(codes: Collection[CodeType]) -> list[FrameType]:
    """The frames of threads that run one of `codes`. While they are held, no other frame has the
    identity of one of them.
    """
    wanted = {id(code) for code in codes}
    found: list[FrameType] = []
    tops = current_frames()
    for ident in list(tops):
        frame: FrameType | None = tops.pop(ident)
        while frame is not None:
            if id(frame.f_code) in wanted:
                found.append(frame)
            frame = frame.f_back
    return found


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread, by thread identifier, all taken at one instant."""
    return sys._current_frames()  # pyright: ignore[reportPrivateUsage]


def thread_names() -> dict[int, str]:
    # Not threading.enumerate(): it takes a lock, which the thread we look at may hold.
    active = cast("dict[int, threading.Thread]", vars(threading)["_active"])
    return {ident: str(vars(thread).get("_name")) for ident, thread in list(active.items())}


def _suspended(wanted: set[int]) -> Iterator[InFlight]:
    for thing in scan.of(_CALLS):
        # Nobody's frame but of those: with its frame in a variable here, this very generator, which
        # is found as well, would hold itself, and all that it looks at.
        if id(_code(thing)) in wanted and (call := suspended_call(thing)) is not None:
            code, frame, kind, name = call
            if frame is not None:
                entry = _entry(frame, kind, name)
                yield replace(entry, unending=unending(thing, code, entry.offset))


def _code(call: object) -> CodeType:
    kind = type(call)
    if kind is GeneratorType:
        return cast("GeneratorType[Any, Any, Any]", call).gi_code
    if kind is CoroutineType:
        return cast("CoroutineType[Any, Any, Any]", call).cr_code
    return cast("AsyncGeneratorType[Any, Any]", call).ag_code


def suspended_call(thing: object) -> tuple[CodeType, FrameType | None, Kind, str] | None:
    """(code, frame, kind, name) of a generator, coroutine or async generator; None for all else.

    The frame is None when it has ended.
    """
    kind = type(thing)
    if kind is GeneratorType:
        generator = cast("GeneratorType[Any, Any, Any]", thing)
        return generator.gi_code, generator.gi_frame, "generator", generator.__qualname__
    if kind is CoroutineType:
        coroutine = cast("CoroutineType[Any, Any, Any]", thing)
        return coroutine.cr_code, coroutine.cr_frame, "coroutine", coroutine.__qualname__
    if kind is AsyncGeneratorType:
        stream = cast("AsyncGeneratorType[Any, Any]", thing)
        return stream.ag_code, stream.ag_frame, "async generator", stream.__qualname__
    return None


def _entry(frame: FrameType, kind: Kind, name: str) -> InFlight:
    module = frame.f_globals.get("__name__")
    path = f"{module if type(module) is str else '?'}:{frame.f_code.co_qualname}"
    return InFlight(path, kind, name, frame.f_lineno or 0, id(frame), frame.f_lasti)


def references(thing: object, known: int) -> int:
    """How many references to `thing` nobody has explained; 0 means that all its holders are known.

    `known` counts what the caller can explain, its own variables included: to code, a function
    holds one, a frame, generator or coroutine one (in 3.11 a generator two; and it keeps its
    function, which holds another), the constants of the enclosing code one, a container one.
    """
    # This function's parameter is one, the argument of getrefcount another.
    return sys.getrefcount(thing) - 2 - known
