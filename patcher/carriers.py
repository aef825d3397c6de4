"""What carries a scope that was left is found in the heap: tasks, threads, jobs, timers, greenlets.

Some of it does nothing for the request any more, and may not end for hours: a connection that the
request opened, a worker it was the first to need, a thread that waits. That is `idle`.
"""

from __future__ import annotations

import gc
import sys
import threading
from contextvars import Context
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from zdpatch.patcher import scan
from zdpatch.patcher.inflight import current_frames
from zdpatch.patcher.scopes import PIN, Job, Scope
from zdpatch.patcher.workers import is_worker, is_worker_code

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_WAITING: Final = ("threading", "queue", "selectors", "multiprocessing.connection")
_WAITS: Final = ("wait", "get", "select", "poll", "join", "_wait_for_tstate_lock")


class Carrier(msgspec.Struct, frozen=True):
    """`kind`: "task", "thread", "job" (it waits for a thread), "timer", "callback", "connection",
    "greenlet", or "context" (a copy that somebody keeps). `name` is for people. One that is `idle`
    runs nothing of the request: it waits for work, or for somebody else.
    """

    kind: str
    name: str
    idle: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{', which waits' if self.idle else ''}"


def carriers(scopes: Collection[Scope]) -> dict[Scope, list[Carrier]]:
    """Who carries each; nobody for one that is about to be forgotten. Looks at the whole heap."""
    found: dict[Scope, list[Carrier]] = {scope: [] for scope in scopes}
    contexts: dict[int, tuple[Context, Scope]] = {}
    for thing in scan.objects():
        if type(thing) is Context:
            scope = thing.get(PIN)
            if scope is not None and scope in found:
                contexts[id(thing)] = thing, scope
        elif type(thing) is Job and thing.scope in found:
            found[thing.scope].append(_of_job(thing))
    held = _holders([context for context, _ in contexts.values()])
    for number, (_, scope) in contexts.items():
        if number in held:
            found[scope] += [each for each in map(_of_holder, held[number]) if each is not None]
        elif not any(each.kind == "thread" for each in found[scope]):
            # the context that a thread is in by itself is its own, and nobody refers to it
            found[scope].append(Carrier("context", "that somebody keeps", idle=False))
    return found


def idle(scopes: Iterable[Scope]) -> list[Scope]:
    """Those that were left, and are carried by nothing that runs, or will run, for the request."""
    left = [scope for scope in scopes if scope.left]
    return [scope for scope, by in carriers(left).items() if all(each.idle for each in by)]


def _holders(contexts: list[Context]) -> dict[int, list[Any]]:
    """Of each context's number: tasks, callbacks and greenlets that run in it, or did so; and calls
    that have ended and are not collected yet.
    """
    wanted = {id(context) for context in contexts}
    held: dict[int, list[Any]] = {}
    for thing in gc.get_referrers(*contexts) if contexts else ():
        if isinstance(thing, _kinds()) or (type(thing) is FrameType and _has_ended(thing)):
            for each in gc.get_referents(thing):
                if id(each) in wanted:
                    held.setdefault(id(each), []).append(thing)
    return held


def _kinds() -> tuple[type, ...]:
    """What runs in a context of its own, as far as this process has it."""
    names = (
        *(("asyncio", "Task"), ("asyncio", "Handle"), ("greenlet", "greenlet")),
        *(("uvloop.loop", "Handle"), ("uvloop.loop", "TimerHandle")),
    )
    found = [getattr(sys.modules.get(module), name, None) for module, name in names]
    return tuple(each for each in found if isinstance(each, type))


def _has_ended(frame: FrameType) -> bool:
    """Whether nothing will go on with it: no thread, and no generator or coroutine."""
    for running in current_frames().values():
        each: FrameType | None = running
        while each is not None:
            if each is frame:
                return False
            each = each.f_back
    suspended = ("gi_frame", "cr_frame", "ag_frame")
    return not any(
        getattr(owner, name, None) is frame
        for owner in gc.get_referrers(frame)
        if type(owner) in (GeneratorType, CoroutineType, AsyncGeneratorType)
        for name in suspended
    )


def _of_holder(holder: Any) -> Carrier | None:  # noqa: ANN401 - one of `_kinds`, or a frame
    """None for what has ended."""
    if type(holder) is FrameType:
        return None
    if hasattr(holder, "get_coro"):
        if holder.done():
            return None
        coroutine = holder.get_coro()
        code = getattr(coroutine, "cr_code", None)
        name = f"{holder.get_name()} ({getattr(coroutine, '__qualname__', '?')})"
        return Carrier("task", name, isinstance(code, CodeType) and is_worker_code(code))
    if hasattr(holder, "gr_context"):
        run = getattr(holder, "_run", None)
        return None if holder.dead else Carrier("greenlet", f"{id(holder):#x}", is_worker(run))
    return None if holder.cancelled() else _of_handle(holder)


def _of_handle(handle: Any) -> Carrier:  # noqa: ANN401 - asyncio's, or uvloop's
    callback = getattr(handle, "_callback", None)
    name = str(getattr(callback, "__qualname__", "") or "of an event loop")
    if hasattr(handle, "when"):
        return Carrier("timer", name, idle=False)
    # what a loop has to call is in a queue; for a connection it is beside another, in a pair
    waits = any(type(each) is tuple for each in gc.get_referrers(handle))
    return Carrier("connection" if waits else "callback", name, idle=waits)


def _of_job(job: Job) -> Carrier:
    if not job.thread:
        return Carrier("job", str(getattr(job.call, "__qualname__", "")), idle=False)
    active = cast("dict[int, threading.Thread]", vars(threading)["_active"])
    thread = active.get(job.thread)
    name = f"{job.thread}" if thread is None else str(vars(thread).get("_name"))
    return Carrier("thread", name, _is_parked(job.thread))


def _is_parked(thread: int) -> bool:
    """Whether it waits in the standard library, for something that another thread will do."""
    frame: FrameType | None = current_frames().get(thread)
    if frame is None or frame.f_globals.get("__name__") not in _WAITING:
        return False
    return frame.f_code.co_name in _WAITS
