"""A literal that the module formats with all of its names (`"%(a)s" % locals()`) is read as what it
says: the same with the names that stand in it, and no others.
"""

from __future__ import annotations

import ast
import re
import string
from typing import Final

_SPACES: Final = frozenset({"locals", "globals", "vars"})
# `%%`, `%(name)s` with flags, width, precision and type; anything else that begins with `%`
_PERCENT: Final = re.compile(
    r"%(?:(?P<twice>%)|\((?P<name>[^()]*)\)[#0\- +]*\d*(?:\.\d+)?[a-zA-Z]|)"
)


def with_names(tree: ast.Module) -> ast.Module:
    """`tree`, changed where statements of the module itself format so."""
    if not any(_binds(part) for part in ast.walk(tree)):
        tree.body = [_Formatting().visit(node) for node in tree.body]
    return tree


def _binds(part: ast.AST) -> bool:
    """Whether a part of a module gives one of these names another meaning."""
    match part:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name in _SPACES
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name in _SPACES
        case ast.alias(name=name, asname=asname):
            return (asname or name) in {*_SPACES, "*"}
        case _:
            return False


class _Formatting(ast.NodeTransformer):
    """Leaves functions and classes alone: their names are others."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        match node:
            case ast.BinOp(
                left=ast.Constant(value=str(text)), op=ast.Mod(), right=ast.Call() as call
            ):
                names = _percent(text) if _is_space(call) else None
                if names is not None:
                    node.right = _table(names, call)
            case _:
                self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format"),
                args=[],
                keywords=[ast.keyword(arg=None, value=ast.Call() as call)],
            ):
                names = _braces(text) if _is_space(call) else None
                if names is not None:
                    node.keywords[0].value = _table(names, call)
            case _:
                self.generic_visit(node)
        return node


def _is_space(call: ast.Call) -> bool:
    bare = not call.args and not call.keywords
    return bare and isinstance(call.func, ast.Name) and call.func.id in _SPACES


def _percent(text: str) -> list[str] | None:
    """The names in the text; None when it has something else to fill in."""
    found = list(_PERCENT.finditer(text))
    names = [each["name"] for each in found if not each["twice"]]
    return names if all(name and name.isidentifier() for name in names) else None


def _braces(text: str) -> list[str] | None:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return None
    names = [name for _, name, spec, _ in parts if name is not None and "{" not in (spec or "")]
    nested = any("{" in (spec or "") for _, _, spec, _ in parts)
    return None if nested or not all(name.isidentifier() for name in names) else names


def _table(names: list[str], place: ast.expr) -> ast.Dict:
    once = list(dict.fromkeys(names))
    made = ast.Dict(
        [ast.Constant(name) for name in once], [ast.Name(name, ast.Load()) for name in once]
    )
    return ast.fix_missing_locations(ast.copy_location(made, place))
