"""Displays compared with the containers that live, entry by entry; programs fill tables, so what a
source changes itself, or begins empty, says nothing by what is in it now.
"""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.names import dotted
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from zdpatch.patcher.matching import Answer, Matching

Display = ast.Tuple | ast.List | ast.Set | ast.Dict
_KINDS: Final[dict[type[ast.expr], type]] = {
    ast.Tuple: tuple,
    ast.List: list,
    ast.Set: set,
    ast.Dict: dict,
}
# Methods that leave a table as it is.
_READS: Final = frozenset(
    {"get", "items", "keys", "values", "copy", "index", "count", "union", "intersection",
     "difference", "issubset", "issuperset", "isdisjoint", "symmetric_difference"}
)  # fmt: skip
_READERS: Final = frozenset(
    {"len", "sorted", "set", "dict", "tuple", "list", "frozenset", "min", "max"}
)


class Tables:
    """What a source does with names that may be bound to tables."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    @cached_property
    def filled(self) -> frozenset[str]:
        """Names whose entries it sets or deletes, of which it takes a method that may, or that it
        hands to a call.
        """
        found = (name for node in ast.walk(self.tree) for name in map(_last, _changed(node)))
        return frozenset(filter(None, found))


def _changed(node: ast.AST) -> list[ast.expr]:
    """Expressions whose value a node changes, or may change."""
    match node:
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
            return [value]
        case ast.Attribute(value=value, attr=attr) if attr not in _READS:
            return [value]
        case ast.AugAssign(target=target):
            return [target]
        case ast.Call(func=ast.Name(id=name)) if name in _READERS:
            return []
        case ast.Call(args=args, keywords=words):
            return [*args, *(word.value for word in words)]
        case _:
            return []


def _last(node: ast.expr) -> str | None:
    return (dotted(node) or "").rpartition(".")[2] or None


def matches(matching: Matching, node: Display, live: object, scope: str, name: str) -> Answer:
    """Whether a container has what a display says."""
    kind = _KINDS[type(node)]
    if type(live) is not kind:
        return False
    if kind is tuple:
        return _sequence(matching, cast("ast.Tuple", node), live, scope)
    if isinstance(node, ast.Dict):
        answer = _table(matching, node, cast("dict[object, object]", live), scope)
    elif isinstance(node, ast.List):
        answer = _sequence(matching, node, live, scope)
    else:
        value = matching.value(node, scope)
        answer = None if value is MISSING else same(value, live)
    parts = node.keys if isinstance(node, ast.Dict) else node.elts
    return None if answer is False and _filled(matching, parts, name) else answer


def may_be_filled(matching: Matching, value: object, name: str) -> bool:
    """Whether a value is a table that may have other entries by now."""
    parts = cast("Sized", value)
    return type(value) in {list, set, dict} and _filled(matching, parts, name)


def _filled(matching: Matching, parts: Sized, name: str) -> bool:
    return not len(parts) or not name or name in matching.tables.filled


def _sequence(matching: Matching, node: ast.Tuple | ast.List, live: object, scope: str) -> Answer:
    parts = list(cast("Iterable[object]", live))
    if any(isinstance(each, ast.Starred) for each in node.elts):
        value = matching.value(node, scope)
        return None if value is MISSING else same(value, live)
    if len(parts) != len(node.elts):
        return False
    return every(
        matching.matches(each, part, scope) for each, part in zip(node.elts, parts, strict=True)
    )


def _table(matching: Matching, node: ast.Dict, live: dict[object, object], scope: str) -> Answer:
    keys = [key for key in node.keys if key is not None]
    entries = reach.items(live)
    if len({ast.dump(key) for key in keys}) != len(node.keys):
        return None  # of other tables, or one key is written twice
    if len(entries) != len(keys):
        return False
    found: list[Answer] = []
    for key, value, (name, held) in zip(keys, node.values, entries, strict=True):
        found += [matching.matches(key, name, scope), matching.matches(value, held, scope)]
    return every(found)


def every(answers: Iterable[Answer]) -> Answer:
    """What is so of a whole by its parts: False if one is not so, else None if one is unknown."""
    found = list(answers)
    if False in found:
        return False
    return None if None in found else True
