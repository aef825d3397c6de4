"""Slots decide where the values of an object are kept, which nothing can change for a class that
exists; that a name is in `__slots__` no more changes nothing about it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.names import mangled

if TYPE_CHECKING:
    from collections.abc import Collection

    from zdpatch.patcher.items import Item

# Names in `__slots__` that make no slot but give objects something else (Objects/typeobject.c,
# type_new_slots).
LAYOUT: Final = frozenset({"__dict__", "__weakref__"})


def slot_names(items: Collection[Item]) -> frozenset[str] | None:
    """The attributes that one plain statement `__slots__ = ...` names; None when the text does not
    tell.
    """
    if len(items) != 1:
        return None
    (item,) = items
    value = item.node.value if isinstance(item.node, ast.Assign | ast.AnnAssign) else None
    try:
        found = None if value is None else cast("object", ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError):
        return None
    names = (found,) if isinstance(found, str) else found
    if not isinstance(names, tuple | list):
        return None
    listed = cast("Collection[object]", names)
    texts = [each for each in listed if isinstance(each, str)]
    if len(texts) != len(listed):
        return None
    return frozenset(mangled(item.scope, each) for each in texts)
