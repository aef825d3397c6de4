"""Whether what lives in a variable, in tables and in partial objects is what new code expects there
is seen on the values themselves, without running anyone's code.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.fitness import attribute, filled
from zdpatch.patcher.shapes import NUMBER
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import mro
from zdpatch.patcher.uses import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.outdated import Outdated

# Kinds by id: a metaclass may have a `__hash__` and an `__eq__`.
_SCALARS: Final = frozenset(map(id, (int, float, complex, bool, str, bytes)))
_TABLES: Final = frozenset(map(id, (list, tuple, dict, set, frozenset)))
# Classes written in C which find attributes as any object does; others may have ways of their own.
_GENERIC: Final = _SCALARS | _TABLES | {id(object), id(FunctionType)}
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_args = functools.partial.__dict__["args"].__get__
_words = functools.partial.__dict__["keywords"].__get__
_length = cast("Callable[[object], int]", tuple.__dict__["__len__"])
# What a use needs of the class of the value, one of these names; other uses are not judged.
_NEEDS: Final = {
    "Load": ("__getitem__", "__class_getitem__"),
    "Store": ("__setitem__",),
    "Del": ("__delitem__",),
    "iter": ("__iter__", "__getitem__"),
    "parts": ("__iter__", "__getitem__"),
    "Starred": ("__iter__", "__getitem__"),
    "()": ("__call__",),
    "withitem": ("__enter__", "__aenter__"),
    "Add": ("__add__", "__radd__", "__iadd__"),
    "Sub": ("__sub__", "__rsub__", "__isub__"),
    "Mult": ("__mul__", "__rmul__", "__imul__"),
    "Div": ("__truediv__", "__rtruediv__", "__itruediv__"),
    "FloorDiv": ("__floordiv__", "__rfloordiv__", "__ifloordiv__"),
    "Pow": ("__pow__", "__rpow__", "__ipow__"),
}


def unfitting(edit: Outdated, inventories: Mapping[str, Inventory]) -> tuple[str, str]:
    """Why what lives does not fit, and what nobody can tell of it; "" for each when all is well."""
    doubt = ""
    if reach.frozen() and edit.sure and needs_heap(edit):
        doubt = "what lives of it cannot all be looked at here"
    for value in _live(edit, inventories):
        if value is None or _is_nothing(value, edit):
            continue
        if (fits := _fits(value, edit)) is False:
            return f"what lives there is a {reach.qualname(type(value))}, of the old code", ""
        if fits is None and (edit.sure or edit.every):
            doubt = f"what lives there is a {reach.qualname(type(value))}"
    return "", doubt


def needs_heap(edit: Outdated) -> bool:
    """Whether the objects to look at are found by garbage collection alone."""
    return edit.place.what == "argument" or bool(edit.place.owner)


def _is_nothing(value: object, edit: Outdated) -> bool:
    """Whether new code has a value itself, or asks for it: a constant, or an empty one."""
    kind = id(type(value))
    if edit.tested and kind in _SCALARS | _TABLES and not value:
        return True
    return kind in _SCALARS and repr(value) in edit.kept


def _fits(value: object, edit: Outdated) -> bool | None:
    """Whether new code can do with a value what it does; None when that cannot be told."""
    if any(_is(value, each) for each in edit.kinds):
        return True
    wrong = edit.every or any(_is(value, each) for each in edit.gone)
    kind = type(value)
    asked = kind is dict and any(use.startswith(("In ", "NotIn ")) for use in edit.uses)
    if (edit.sure and wrong) or (not asked and any(_cannot(value, use) for use in edit.uses)):
        return False
    return None


def _is(value: object, kind: str) -> bool:
    """Whether a value is of a kind (see `shapes`)."""
    name, _, number = kind.partition(" ")
    if number and reach.is_a(value, tuple):
        return _length(value) == int(number)
    if name == NUMBER:
        return reach.is_a(value, int, float, complex)
    return name in {reach.qualname(cls).rpartition(".")[2] for cls in mro(type(value))}


def _cannot(value: object, use: str) -> bool:
    """Whether a use fails with a value for certain."""
    cls = type(value)
    if use.startswith(ANY) or reach.is_a(value, type, ModuleType):
        return False
    if use.startswith("."):
        own = {"__getattr__", "__getattribute__"}
        kinds = [each for each in mro(cls) if id(each) not in _GENERIC]
        hooked = any(own & reach.class_dict(each).keys() for each in kinds)
        return not hooked and attribute(value, use.strip(".()")) is MISSING
    word, _, number = use.partition(" ")
    if use.startswith("["):
        word = use.rpartition(" ")[2]
    if word == "Load" and cls is dict:
        held = reach.items(cast("dict[object, object]", value))
        keys = [repr(key) for key, _ in held if type(key) in {str, int}]
        wanted = use[1 : use.rindex("]")]
        return bool(wanted) and wanted not in keys
    if word == "parts" and id(cls) in _TABLES | {id(str)}:
        return len(cast("str", value)) != int(number)
    needs = _NEEDS.get(word, ())
    return bool(needs) and not any(n in reach.class_dict(each) for each in mro(cls) for n in needs)


# ---------------------------------------------------------------- what lives


def _live(edit: Outdated, inventories: Mapping[str, Inventory]) -> Iterator[object]:
    """What is in the place now."""
    place = edit.place
    if place.what == "argument":
        yield from _arguments(edit)
    elif not place.owner:
        module = sys.modules.get(place.module)
        space = reach.namespace(module) if module is not None else {}
        value = space.get(place.name)
        yield from [value] if place.what == "variable" else held(value)
    else:
        taken = inventories.get(place.module)
        classes = taken.classes.get(place.owner, []) if taken is not None else []
        kinds = {id(each) for each in reach.family(*classes)}
        for cls in classes:
            yield from held(attribute(cls, place.name))
        for each in list(scan.of(kinds)):
            found = attribute(each, place.name)
            if type(found) is MemberDescriptorType:
                found = found.__get__(each) if filled(found, each) else None
            yield from held(found)


def held(table: object) -> Iterator[object]:
    """What is in a table of a known kind."""
    if reach.is_a(table, dict):
        for _, value in reach.items(cast("dict[object, object]", table)):
            yield value
    for kind in _SEQUENCES:
        if reach.is_a(table, kind):
            yield from reach.snapshot(functools.partial(_listed, kind, table))


def _listed(kind: type, table: object) -> list[object]:
    iterate = cast("Callable[[object], Iterator[object]]", kind.__dict__["__iter__"])
    return list(iterate(table))


def _arguments(edit: Outdated) -> Iterator[object]:
    """What partial objects hand to the parameter of the function."""
    for each in [e for e in scan.objects() if reach.is_a(e, functools.partial)]:
        target = reach.inner(each)
        function, first = (target.__func__, 1) if type(target) is MethodType else (target, 0)
        if type(function) is not FunctionType or function.__code__.co_qualname != edit.place.owner:
            continue
        if function.__globals__.get("__name__") != edit.place.module:
            continue
        positional: tuple[object, ...] = _args(each)
        given = [*zip(edit.names[first:], positional, strict=False), *reach.items(_words(each))]
        yield from (value for name, value in given if name == edit.place.name)
