"""Two versions of the functions of one group live side by side, and no unit of work runs both.

A dispatcher stands in the place of each function and decides at the call: the pin of the request
scope, where there is one; else the caller's own stack, where a frame of the group says which
version goes on; else the route. A thread looks only at itself, so nothing is stopped. Nothing here
writes to a live object: that is what the steps are for.

A stack is looked at once for each context (of a thread, of a task): where nothing of the group is
on it, new code has begun there, and a mark says so to what comes. That is only done where old code
cannot come to run by other ways than a dispatcher's.
"""

from __future__ import annotations

import inspect
import itertools
import operator
import sys
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, Literal

from zdpatch.patcher import codes, scopes
from zdpatch.patcher.slots import MISSING, Step
from zdpatch.patcher.trampoline import ANY, ASK, Consts, Parameters, trampoline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FrameType

    from zdpatch.patcher.swap import Guard

Version = Literal[0, 1]
OLD: Final = 0
NEW: Final = 1
_NEVER: Final = sys.maxsize
_numbers: Final = itertools.count(1)
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What becomes of one live function: its code, and its defaults where they are others.

    `path` is "module:qualname". Where only defaults change, `new` is `old`.
    """

    function: FunctionType
    path: str
    old: CodeType
    new: CodeType
    defaults: tuple[object, ...] | None
    kwdefaults: dict[str, object] | None

    @classmethod
    def of(
        cls, function: FunctionType, path: str, new: CodeType, slots: Mapping[str, object]
    ) -> Change:
        """A change of `function` as it is now; `slots` are those of its slots that change."""
        defaults: Any = slots.get("__defaults__", function.__defaults__)
        kwdefaults: Any = slots.get("__kwdefaults__", function.__kwdefaults__)
        return cls(function, path, function.__code__, new, defaults, kwdefaults)

    def live(self) -> FunctionType:
        """The function; pyright takes one that a field holds for a method."""
        return self.function  # pyright: ignore[reportReturnType]

    @property
    def same_parameters(self) -> bool:
        """Whether both versions bind arguments in one way, so that a trampoline may do it."""
        now = self.live()
        return (
            Parameters.of(self.old) == Parameters.of(self.new)
            and _same_objects(now.__defaults__ or (), self.defaults or ())
            and sorted(now.__kwdefaults__ or ()) == sorted(self.kwdefaults or ())
            and all(
                value is (self.kwdefaults or {})[name]
                for name, value in (now.__kwdefaults__ or {}).items()
            )
        )


def _same_objects(one: tuple[object, ...], two: tuple[object, ...]) -> bool:
    return len(one) == len(two) and all(a is b for a, b in zip(one, two, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One function of a group. `versions` run its old and its new code, with its closure."""

    change: Change
    versions: tuple[FunctionType, FunctionType]
    code: CodeType

    signature: inspect.Signature | None

    def step(self, expected: CodeType, value: CodeType) -> Step:
        """What gives the function another code."""
        what = f"{self.change.path}.__code__"
        return Step("function", self.change.function, "__code__", value, expected, what)

    def shown(self, *, into: bool) -> Iterator[Step]:
        """What keeps the signature in sight of `inspect` where the dispatcher has another."""
        if self.signature is not None:
            value, was = (self.signature, MISSING) if into else (MISSING, self.signature)
            what = f"{self.change.path}.__signature__"
            yield Step("function", self.change.function, "__signature__", value, was, what)


class Group:
    """The functions that change together, and how their calls are decided.

    Until `start` all calls run old code. `beside` is code that only the new version brings, and
    which is nobody's other version: what it calls is new. Without `walk` every call is old, in a
    scope or outside, and scopes are noted. With `alone` every live scope counts as old.
    """

    def __init__(
        self,
        changes: Iterable[Change],
        beside: Iterable[CodeType] = (),
        *,
        walk: bool = True,
        alone: bool = False,
    ) -> None:
        self._alone = alone
        self.id = next(_numbers)
        self._given: list[object] = [object()]
        self.epoch = _NEVER
        self.route: Version = OLD
        self.leaving: Version = OLD
        self._known: dict[int, int] = {}
        self._marks = False
        self._mark = scopes.marking({self.id: NEW})
        self._unmarked = scopes.marking(outside := {self.id: ASK if walk else OLD})
        self.members = tuple(self._member(each, outside) for each in changes)
        pairs = [(m.versions[OLD].__code__, m.versions[NEW].__code__) for m in self.members]
        self.codes: tuple[list[CodeType], list[CodeType]] = _told_apart(pairs, beside)
        self._known |= {id(code): number for number in (OLD, NEW) for code in self.codes[number]}

    def _member(self, change: Change, outside: dict[int, int]) -> Member:
        new = change.new.replace() if change.new is change.old else change.new
        now = change.live()
        old = _version(change, change.old, now.__defaults__, now.__kwdefaults__)
        versions = old, _version(change, new, change.defaults, change.kwdefaults)
        same = change.same_parameters
        parameters = Parameters.of(change.old) if same else ANY
        consts = Consts(scopes.PIN.get, outside, self.id, self._pin, self._by_stack, versions)
        code = trampoline(change.old, consts, parameters)
        return Member(change, versions, code, None if same else _signature(now))

    # ------------------------------------------------------------ deciding

    def _pin(self) -> int:
        """The version of the scope that this call is in, decided now, once. One that began before
        the group is old; so is all that it calls, to its end.
        """
        self._given[0] = object()
        scope = scopes.PIN.get()
        if type(scope) is scopes.Mark:  # of a group before this one
            scopes.PIN.set(self._unmarked)
            return ASK
        found = OLD if scope.epoch < self.epoch else self._on_stack()
        return scope.setdefault(self.id, self.route if found is None else found)

    def _by_stack(self) -> int:
        """The version that goes on in the caller's own stack; the route where none does."""
        found = self._on_stack()
        if found is not None:
            return found
        if self._marks:
            scopes.PIN.set(self._mark)
        return self.route

    def _on_stack(self) -> int | None:
        known = self._known
        try:
            frame: FrameType | None = _getframe(3)
        except ValueError:  # nobody called the dispatcher: it is what a thread began with
            return None
        while frame is not None:
            key = id(frame.f_code)  # code compares and hashes by value, slowly
            if key in known:
                return known[key]
            frame = frame.f_back
        return None

    # ------------------------------------------------------------ its life

    def start(self, route: Version = NEW) -> None:
        """The dispatchers are in. By `route` runs, from now on, what begins: scopes, and calls
        outside of any, by nobody of the group.
        """
        self.epoch = scopes.advance()
        self.route = route
        self._marks = route == NEW and self._plain

    @property
    def _plain(self) -> bool:
        """Whether old code runs only when a dispatcher says so: nothing suspended goes on with it,
        and no inner function of it lives by itself.
        """
        only = len(self.codes[OLD]) == len(self.members)
        return only and all(codes.kind(code) == "function" for code in self.codes[OLD])

    def turn(self) -> None:
        """Go back: what has begun on new code ends on it, all else runs old code."""
        self._marks = False
        self._mark[self.id] = ASK
        self.route, self.leaving = OLD, NEW

    def close(self) -> None:
        """The dispatchers are out. Those in which calls still stand decide as before, and are gone
        with them: collection does not see through code, so nothing else may hold them.
        """
        self.members = ()

    @property
    def deciding(self) -> list[CodeType]:
        """The code of calls that are being decided, or have been and call their version."""
        own = (Group._pin, Group._by_stack)
        return [*(m.code for m in self.members), *(each.__code__ for each in own)]

    def pins_given(self) -> Guard:
        """What gives the same object as long as no scope is being decided."""
        return partial(operator.getitem, self._given, 0), self._given[0]

    def pinned(self, version: Version) -> list[scopes.Scope]:
        """Live scopes that run `version`, or may do so: those not decided yet are old when they
        began before the group.
        """
        alive = scopes.older(sys.maxsize)
        if self._alone:
            return alive
        undecided = [scope for scope in alive if self.id not in scope]
        may = [s for s in undecided if version == OLD and s.epoch < self.epoch]
        return [*(s for s in alive if s.get(self.id) == version), *may]

    def steps_in(self) -> list[Step]:
        """What puts the dispatchers in the place of the functions' code."""
        return [
            *(m.step(m.change.old, m.code) for m in self.members),
            *(step for m in self.members for step in m.shown(into=True)),
        ]

    def steps_out(self, version: Version) -> list[Step]:
        """What puts `version` in the place of the dispatchers: the very code that its function has
        without them. Defaults are steps of their own.
        """
        ends = [m.change.new if version == NEW else m.change.old for m in self.members]
        return [
            *(m.step(m.code, end) for m, end in zip(self.members, ends, strict=True)),
            *(step for m in self.members for step in m.shown(into=False)),
        ]


def _signature(function: FunctionType) -> inspect.Signature | None:
    """What `inspect` says of its parameters; None where its attributes say it."""
    if {"__signature__", "__wrapped__"} & vars(function).keys():
        return None
    return inspect.signature(function)


def _version(
    change: Change,
    code: CodeType,
    defaults: tuple[object, ...] | None,
    kwdefaults: dict[str, object] | None,
) -> FunctionType:
    """A function like the live one, that runs `code`."""
    live = change.live()
    made = FunctionType(code, live.__globals__, live.__name__, defaults, live.__closure__)
    made.__kwdefaults__ = kwdefaults
    made.__qualname__, made.__module__ = live.__qualname__, live.__module__
    made.__doc__ = live.__doc__
    return made


def _told_apart(
    pairs: Iterable[tuple[CodeType, CodeType]], beside: Iterable[CodeType]
) -> tuple[list[CodeType], list[CodeType]]:
    """The codes of which a frame tells the version that goes on: those of the functions, and what
    is nested in one version and not, just so, in the other.
    """
    sides: tuple[list[CodeType], list[CodeType]] = ([], [])
    for pair in pairs:
        inner = [list(codes.walk(code))[1:] for code in pair]
        digests = [{codes.told_apart(code) for code in each} for each in inner]
        for number in (OLD, NEW):
            sides[number].append(pair[number])
            others = digests[1 - number]
            sides[number].extend(c for c in inner[number] if codes.told_apart(c) not in others)
    sides[NEW].extend(each for code in beside for each in codes.walk(code))
    return sides
