"""After a flip, and after an undo: what is left of the code that a patch took away.

A frame, a suspended generator or coroutine keeps the code it began with; a function object that the
patch could not change, and methods bound to it, may run it again. One look over all objects finds
them, those hidden by `gc.freeze` too; it costs a scan of the heap, so only a person asks for it.
"""

from __future__ import annotations

import gc
from collections import Counter
from itertools import chain
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, inventory, reach, scan
from zdpatch.patcher.homes import at_home, is_elsewhere
from zdpatch.patcher.inflight import in_flight, references, suspended_call
from zdpatch.patcher.left import Left
from zdpatch.patcher.shared import Given
from zdpatch.patcher.slots import MISSING, Step, current

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Codes = Mapping[str, tuple[CodeType, ...]]


def left_of(
    gone: Codes,
    steps: Sequence[Step],
    *,
    runs: Iterable[str] = (),
    waiting: Iterable[str] = (),
    tables: Iterable[Given] = (),
) -> Left:
    """What is left of `gone` (code by definition path), and of `tables`, in this process.

    `steps` are those which took it away; objects that only steps keep, of this patch or of another,
    do not count.
    """
    frames: dict[str, int] = {}
    for each in in_flight([code for group in gone.values() for code in group]):
        frames[each.path] = frames.get(each.path, 0) + 1
    removed = {id(s.expected): s.what for s in steps if _is_gone_class(s)}
    kinds = {id(kind) for kind in (*_KINDS, *OWN)} | removed.keys()
    things = [each for each in scan.objects() if id(type(each)) in kinds]
    own = [each for each in things if type(each) in OWN]
    seen = _Census(gone, removed, Kept(own))
    named = (inner for step in steps for inner in _named(step))
    seen.bindings.update(at_home({id(each): each for each in named}))
    for thing in things:
        seen.look(thing)
    taken = _held(list(tables), steps, own)
    counts = (frames, seen.suspended, seen.functions, seen.bound, seen.instances, taken)
    return Left(sorted(runs), *counts, sorted(waiting))


# What is looked at.
_KINDS: Final = (FunctionType, MethodType, GeneratorType, CoroutineType, AsyncGeneratorType)
# What the engine itself holds functions and tables by.
OWN: Final = (Step, inventory.LiveFunction, Given)


class _Census:
    """Counts what is left, one object after the other. Its caller holds each of them twice: in the
    list of all, and as the one that is looked at.
    """

    def __init__(self, gone: Codes, removed: Mapping[int, str], kept: Kept) -> None:
        self.paths = {id(code): path for path, group in gone.items() for code in group}
        self.removed = removed
        self.kept = kept
        self.bindings = Counter[int]()
        self.suspended: dict[str, int] = {}
        self.functions: dict[str, int] = {}
        self.bound: dict[str, int] = {}
        self.instances: dict[str, int] = {}

    def look(self, thing: object) -> None:
        kind = type(thing)
        if kind is FunctionType:
            code = cast("FunctionType", thing).__code__
            path = self.paths.get(id(code))
            # the function of a generator expression is its own, and counted as suspended
            if path is not None and codes.is_function_code(code):
                known = 3 + self.bindings[id(thing)]
                if not self.kept.only(thing, known):
                    _count(self.functions, path)
        elif kind is MethodType:
            inner = cast("MethodType", thing).__func__
            if type(inner) is FunctionType:
                _count(self.bound, self.paths.get(id(inner.__code__)))
        elif id(kind) in self.removed:
            _count(self.instances, self.removed[id(kind)])
        else:
            call = suspended_call(thing)
            if call is not None and call[1] is not None:
                _count(self.suspended, self.paths.get(id(call[0])))


class Kept:
    """Tells by the count of references, which `gc.freeze` does not hide, whether nobody but the
    engine's `own` objects hold another.
    """

    def __init__(self, own: Sequence[object]) -> None:
        self.held: Counter[int] = Counter()
        self.wrappers: dict[int, dict[int, Step]] = {}
        for step in (*own, *_inside([*_out_of_use(own)])):
            self.held.update(map(id, gc.get_referents(step)))
            if type(step) is Step and type(step.expected) is not FunctionType:
                for function in reach.inner_functions(step.expected):
                    self.wrappers.setdefault(id(function), {})[id(step.expected)] = step

    def only(self, thing: object, known: int) -> bool:
        """Whether it is so. `known`: how many references the caller has."""
        return self.number(thing, known + 1) <= 0

    def number(self, thing: object, known: int) -> int:
        """How many others hold it."""
        known += self.held[id(thing)] + 1  # that of this call
        for step in self.wrappers.get(id(thing), {}).values():  # a static method, a property
            if references(step.expected, self.held[id(step.expected)]) == 0:
                known += sum(each is thing for each in gc.get_referents(step.expected))
        return references(thing, known)


def _held(tables: list[Given], steps: Sequence[Step], own: list[object]) -> dict[str, int]:
    """How often others have each of the tables than the engine's `own` objects, what `steps` took
    away (the defaults of a function, the attributes of a class) and the tables themselves.
    """
    if not tables:
        return {}
    known, found = Counter[int](), dict[str, int]()
    went = chain((step.expected for step in steps), (each.table for each in tables))
    for holder in chain(own, _inside([*went, *_out_of_use(own)])):
        known.update(map(id, gc.get_referents(holder)))
    holder = None  # or the last one would be held here
    for each in tables:
        if (number := references(each.table, known[id(each.table)])) > 0:
            found[each.what] = max(number, found.get(each.what, 0))
    return found


def _out_of_use(own: Iterable[object]) -> Iterator[object]:
    """Defaults that only steps have: of a plan that is not in."""
    for step in own:
        if type(step) is Step and step.kind == "function":
            given = [each for each in (step.value, step.expected) if type(each) in {tuple, dict}]
            now = current(step) if given else None
            yield from (each for each in given if each is not now)


def _inside(values: list[object]) -> Iterator[object]:
    """What directly holds the parts of values, each once; not functions and classes in them."""
    pending: list[object] = []
    for value in values:
        if reach.is_a(value, type):
            pending += gc.get_referents(reach.class_dict(cast("type", value)))
        for function in reach.inner_functions(value):
            pending += (function.__defaults__, function.__kwdefaults__, function.__closure__)
        pending.append(value)
    seen = set[int]()
    while pending:
        value = pending.pop()
        if type(value) in _HOLD and id(value) not in seen:
            seen.add(id(value))
            yield value
            pending += gc.get_referents(value)


_HOLD: Final[frozenset[type]] = frozenset({dict, list, tuple, set, frozenset, CellType})


def taken_away(steps: Iterable[Step]) -> dict[str, tuple[CodeType, ...]]:
    """Code by definition path that `steps` took from functions, or with what names meant."""
    found: dict[str, tuple[CodeType, ...]] = {}
    for step in steps:
        if step.kind == "function" and step.name == "__code__":
            function = cast("FunctionType", step.target)
            gone = [(cast("CodeType", step.expected), function.__globals__)]
        elif step.kind in {"class", "item"} and not is_elsewhere(step):
            functions = reach.inner_functions(step.expected)
            gone = [(each.__code__, each.__globals__) for each in functions]
        else:
            continue
        new = step.value if type(step.value) is CodeType else None
        for code, space in gone:
            inner = codes.expressions(code, new).values()
            for each in (code, *chain.from_iterable(inner)):
                path = f"{space.get('__name__')}:{each.co_qualname}"
                found[path] = (*found.get(path, ()), each)
    return found


def _named(step: Step) -> list[FunctionType]:
    """The functions that a name meant before a step."""
    return reach.inner_functions(step.expected) if step.kind in {"class", "item"} else []


def _is_gone_class(step: Step) -> bool:
    gone = step.value is MISSING and step.kind == "item" and reach.is_a(step.expected, type)
    return gone and not is_elsewhere(step)


def _count(counts: dict[str, int], path: str | None) -> None:
    if path is not None:
        counts[path] = counts.get(path, 0) + 1
