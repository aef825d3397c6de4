"""The namespace of a module, taken by itself at import (`names = locals()`), and what reads it.

The namespace is the module's own dict: to bind it to a name reads nothing.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.snapshots import may_hold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

GIVING: Final = frozenset({"globals", "locals", "vars"})


def own_names(outline: Outline) -> set[str]:
    """Names (`__names`: no other module's) that a module gives its namespace, and that no function
    or class reads.
    """
    found = {item.name for item in outline.items if gives_name(item)}
    for item in outline.every() if found else ():
        if item.kind == "function":
            found -= {name.partition(".")[0] for name in item.global_names}
        elif item.scope:
            found -= item.reads
    return found


def gives_name(item: Item) -> bool:
    """Whether a statement of the module does nothing but give the namespace such a name."""
    own = item.kind == "value" and len(item.names) == 1 and item.name.startswith("__")
    return own and not item.scope and _gives(getattr(item.node, "value", None))


def _gives(node: object) -> bool:
    if not isinstance(node, ast.Call) or node.args or node.keywords:
        return False
    return dotted(node.func) in {*GIVING}


def may_be_read(item: Item, path: str, outline: Outline) -> bool:
    """Whether a statement that has the namespace may have read the value of a name from it."""
    if "." in path or isinstance(item.node, (FunctionNode, ast.ClassDef)):
        return True
    names = own_names(outline)
    for node in _used(item.node, names):
        if node is None:
            return True
        key = node.slice
        if isinstance(key, ast.Constant):
            if key.value == path:
                return True
        elif not _leaves_out(item.node, key, path, outline):
            return True
    return False


def _used(statement: ast.stmt, names: set[str]) -> Iterator[ast.Subscript | None]:
    """How a statement uses the namespace: one key of it, or otherwise."""
    pending: list[ast.AST] = [statement]
    while pending:
        part = pending.pop()
        match part:
            case ast.Subscript(value=value, ctx=ast.Load()) if _is_namespace(value, names):
                yield part
                pending.append(part.slice)
                continue
            case ast.expr() if _is_namespace(part, names):
                yield None
            case _:
                pass
        pending += ast.iter_child_nodes(part)


def _is_namespace(node: ast.expr, names: set[str]) -> bool:
    return _gives(node) or (isinstance(node, ast.Name) and node.id in names)


def _leaves_out(node: ast.stmt, key: ast.expr, path: str, outline: Outline) -> bool:
    """Whether a loop over the literal `__all__` never comes to a name."""
    if not isinstance(node, ast.For) or not isinstance(node.target, ast.Name) or node.orelse:
        return False
    variable, exported = node.target.id, outline.exported
    over_all = isinstance(node.iter, ast.Name) and node.iter.id == "__all__"
    own = isinstance(key, ast.Name) and key.id == variable
    stores = [
        part
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and part.id == variable and isinstance(part.ctx, ast.Store)
    ]
    if not over_all or not own or exported is None or len(stores) > 1:
        return False
    if path not in exported:
        return True
    only = node.body[0] if len(node.body) == 1 else None
    if not isinstance(only, ast.If) or only.orelse:
        return False
    return not may_hold(only.test, {variable}, path)
