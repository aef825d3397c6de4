"""What a new statement would evaluate, and whether running it would do more than bind names."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher.decorators import unknown_decorator
from zdpatch.patcher.facets import defaults
from zdpatch.patcher.generics import is_alias
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.purity import is_pure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.items import Item


def values_of(node: ast.stmt) -> Iterator[ast.expr]:
    """The expressions a value statement evaluates. Where a `try` only imports, its handlers do not
    run when the imports are known to succeed, which is checked before it is evaluated.
    """
    if is_alias(node) or (isinstance(node, ast.Try) and only_imports(node)):
        return  # the value of a `type` statement is evaluated by who asks for it
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            if not isinstance(getattr(child, "ctx", None), ast.Store):
                yield child
        elif isinstance(child, ast.stmt):
            yield from values_of(child)
        elif isinstance(child, ast.ExceptHandler):
            for part in child.body:
                yield from values_of(part)


def only_imports(node: ast.Try) -> bool:
    """Whether the body of a `try` does nothing but import names."""
    imports = all(isinstance(each, ast.ImportFrom) for each in node.body)
    return imports and not node.orelse and not node.finalbody


def class_effects(item: Item, imports: Mapping[str, str]) -> str:
    """Why executing the body of a new class would do more than make the class; "" when it
    does not.
    """
    for child in item.children:
        if child.kind in {"effect", "star"}:
            return "runs a statement with effects"
        if child.kind == "class" and (why := class_effects(child, imports)):
            return why
        if child.kind == "function":
            node = child.node
            assert isinstance(node, FunctionNode)
            if bad := unknown_decorator(node.decorator_list, imports):
                return f"uses the decorator {bad!r}"
            if not all(is_pure(value, imports, fresh=True) for value in defaults(node).values()):
                return "has a default with effects"
        if child.kind == "value" and not all(
            is_pure(v, imports, fresh=True) for v in values_of(child.node)
        ):
            return "evaluates something with effects"
    return ""
