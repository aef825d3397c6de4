"""What the standard library made of a class, compared with what its statement says: the fields of a
dataclass or named tuple, the members of an Enum, the comparisons of `total_ordering`.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import enum
import functools
import typing
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher.matching import assigned, shown
from zdpatch.patcher.reach import class_dict, mro
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import is_library, is_named_tuple, same, unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.matching import Answer, Matching

_FIELDS: Final = "__dataclass_fields__"
_ORDERS: Final = ("__lt__", "__le__", "__gt__", "__ge__")
_MEMBERS: Final = frozenset({"value", "function", "field"})
_ENUM_HOOKS: Final = frozenset({"__new__", "__new_member__", "__init__", "_generate_next_value_"})


def of_class(matching: Matching, item: Item, cls: type) -> Iterator[tuple[Item, str]]:
    """How a class differs from its statement: (statement, clause about the class)."""
    node = cast("ast.ClassDef", item.node)
    yield from _bases(matching, item, node, cls)
    yield from _ordering(matching, item, node, cls)
    if type(cls) is enum.EnumType:
        yield from _members(matching, item, cls)
    elif _FIELDS in class_dict(cls):
        yield from _fields(matching, item, cls)
    elif is_named_tuple(cls) and class_dict(cls).get("__orig_bases__") == (typing.NamedTuple,):
        yield from _tuple_fields(matching, item, cls)


def _bases(
    matching: Matching, item: Item, node: ast.ClassDef, cls: type
) -> Iterator[tuple[Item, str]]:
    """Bases that are made on the spot by a call."""
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(cls)
    if len(bases) != len(node.bases):
        return
    for written, base in zip(node.bases, bases, strict=True):
        if not isinstance(written, ast.Call):
            continue
        called = matching.living.named(written.func, item.scope)
        if called is collections.namedtuple and (
            matching.matches(written, base, item.scope) is False
        ):
            yield item, f"is a class of another base here than {ast.unparse(written):.60}"


def _ordering(
    matching: Matching, item: Item, node: ast.ClassDef, cls: type
) -> Iterator[tuple[Item, str]]:
    makers = [matching.living.named(each, item.scope) for each in node.decorator_list]
    own = class_dict(cls)
    added = any(
        type(value) is FunctionType and value.__globals__ is functools.__dict__
        for value in map(own.get, _ORDERS)
    )
    wanted = any(each is functools.total_ordering for each in makers)
    missing = any(name not in own for name in _ORDERS)
    if (wanted and not added and missing) or (added and not wanted and MISSING not in makers):
        which = "has" if added else "does not have"
        yield item, f"{which} the comparisons of total_ordering here"


# ---------------------------------------------------------------- members


def _members(matching: Matching, item: Item, cls: type) -> Iterator[tuple[Item, str]]:
    members = cast("Mapping[str, object]", class_dict(cls).get("_member_map_") or {})
    if any(_is_own(class_dict(each).get(name)) for each in mro(cls) for name in _ENUM_HOOKS):
        return
    known = {name for child in item.children for name in child.names}
    if any(child.kind not in _MEMBERS for child in item.children) or "_ignore_" in known:
        return
    written: dict[str, tuple[Item, ast.expr]] = {}
    for child in item.children:
        if child.kind == "value" and not child.role:
            written |= {name: (child, value) for name, value in assigned(child.node)}
    written = {name: each for name, each in written.items() if _names_a_member(name)}
    expected = _made_again(matching, item, cls, written)
    for name, (child, node) in written.items():
        if name not in members:
            if name not in class_dict(cls):
                yield child, f"has no member {name} here"
            continue
        value = vars(members[name]).get("_value_", MISSING)
        if name in expected:
            alike: Answer = same(vars(expected[name]).get("_value_"), value)
        else:
            alike = None if _automatic(node) else matching.matches(node, value, item.qualname)
        if alike is False:
            text = ast.unparse(node)
            yield (
                child,
                f"has the member {name} = {shown(value)} here, and {text:.60} in the source",
            )
    for name in members:
        if name not in known and not name.startswith("_"):
            yield item, f"has a member {name} here, and none in the source"


def _names_a_member(name: str) -> bool:
    return not name.startswith("_") and not name.endswith("_")


def _is_own(hook: object) -> bool:
    """Whether the application says itself what a member is."""
    hook = unwrapped(hook)
    return type(hook) is FunctionType and hook.__globals__ is not enum.__dict__


def _automatic(node: ast.expr) -> bool:
    """Whether a value may depend on the members in front."""
    return isinstance(node, ast.Call) or any(isinstance(p, ast.Name) for p in ast.walk(node))


def _made_again(
    matching: Matching, item: Item, cls: type, written: dict[str, tuple[Item, ast.expr]]
) -> Mapping[str, object]:
    """Members that the same statements give in an Enum of no other use, up to the first one that
    cannot be computed again; none if classes of the application have a say.
    """
    bases: tuple[type, ...] = type.__dict__["__bases__"].__get__(cls)
    if not all(map(is_library, bases)):
        return {}
    try:
        space: Any = enum.EnumType.__prepare__(cls.__name__, bases)
        for name, (_, node) in written.items():
            called = node.func if isinstance(node, ast.Call) else None
            automatic = called and matching.living.named(called, item.qualname) is enum.auto
            value = enum.auto() if automatic else matching.value(node, item.qualname)
            if value is MISSING:
                break
            space[name] = value
        made = enum.EnumType(cls.__name__, bases, space)
    except Exception:  # noqa: BLE001 - what raised when it ran bound nothing
        return {}
    return cast("Mapping[str, object]", class_dict(made)["_member_map_"])


# ---------------------------------------------------------------- fields


def _fields(matching: Matching, item: Item, cls: type) -> Iterator[tuple[Item, str]]:
    fields = cast("Mapping[str, Any]", class_dict(cls)[_FIELDS])
    for child in item.children:
        value = next((node for _, node in assigned(child.node)), None)
        field = fields.get(child.name)
        if not isinstance(child.node, ast.AnnAssign) or type(field) is not dataclasses.Field:
            continue
        for how in _field(matching, value, cast("dataclasses.Field[object]", field), item.qualname):
            yield child, f"has the field {child.name} with {how}"


def _field(
    matching: Matching, node: ast.expr | None, field: dataclasses.Field[object], scope: str
) -> Iterator[str]:
    """How a field differs from what is assigned to its name."""
    called = node.func if isinstance(node, ast.Call) else None
    made = None if called is None else matching.living.named(called, scope)
    if made is MISSING or (
        node is not None and called is not None and made is not dataclasses.field
    ):
        return  # a default that a call gives, or a field of another maker
    words: dict[str, ast.expr] = {}
    if made is dataclasses.field:
        call = cast("ast.Call", node)
        if any(word.arg is None for word in call.keywords):
            return
        words = {word.arg or "": word.value for word in call.keywords}
    elif node is not None:
        words = {"default": node}
    for name in ("default", "default_factory"):
        held = getattr(field, name)
        if (held is not dataclasses.MISSING) is not (name in words):
            yield f"{'no' if name in words else 'a'} {name} here"
        elif name in words and matching.matches(words[name], held, scope) is False:
            text = ast.unparse(words[name])
            yield f"{name}={shown(held)} here, and {text:.60} in the source"
    for name in ("init", "repr", "compare", "hash"):
        wanted = words.get(name) or ast.Constant(None if name == "hash" else True)
        if matching.matches(wanted, getattr(field, name), scope) is False:
            yield f"{name}={shown(getattr(field, name))} here"


def _tuple_fields(matching: Matching, item: Item, cls: Any) -> Iterator[tuple[Item, str]]:  # noqa: ANN401
    names = [each.name for each in item.children if isinstance(each.node, ast.AnnAssign)]
    if list(cls._fields) != names:
        yield item, f"has the fields {', '.join(cls._fields):.60} here"
        return
    for child in item.children:
        if not isinstance(child.node, ast.AnnAssign):
            continue
        value, held = child.node.value, cls._field_defaults.get(child.name, MISSING)
        if (value is None) is not (held is MISSING):
            yield child, f"has {'a' if value is None else 'no'} default of {child.name} here"
        elif value is not None and matching.matches(value, held, item.qualname) is False:
            yield child, f"has the default {child.name}={shown(held)} here"
