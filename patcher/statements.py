"""What one statement says by itself: the names it binds, its part in a definition, and whether it
does no more than to bind values.
"""

from __future__ import annotations

import ast
from typing import Any, cast

from zdpatch.patcher.generics import is_alias
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import is_pure


def bound_names(node: ast.AST) -> tuple[str, ...]:
    """Names a statement binds in its own scope, in order of appearance, branches included."""
    found: dict[str, None] = {}
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop(0)
        match part:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found[name] = None
                continue
            case ast.Name(id=name, ctx=ast.Store()):
                found[name] = None
            case ast.alias(name=name, asname=asname):
                found[asname or name.partition(".")[0]] = None
            case (
                ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp()
            ):
                continue
            case _:
                pass
        pending.extend(ast.iter_child_nodes(part))
    return tuple(found)


def is_value(node: ast.stmt, imports: dict[str, str]) -> bool:  # noqa: PLR0911 - one clause a kind of statement
    """True for statements that do nothing but bind names to values (branches of such statements
    included).
    """

    def every(body: list[ast.stmt]) -> bool:
        return all(is_value(part, imports) for part in body)

    match node:
        case ast.Pass() | ast.Import():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.ImportFrom():
            return all(alias.name != "*" for alias in node.names)
        case ast.Assign(targets=targets):
            return all(_plain_target(target) for target in targets)
        case ast.AnnAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.AugAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.If():
            return is_pure(node.test, imports) and every(node.body) and every(node.orelse)
        case ast.Try():
            handlers = all(every(handler.body) for handler in node.handlers)
            return every(node.body) and handlers and every(node.orelse) and every(node.finalbody)
        case _:
            return is_alias(node)


def _plain_target(node: ast.expr) -> bool:
    if isinstance(node, ast.Starred):
        return _plain_target(node.value)
    if isinstance(node, ast.Tuple | ast.List):
        return all(_plain_target(element) for element in node.elts)
    return isinstance(node, ast.Name)


def role_of(node: FunctionNode) -> str:
    """Tells `@x.setter def x` from `@property def x`, and `@overload` from the real one."""
    for decorator in node.decorator_list:
        name = dotted(decorator) or ""
        last = name.rpartition(".")[2]
        if last == "overload":
            return "overload"
        if "." in name and last in {"setter", "getter", "deleter", "register"}:
            return name
    return ""


def raising_handlers_apart(old: ast.stmt, new: ast.stmt) -> bool:
    """Whether two `try` statements differ in nothing but handlers of which each raises at its end:
    a module that was imported has run none of them.
    """
    if not isinstance(old, ast.Try) or not isinstance(new, ast.Try):
        return False
    handlers = [*old.handlers, *new.handlers]
    raises = all(isinstance(each.body[-1], ast.Raise) for each in handlers)
    parts = ("body", "orelse", "finalbody")
    same = all(_dumped(getattr(old, part)) == _dumped(getattr(new, part)) for part in parts)
    return raises and same


def _dumped(body: list[ast.stmt]) -> list[str]:
    return [ast.dump(each) for each in body]


def is_text(node: ast.expr) -> bool:
    """Whether an expression is a string literal, as a docstring is."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def grows_all(call: ast.Call) -> ast.stmt | None:
    """`__all__.append(x)` and `.extend(xs)` as the augmented assignments that they are."""
    method = dotted(call.func)
    if method not in {"__all__.append", "__all__.extend"} or len(call.args) != 1 or call.keywords:
        return None
    given = call.args[0]
    added = ast.List([given], ast.Load()) if method == "__all__.append" else given
    name = ast.Name("__all__", ast.Store())
    grown = ast.AugAssign(name, ast.Add(), ast.copy_location(added, given))
    return ast.fix_missing_locations(ast.copy_location(grown, call))


def without_bodies(node: ast.stmt) -> ast.AST:
    """A copy in which function bodies are blank: they are compared by their code, not here."""
    return cast("ast.AST", _Bodies().visit(node))


def _blank(node: FunctionNode) -> dict[str, Any]:
    return {**dict(ast.iter_fields(node)), "body": []}


class _Bodies(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.copy_location(ast.FunctionDef(**_blank(node)), node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return ast.copy_location(ast.AsyncFunctionDef(**_blank(node)), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        fields: dict[str, object] = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                parts = cast("list[object]", value)
                fields[name] = [self.visit(v) if isinstance(v, ast.AST) else v for v in parts]
            else:
                fields[name] = self.visit(value) if isinstance(value, ast.AST) else value
        return type(node)(**fields)
