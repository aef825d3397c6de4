"""A version has left when nothing can run it any more: no call, nothing suspended, no request, and
no reference to its code that nobody can explain.

What threads run and how often code is referred to is read in one instant: nothing that other
threads do falls in between.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from zdpatch.patcher import codes, scan
from zdpatch.patcher.carriers import carriers
from zdpatch.patcher.inflight import suspended_call, thread_names
from zdpatch.patcher.slots import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from zdpatch.patcher.scopes import Scope
    from zdpatch.patcher.swap import Guard
    from zdpatch.patcher.versions import Group, Version

_current_frames = sys._current_frames  # pyright: ignore[reportPrivateUsage]
_AWAITED: Final = ("cr_await", "gi_yieldfrom", "ag_await")


class Blocker(msgspec.Struct, frozen=True):
    """What may still run the version that leaves.

    `kind`: "thread", "task", "coroutine", "generator", "async generator", "greenlet", "request"
    (its scope is open, or carried by what it started), "function" (an object that runs the code by
    itself) or "reference". `name` is that of the thread or task, or the request's key; `path` the
    definition, `line` where it is (0: unknown).
    """

    kind: str
    name: str
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"{self.kind} {self.name}{where}{f', line {self.line}' if self.line else ''}"


class Look:
    """One look at the process: `blockers`; `inside`, by frame, calls that stand in a dispatcher;
    and what must `still` hold in the instant of a flip for none to have come since.
    """

    def __init__(self, group: Group, version: Version) -> None:
        self.group = group
        self.version = version
        self.wanted = {id(code): code for code in group.codes[version]}
        self.deciding = {id(code): code for code in group.deciding}
        self.inside: dict[int, tuple[FrameType, Blocker]] = {}
        # kept, like all here that refers to code: the counts are to be the same at the flip
        self.watched = [*group.codes[version], *(member.code for member in group.members)]
        counted = [(partial(sys.getrefcount, code), None) for code in self.watched]
        # one that ends now and is let go of could be taken for another that comes
        self._suspensions: list[object] = []
        self.still: list[Guard] = [group.pins_given(), *counted]
        pinned = group.pinned(version)
        left = [scope for scope in pinned if scope.left]
        self.blockers = [*self._frames(), *(_request(each) for each in pinned if not each.left)]
        heap = any(codes.kind(code) != "function" for code in group.codes[version])
        if not self.blockers and (heap or "greenlet" in sys.modules):
            self.blockers += self._suspended()
        if not self.blockers and left:
            self.blockers += _carried(left)

    def _frames(self) -> Iterator[Blocker]:
        """Calls of threads. References are counted in the very instant of which the stacks are."""
        asked = [partial(_current_frames), *(each for each, _ in self.still)]
        seen: deque[object] = deque(map(call, asked))
        tops = cast("dict[int, FrameType]", seen.popleft())
        self.still = list(zip(asked[1:], seen, strict=True))
        names = thread_names()
        for ident in list(tops):
            frame: FrameType | None = tops.pop(ident)
            while frame is not None:
                name = names.get(ident, f"thread {ident}")
                if id(frame.f_code) in self.wanted:
                    yield _blocker("thread", name, frame)
                elif id(frame.f_code) in self.deciding:
                    self.inside[id(frame)] = frame, _blocker("thread", name, frame)
                frame = frame.f_back

    def _suspended(self) -> list[Blocker]:
        """Generators, coroutines and greenlets, found through the heap.

        No generator itself: it would find its own frame, and by that keep all that it refers to.
        """
        kinds = _tasks()
        greenlet = getattr(sys.modules.get("greenlet"), "greenlet", None)
        frames: dict[int, tuple[FrameType, str, str]] = {}
        tasks: dict[int, str] = {}
        for thing in scan.objects():
            found = suspended_call(thing)
            if found is not None:
                if id(found[0]) in self.wanted:
                    self._suspensions.append(thing)
                    if found[1] is not None:
                        frames[id(found[1])] = (found[1], found[2], found[3])
            elif type(thing) in kinds:
                tasks |= {id(one): cast("Any", thing).get_name() for one in _chain(thing)}
            elif greenlet is not None and issubclass(type(thing), greenlet):
                frames |= self._greenlet(thing)
        return [
            _blocker(*(("task", tasks[key]) if key in tasks else (kind, name)), frame)
            for key, (frame, kind, name) in frames.items()
        ]

    def _greenlet(self, thing: object) -> Iterator[tuple[int, tuple[FrameType, str, str]]]:
        frame = cast("FrameType | None", getattr(thing, "gr_frame", None))
        while frame is not None:
            if id(frame.f_code) in self.wanted:
                yield id(frame), (frame, "greenlet", f"{id(thing):#x}")
            frame = frame.f_back


def _request(scope: Scope) -> Blocker:
    return Blocker("request", "without a key" if scope.key is None else str(scope.key))


def _carried(left: list[Scope]) -> list[Blocker]:
    """Requests that were left, and by what they are carried: not by what waits for other work only
    (a pooled connection, a worker), which may never end.
    """
    return [
        Blocker("request", f"{_request(scope).name}, by {each}")
        for scope, by in carriers(left).items()
        for each in [next((each for each in by if not each.idle), None)]
        if each is not None
    ]


def _blocker(kind: str, name: str, frame: FrameType) -> Blocker:
    module = frame.f_globals.get("__name__")
    path = f"{module if type(module) is str else '?'}:{frame.f_code.co_qualname}"
    return Blocker(kind, name, path, frame.f_lineno or 0)


def _tasks() -> tuple[type, ...]:
    """The classes of tasks that there are; asyncio is not imported for it."""
    places = (("_asyncio", "Task"), ("asyncio.tasks", "_PyTask"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in places)
    return tuple(each for each in found if type(each) is type)


def _chain(task: object) -> Iterator[FrameType]:
    """The frames of a task's coroutine, and of what it awaits."""
    waiting: Any = cast("Any", task).get_coro()
    while waiting is not None:
        found = suspended_call(waiting)
        if found is None:
            return
        if found[1] is not None:
            yield found[1]
        waiting = next((getattr(waiting, n) for n in _AWAITED if hasattr(waiting, n)), None)
