"""The parts of a syntax tree as lists: what `ast.walk` and `ast.iter_child_nodes` give, in the same
order, in half the time.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

# Fields that hold text, numbers or flags in every kind of node that has them.
_PLAIN: Final = frozenset(
    {"id", "attr", "arg", "asname", "module", "level", "kind", "type_comment", "lineno", "simple",
     "is_async", "conversion", "tag"}
)  # fmt: skip


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """The fields of each kind of node that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        names = () if kind is ast.Constant else kind._fields
        self[kind] = tuple(name for name in names if name not in _PLAIN)
        return self[kind]


_FIELDS: Final = _Fields()
_NODE: Final = ast.AST
_field = cast("Callable[[ast.AST, str, None], Any]", getattr)


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly inside of one."""
    found: list[ast.AST] = []
    for name in _FIELDS[node.__class__]:
        held = _field(node, name, None)
        if held.__class__ is list:
            found += [each for each in held if isinstance(each, _NODE)]
        elif isinstance(held, _NODE):
            found.append(held)
    return found


def parts(*nodes: ast.AST) -> list[ast.AST]:
    """These nodes and all inside of them, level by level."""
    found = list(nodes)
    add = found.append
    for node in found:
        for name in _FIELDS[node.__class__]:  # as in `children`; a call a node would cost as much
            held = _field(node, name, None)
            if held.__class__ is list:
                for each in held:
                    if isinstance(each, _NODE):
                        add(each)
            elif isinstance(held, _NODE):
                add(held)
    return found
