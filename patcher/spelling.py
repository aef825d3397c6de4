"""How source text names objects, and spells attributes otherwise than `o.x`.

`setattr`, `getattr`, `vars(o)` and `o.__dict__` are taken for what they are by custom.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher.names import FunctionNode, dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def receiver(node: ast.AST) -> str:
    """What a function calls its first parameter; "" when it has none."""
    if not isinstance(node, FunctionNode):
        return ""
    arguments = [*node.args.posonlyargs, *node.args.args]
    return arguments[0].arg if arguments else ""


def parameters(node: FunctionNode | ast.Lambda) -> Iterator[str]:
    """Names of all parameters."""
    args = node.args
    for each in [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]:
        if each is not None:
            yield each.arg


def variables(node: FunctionNode | ast.Module) -> Iterator[str]:
    """Parameters, and names that are assigned."""
    if isinstance(node, FunctionNode):
        yield from parameters(node)
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def called(node: ast.Call) -> str:
    """The last name of what a call calls; "" when it has none."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    """Those of the expressions that are plain text."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def dict_of(node: ast.expr) -> ast.expr | None:
    """The object whose attributes `o.__dict__` or `vars(o)` are."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    if isinstance(node, ast.Call) and called(node) == "vars" and len(node.args) == 1:
        return node.args[0]
    return None


def catches(node: ast.expr | None) -> bool:
    """Whether a handler is there for a missing attribute; one for any error is not."""
    each = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(one is not None and dotted(one) == "AttributeError" for one in each)


def asked(node: ast.Call | ast.Compare) -> Iterator[str]:
    """Attributes for whose absence an expression is ready: it asks, or has a default."""
    if isinstance(node, ast.Compare):
        if dict_of(node.comparators[0]) is not None:
            yield from texts([node.left])
    elif called(node) == "hasattr" or (called(node) == "getattr" and len(node.args) > 2):
        yield from texts(node.args[1:2])
