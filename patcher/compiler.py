"""New code is compiled as part of its whole module, so that mangling, nesting and line numbers are
right; only free variables may need help.
"""

from __future__ import annotations

import ast
import copy
import sys
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes
from zdpatch.patcher.stage import future_flags

if TYPE_CHECKING:
    from types import CodeType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.names import FunctionNode

_MARK: Final = "\0zdpatch:class"
_SUPER: Final = "\0zdpatch:super"


def fitted(
    each: ModuleVersions, edit: Edit, held: tuple[str, ...], owner: type | None
) -> CodeType | None:
    """The new code of a method with the free variables that its live function holds; None when that
    cannot be.

    `f.__code__` demands as many free variables as the closure has cells, and reads them by position
    (CPython `func_set_code`, which compares only the number). A method that stops using `super()`
    loses `__class__`: naming it in dead code keeps the cell, and costs nothing at run time. One
    that starts to use it gets its class, `owner`, as a constant.
    """
    new = edit.codes[1]
    if each.new is None or new is None or {*new.co_freevars, *held} != {"__class__"}:
        return None
    node = copy.deepcopy(cast("FunctionNode", edit.new[-1].node))
    if held:
        _name_in_dead_code(node, held)
    elif owner is None or not _name_class(node):
        return None
    code = _in_place(each, edit, node, new.co_filename)
    if code is not None and not held:
        real: dict[object, object] = {_MARK: owner, _SUPER: super}
        constants = (real.get(v, v) if type(v) is str else v for v in code.co_consts)
        code = code.replace(co_consts=tuple(constants))
    return code if code is not None and code.co_freevars == held else None


def _in_place(
    each: ModuleVersions, edit: Edit, node: FunctionNode, filename: str
) -> CodeType | None:
    """The code of a changed definition, compiled in the nesting of classes it stands in."""
    assert each.new is not None
    body: ast.stmt = node
    for name in reversed(edit.scope.split(".") if edit.scope else []):
        body = ast.ClassDef(name=name, bases=[], keywords=[], body=[body], decorator_list=[])
        if sys.version_info >= (3, 12):
            body.type_params = []
        ast.copy_location(body, node)
    tree = ast.fix_missing_locations(ast.Module([body], []))
    flags = future_flags(each.new.outline)
    code = compile(tree, filename, "exec", flags=flags, dont_inherit=True)
    return next(iter(codes.flatten(code).get(edit.qualname, [])), None)


def _name_in_dead_code(node: FunctionNode, names: tuple[str, ...]) -> None:
    at = 1 if ast.get_docstring(node, clean=False) is not None else 0
    anchor = node.body[min(at, len(node.body) - 1)]
    loads = [cast("ast.stmt", ast.Expr(ast.Name(name, ast.Load()))) for name in names]
    dead = ast.If(ast.Constant(value=0), loads, [])
    node.body.insert(at, ast.fix_missing_locations(ast.copy_location(dead, anchor)))


def _name_class(node: FunctionNode) -> bool:
    """Say `super(<mark>, self)` for `super()` and `<mark>` for `__class__`; False when an inner
    function needs the cell.
    """
    arguments = [*node.args.posonlyargs, *node.args.args]
    if not arguments:
        return False
    named = _NameClass(arguments[0].arg)
    node.body = [cast("ast.stmt", named.visit(part)) for part in node.body]
    return not named.inner


class _NameClass(ast.NodeTransformer):
    def __init__(self, first: str) -> None:
        self.first = first
        self.inner = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            # the name alone would make the compiler ask for the cell
            node.func = _mark(node, _SUPER)
            node.args = [_mark(node), ast.copy_location(ast.Name(self.first, ast.Load()), node)]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _mark(node) if node.id == "__class__" else node

    def _stop(self, node: ast.AST) -> ast.AST:
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        self.inner = self.inner or bool(names & {"super", "__class__"})
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _stop  # noqa: N815
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _stop  # noqa: N815


def _mark(node: ast.AST, mark: str = _MARK) -> ast.expr:
    # `x if 1 else 0` keeps the compiler from folding the mark into its surroundings
    filled = ast.IfExp(ast.Constant(value=True), ast.Constant(mark), ast.Constant(value=0))
    return ast.fix_missing_locations(ast.copy_location(filled, node))
