"""Which live objects hold a function that changes, so that using them may run it: a table, a
partial, a closure, a namespace, an object that keeps it.
"""

from __future__ import annotations

import builtins
import functools
from collections import deque
from dataclasses import dataclass, field
from gc import get_referents
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import codes, fitness, reach
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import function_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.tracing import World

CONTAINERS: Final = (list, tuple, set, frozenset, dict, deque, MappingProxyType)
_WRAPPERS: Final = (
    *reach.WRAPPERS,
    reach.CACHED,
    functools.partialmethod,
    functools.cached_property,
)
_LOOKED_AT: Final = 2_000  # objects, from one value
_LOCAL: Final = ".<locals>"


def attribute(value: object, name: str) -> object:
    """What an attribute holds, without running code; MISSING when that cannot be told."""
    if type(value) is SimpleNamespace:
        return vars(value).get(name, MISSING)
    if (slot := reach.member(value, name)) is not None and not reach.is_a(value, type):
        return slot.__get__(value) if fitness.filled(slot, value) else MISSING
    return fitness.attribute(value, name)


def is_callee(value: object) -> bool:
    """Whether a value is a function, or wraps one in a way that the interpreter knows."""
    return reach.is_a(value, FunctionType, *_WRAPPERS)


@dataclass(eq=False)
class Holders:
    """`targets`: the functions that do something else when they are called, or when what they make
    is, each with the path to blame; `ran`: those that do when they are called. What is asked for
    once is remembered.
    """

    world: World
    targets: Mapping[Name, str]
    ran: Mapping[Name, str]
    _known: dict[int, tuple[object, str | None]] = field(default_factory=dict[int, Any])
    _apart: dict[int, FunctionType] = field(default_factory=dict[int, Any])

    def why(self, value: object) -> str | None:
        """The path to blame when the value is, or holds, such a function. An object of any class
        holds what it keeps itself, or in a container of its own, and no more than that.
        """
        if id(value) not in self._known:
            self._known[id(value)] = value, self._find(value)
        return self._known[id(value)][1]

    def within(self, world: World) -> Holders:
        """The same, in a world of more modules; what is known of objects is shared."""
        return Holders(world, self.targets, self.ran, self._known)

    def made_only(self, function: object) -> str | None:
        """The path to blame when a call of the function itself only makes what runs otherwise."""
        name = next(function_names(function), ("", "")) if type(function) is FunctionType else None
        return self.targets.get(name) if name is not None and name not in self.ran else None

    def _find(self, value: object) -> str | None:
        seen: dict[int, object] = {}
        pending = deque([(value, 1)])
        while pending and len(seen) < _LOOKED_AT:
            each, opaque = pending.popleft()
            if id(each) in seen:
                continue
            seen[id(each)] = each
            if type(each) is FunctionType and (why := self._function(each)) is not None:
                return why
            if is_callee(each) or reach.is_a(each, *CONTAINERS):
                pending += [(part, opaque) for part in inside(each)]
            elif opaque:
                pending += [(part, 0) for part in inside(each)]
        return None

    def _function(self, function: FunctionType) -> str | None:
        for module, path in function_names(function):
            for name in ((module, path), (module, path.partition(_LOCAL)[0])):
                if name in self.targets:
                    return self.targets[name]
            if path.rpartition(".")[2] == "<lambda>" and _LOCAL not in path:
                return self._lambda(module, function)
        return None

    def _lambda(self, module: str, function: FunctionType) -> str | None:
        """Why a lambda of a statement does something else: it changes, or names what does."""
        each = self.world.versions.get(module)
        if each is None or each.base is None:
            return None
        line = function.__code__.co_firstlineno
        for name in self.targets:
            items = each.base.outline.binders("", name[1]) if name[0] == module else ()
            if any(i.kind == "value" and i.line <= line <= (i.node.end_lineno or 0) for i in items):
                return self.targets[name]
        words = {word for code in codes.walk(function.__code__) for word in code.co_names}
        called = (function.__globals__.get(word) for word in words)
        found = (self._function(each) for each in called if type(each) is FunctionType)
        return next((why for why in found if why is not None), None)

    def touched_by(self, function: FunctionType) -> bool:
        """Whether a call of the function may come to what holds such a function, by the names in
        its code and in that of the functions it names.
        """
        seen: dict[int, FunctionType] = {}
        pending = [function]
        while pending:
            each = pending.pop()
            if id(each) in seen or id(each) in self._apart:
                continue
            seen[id(each)] = each
            words = {word for code in codes.walk(each.__code__) for word in code.co_names}
            for word in words:
                value = each.__globals__.get(word)
                if type(value) is FunctionType and str(value.__module__) in self.world.versions:
                    pending.append(value)
                elif not reach.is_a(value, ModuleType, type) and self.why(value) is not None:
                    return True
        self._apart.update(seen)
        return False


def inside(value: object) -> Iterator[object]:
    """What a value holds; nothing for modules, classes and built-in functions."""
    if reach.is_a(value, ModuleType, type, BuiltinFunctionType):
        return
    if type(value) is FunctionType:
        for cell in value.__closure__ or ():
            yield from get_referents(cell)
        own = (
            cast("dict[Any, object]", part) for part in get_referents(value) if type(part) is dict
        )
        aside = (value.__globals__, vars(builtins))
        tables = (part for part in own if not any(part is each for each in aside))
        parts = (part for each in tables for _, part in reach.items(each))
        yield from (part for part in parts if type(part) is FunctionType)
    elif reach.is_a(value, dict, MappingProxyType):
        table = reach.items(cast("Mapping[Any, object]", value))
        if not any(key == "__builtins__" for key, _ in table if type(key) is str):
            yield from (part for pair in table for part in pair)
    elif reach.is_a(value, MethodType):
        yield from reach.all_inner(value)
    else:
        contains = reach.is_a(value, *CONTAINERS)
        for part in get_referents(value):
            if not contains and type(part) is dict:
                # the attributes of an object
                yield from (held for _, held in reach.items(cast("dict[Any, object]", part)))
            elif type(part) is not CellType and not reach.is_a(part, type, ModuleType):
                yield part
