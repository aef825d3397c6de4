"""What calls of the standard library leave behind, read from the objects that they made."""

from __future__ import annotations

import ast
import collections
import contextvars
import functools
import gc
import types
import typing
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher.reach import class_dict, is_a, mro
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tables import every
from zdpatch.patcher.values import is_library, is_named_tuple, same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zdpatch.patcher.matching import Answer, Matching

_NEW: Final = object.__dict__["__new__"]
_WRAPPERS: Final[Mapping[int, tuple[type, tuple[str, ...]]]] = {
    id(property): (property, ("fget", "fset", "fdel")),
    id(staticmethod): (staticmethod, ("__func__",)),
    id(classmethod): (classmethod, ("__func__",)),
    id(functools.cached_property): (functools.cached_property, ("func",)),
}


def matches(matching: Matching, node: ast.Call, live: object, scope: str, name: str) -> Answer:
    """Whether an object is what a call gives; None when the call says nothing that can be read."""
    called = matching.living.named(node.func, scope)
    if called is MISSING or any(word.arg is None for word in node.keywords):
        return None
    if any(isinstance(each, ast.Starred) for each in node.args):
        return None
    read = _READERS.get(id(called))
    if read is not None:
        return read(_Call(matching, node, scope, name), live)
    if id(called) in _WRAPPERS:
        return _wrapper(_Call(matching, node, scope, name), live, *_WRAPPERS[id(called)])
    if is_a(called, type) and matching.firm(node.func, called, scope):
        return _instance(cast("type", called), live)
    return None


class _Call:
    """A call in a source, and how its parts are compared."""

    def __init__(self, matching: Matching, node: ast.Call, scope: str, name: str) -> None:
        self.matching, self.node, self.scope, self.name = matching, node, scope, name
        self.words = {word.arg or "": word.value for word in node.keywords}

    def part(self, node: ast.expr | None, live: object) -> Answer:
        """Whether an argument is this object, a missing one None."""
        if node is None:
            return live is None
        return self.matching.matches(node, live, self.scope)

    def arguments(self, *names: str) -> dict[str, ast.expr]:
        """The arguments by name."""
        return {**dict(zip(names, self.node.args, strict=False)), **self.words}

    def made(self, call: Callable[..., object]) -> object:
        """What the call gives on arguments that are all computed again; MISSING if they are not."""
        value = self.matching.value
        given = [value(each, self.scope) for each in self.node.args]
        words = {key: value(each, self.scope) for key, each in self.words.items()}
        if any(each is MISSING for each in [*given, *words.values()]):
            return MISSING
        try:
            return call(*given, **words)
        except Exception:  # noqa: BLE001 - what raised when it ran bound nothing
            return MISSING


def _partial(call: _Call, live: object) -> Answer:
    if type(live) is not functools.partial:
        return False
    held, words = cast("functools.partial[object]", live), dict(live.keywords)
    if len(held.args) != len(call.node.args) - 1 or words.keys() != call.words.keys():
        return _nested(call)
    found = [call.part(*pair) for pair in zip(call.node.args, [held.func, *held.args], strict=True)]
    return every([*found, *(call.part(each, words[key]) for key, each in call.words.items())])


def _nested(call: _Call) -> Answer:
    """A partial of a partial is made one of all arguments."""
    first = call.node.args[0] if call.node.args else None
    inner = call.matching.living.named(first, call.scope) if first else MISSING
    plain = inner is not MISSING and type(inner) is not functools.partial
    return False if plain else None


def _wrapper(call: _Call, live: object, kind: type, slots: tuple[str, ...]) -> Answer:
    if type(live) is not kind:
        return False
    given = call.arguments(*slots)
    return every(call.part(given.get(slot), getattr(live, slot)) for slot in slots)


def _named_tuple(call: _Call, live: object) -> Answer:
    if not is_a(live, type):
        return False
    made, cls = call.made(collections.namedtuple), cast("type", live)
    if made is MISSING:
        return None
    if not is_named_tuple(cls):
        return False
    names = ("__name__", "_fields", "_field_defaults")
    return all(same(getattr(made, name), getattr(cls, name)) for name in names)


def _context_variable(call: _Call, live: object) -> Answer:
    if type(live) is not contextvars.ContextVar:
        return False
    given = call.arguments("name")
    variable = cast("contextvars.ContextVar[object]", live)
    try:
        default = contextvars.Context().run(_own, variable)
    except LookupError:
        default = MISSING
    if ("default" in given) is (default is MISSING):
        return False
    named = call.part(given.get("name"), variable.name)
    return every([named, "default" not in given or call.part(given["default"], default)])


def _own(variable: contextvars.ContextVar[object]) -> object:
    return variable.get()


def _proxy(call: _Call, live: object) -> Answer:
    if type(live) is not types.MappingProxyType or len(call.node.args) != 1:
        return False
    (held,) = gc.get_referents(live)
    return call.matching.matches(call.node.args[0], held, call.scope, call.name)


def _cast(call: _Call, live: object) -> Answer:
    value = call.arguments("typ", "val").get("val")
    return None if value is None else call.matching.matches(value, live, call.scope, call.name)


def _instance(called: type, live: object) -> Answer:
    """Whether an object is of the class that was called; None for what only may be right."""
    metaclasses = mro(type(called))[:-2]  # `type` and `object` aside
    if any("__call__" in class_dict(each) for each in metaclasses):
        return None
    makers = (each for each in mro(called) if "__new__" in class_dict(each))
    new = class_dict(next(makers))["__new__"]
    if new is _NEW:
        return None if type(live) is called else False
    compiled = type(new) is types.BuiltinFunctionType and is_library(called)
    return None if not compiled or is_a(live, called) else False


_READERS: Final[Mapping[int, Callable[[_Call, Any], Answer]]] = {
    id(functools.partial): _partial,
    id(collections.namedtuple): _named_tuple,
    id(contextvars.ContextVar): _context_variable,
    id(types.MappingProxyType): _proxy,
    id(typing.cast): _cast,
}
