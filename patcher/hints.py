"""What only type checkers read of a function's body does nothing when it is called: annotations of
what it makes, and casts.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.deferred import Inner, kept_inner
from zdpatch.patcher.names import dotted
from zdpatch.patcher.parts import parts
from zdpatch.patcher.purity import origin

if TYPE_CHECKING:
    from collections.abc import Mapping

_CASTS: Final = frozenset({"typing.cast", "typing_extensions.cast"})
# Evaluating an annotation of these calls nothing but subscripts and `|` of types.
_QUIET: Final = (
    ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.BitOr,
    ast.expr_context,
)  # fmt: skip


def bare_body(node: Inner, imports: Mapping[str, str]) -> str:
    """What a call of the function itself does, as text: without hints, and without the bodies of
    functions that it only makes. `imports` as in `deferred.walk_run`.
    """
    kept = {_place(each) for each in kept_inner(node, imports)}
    twin = copy.deepcopy(node)
    names = (part for part in parts(twin) if isinstance(part, ast.Name))
    bound = {each.id for each in names if not isinstance(each.ctx, ast.Load)}
    known = {name: full for name, full in imports.items() if name not in bound}
    body = [twin.body] if isinstance(twin, ast.Lambda) else twin.body
    bare = _Bare(kept, known)
    said = [ast.dump(bare.visit(each)) for each in body if not _says_nothing(each)]
    args = [[each.arg for each in group] for group in _parameters(node.args)]
    return f"{type(node).__name__} {args} {said}"


def _parameters(args: ast.arguments) -> tuple[list[ast.arg], ...]:
    stars = [[each] if each else [] for each in (args.vararg, args.kwarg)]
    return args.posonlyargs, args.args, args.kwonlyargs, *stars


def _place(node: Inner) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _says_nothing(node: ast.AST) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _quiet(annotation: ast.expr | None) -> bool:
    return annotation is None or all(isinstance(part, _QUIET) for part in parts(annotation))


class _Bare(ast.NodeTransformer):
    def __init__(self, kept: set[tuple[int, int]], imports: Mapping[str, str]) -> None:
        self.kept = kept
        self.imports = imports

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if _place(node) in self.kept:
            node.body = []
        node.returns = None if _quiet(node.returns) else node.returns
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        if _place(node) in self.kept:
            node.body = ast.Constant(None)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None if _quiet(node.annotation) else node.annotation
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if not isinstance(node.target, ast.Name) or not node.simple:
            return self.generic_visit(node)
        if node.value is None:  # it says that the variable is a local one
            return ast.AnnAssign(node.target, ast.Constant(None), None, 1)
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = dotted(node.func) or ""
        given = len(node.args) == 2 and not node.keywords
        known = name.partition(".")[0] in self.imports and origin(name, self.imports) in _CASTS
        if given and known and _quiet(node.args[0]):
            return cast("ast.AST", self.visit(node.args[1]))
        return self.generic_visit(node)
