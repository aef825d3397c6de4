"""How far above the folder of its package code goes from where a module says that it lies.

The folder that serves patched files holds one package. What lies beside the package is not there,
so nobody may come to it on the way over its files.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ANYWHERE: Final = 99
NOWHERE: Final = -1000


def begins(module: str, roots: Iterable[str], *, package: bool) -> int:
    """Where the file of a module is, in steps from the folder of its package among `roots` (of its
    own topmost package, when it is in none of these): 0 is in that folder, less is further in.
    """
    own = (root for root in roots if module == root or module.startswith(f"{root}."))
    root = next(own, module.partition(".")[0])
    return root.count(".") - module.count(".") - package


def climbed(parts: Iterable[ast.AST], name: Callable[[str], int]) -> dict[str, int]:
    """How far up variables of one body are, from the statements in it; `name` says it of others."""
    found: dict[str, int] = {}
    nodes = [*parts]
    for _ in range(3):
        for part in nodes:
            value = getattr(part, "value", None)
            targets = getattr(part, "targets", None) or [getattr(part, "target", None)]
            if not isinstance(part, ast.Assign | ast.AnnAssign | ast.NamedExpr) or value is None:
                continue
            for target in targets:
                if isinstance(target, ast.Name):
                    here = climb(value, name, found)
                    if here > found.get(target.id, NOWHERE):
                        found[target.id] = here
    return found


def climb(  # noqa: PLR0911 - one clause a kind of expression
    node: ast.AST, name: Callable[[str], int], variables: Mapping[str, int]
) -> int:
    """How many steps above the folder of its package an expression leads; `NOWHERE` when it begins
    at no file of a module. `name` says it of `__file__` and of names of other scopes.
    """

    def most(nodes: Iterable[ast.AST]) -> int:
        return max((climb(each, name, variables) for each in nodes), default=NOWHERE)

    match node:
        case ast.Name(id=text):
            return variables.get(text, name(text))
        case ast.Attribute(value=value, attr="parent"):
            return _above(climb(value, name, variables), 1)
        case ast.Subscript(value=ast.Attribute(value=value, attr="parents"), slice=index):
            steps = index.value if isinstance(index, ast.Constant) else _ANYWHERE
            up = steps + 1 if isinstance(steps, int) else _ANYWHERE
            return _above(climb(value, name, variables), up)
        case ast.Call(func=func, args=args):
            called = str(dotted(func) or getattr(func, "attr", "")).rpartition(".")[2]
            return _above(most([func, *args]), (called == "dirname") + _up(args))
        case ast.BinOp(left=left, right=right):
            return _above(most([left, right]), _up([left, right]))
        case ast.Attribute():
            full = dotted(node)
            own = name(full) if full else NOWHERE
            return max(own, climb(node.value, name, variables))
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.Constant():
            return NOWHERE
        case _:
            return most(ast.iter_child_nodes(node))


def _above(base: int, steps: int) -> int:
    return base if base == NOWHERE else base + steps


def _up(nodes: Iterable[ast.AST]) -> int:
    """The ".." in literals."""
    texts = (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return sum(text.split("/").count("..") for text in texts)
