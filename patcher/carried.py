"""What an object has in its own dict, and no class of its says anything of, is read without running
anyone's code.

Only of objects whose classes the patch leaves alone: those of others may have been made otherwise
in a fresh process. And only where the old text reads it too, so that its value tells whether it has
changed since.
"""

from __future__ import annotations

import ast
from types import GetSetDescriptorType, NoneType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.names import dotted
from zdpatch.patcher.reach import class_dict, is_a
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import mro
from zdpatch.patcher.values import is_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from zdpatch.patcher.items import Item

_READ: Final = frozenset({int, str, bytes, float, bool, NoneType})  # which nobody changes in place
_getattribute = object.__getattribute__


def carried(name: str, lookup: Callable[[str], object], changing: Container[str]) -> object:
    """What a dotted name stands for; MISSING when that cannot be read so. `lookup` gives what plain
    names do, `changing` has the modules whose classes may change.
    """
    root, *rest = name.split(".")
    value = lookup(root)
    for attribute in rest:
        if value is MISSING or is_plain(value) or not _simple(value, attribute, changing):
            return MISSING
        space = _getattribute(value, "__dict__")
        if type(space) is not dict:
            return MISSING
        value = cast("dict[str, object]", space).get(attribute, MISSING)
    return value if type(value) in _READ else MISSING


def chains(items: Iterable[Item]) -> set[str]:
    """The dotted names in statements."""
    parts = (part for item in items for part in ast.walk(item.node))
    return {dotted(part) or "" for part in parts if isinstance(part, ast.Attribute)}


def _simple(value: object, attribute: str, changing: Container[str]) -> bool:
    """Whether an attribute of an object is what its dict has."""
    classes = mro(type(value))[:-1]
    dicts = [class_dict(each) for each in classes]
    spaces = [space["__dict__"] for space in dicts if "__dict__" in space]
    return (
        not is_a(value, type)
        and bool(spaces)
        and all(type(each) is GetSetDescriptorType for each in spaces)
        and not any(attribute in space or "__getattribute__" in space for space in dicts)
        and not any(str(space.get("__module__")) in changing for space in dicts)
    )
