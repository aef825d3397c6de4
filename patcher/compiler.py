"""New code is compiled as part of its whole module, so that mangling, nesting and line numbers are
right; only free variables may need help.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes
from zdpatch.patcher.generics import nest
from zdpatch.patcher.newcomers import future_flags

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.names import FunctionNode

_MARK: Final = "\0zdpatch:name:"
_SUPER: Final = "\0zdpatch:super"


def fitted(
    each: ModuleVersions, edit: Edit, held: tuple[str, ...], known: Mapping[str, object]
) -> CodeType | None:
    """The new code of a definition with the free variables that its live function holds; None when
    that cannot be.

    `f.__code__` demands as many free variables as the closure has cells, and reads them by position
    (CPython `func_set_code`, which compares only the number). A method that stops using `super()`
    loses `__class__`: naming it in dead code keeps the cell, and costs nothing at run time. One
    that starts to use it gets its class as a constant. So it is with type parameters. `known` has
    what the live definition would find under such names.
    """
    new = edit.codes[1]
    if each.new is None or new is None:
        return None
    surplus = {*held} - {*new.co_freevars}
    missing = {*new.co_freevars} - {*held}
    if not surplus | missing <= {"__class__", *known}:
        return None
    node = copy.deepcopy(cast("FunctionNode", edit.new[-1].node))
    if missing and not (missing <= known.keys() and _name_constants(node, missing)):
        return None
    if surplus:
        _name_in_dead_code(node, tuple(sorted(surplus)))
    code = _in_place(each, edit, node, new.co_filename)
    if code is not None and missing:
        real: dict[object, object] = {f"{_MARK}{name}": known[name] for name in missing}
        real[_SUPER] = super
        constants = (real.get(v, v) if type(v) is str else v for v in code.co_consts)
        code = code.replace(co_consts=tuple(constants))
    return code if code is not None and code.co_freevars == held else None


def _in_place(
    each: ModuleVersions, edit: Edit, node: FunctionNode, filename: str
) -> CodeType | None:
    """The code of a changed definition, compiled in the nesting of classes it stands in."""
    assert each.new is not None
    tree = nest(node, edit.scope, each.new.outline)
    flags = future_flags(each.new.outline)
    code = compile(tree, filename, "exec", flags=flags, dont_inherit=True)
    return next(iter(codes.flatten(code).get(edit.qualname, [])), None)


def _name_in_dead_code(node: FunctionNode, names: tuple[str, ...]) -> None:
    at = 1 if ast.get_docstring(node, clean=False) is not None else 0
    anchor = node.body[min(at, len(node.body) - 1)]
    loads = [cast("ast.stmt", ast.Expr(ast.Name(name, ast.Load()))) for name in names]
    dead = ast.If(ast.Constant(value=0), loads, [])
    node.body.insert(at, ast.fix_missing_locations(ast.copy_location(dead, anchor)))


def _name_constants(node: FunctionNode, names: set[str]) -> bool:
    """Say `<mark>` for each of `names`, and `super(<mark>, self)` for `super()` when `__class__` is
    one; False when an inner function needs a cell.
    """
    arguments = [*node.args.posonlyargs, *node.args.args]
    if not arguments and "__class__" in names:
        return False
    named = _NameConstants(arguments[0].arg if arguments else "", names)
    node.body = [cast("ast.stmt", named.visit(part)) for part in node.body]
    return not named.inner


class _NameConstants(ast.NodeTransformer):
    def __init__(self, first: str, names: set[str]) -> None:
        self.first = first
        self.names = names
        self.inner = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        plain = isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args
        if plain and "__class__" in self.names:
            # the name alone would make the compiler ask for the cell
            node.func = _mark(node, _SUPER)
            mark = _mark(node, f"{_MARK}__class__")
            node.args = [mark, ast.copy_location(ast.Name(self.first, ast.Load()), node)]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _mark(node, f"{_MARK}{node.id}") if node.id in self.names else node

    def _stop(self, node: ast.AST) -> ast.AST:
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        wanted = self.names | ({"super"} if "__class__" in self.names else set[str]())
        self.inner = self.inner or bool(names & wanted)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _stop  # noqa: N815
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _stop  # noqa: N815


def _mark(node: ast.AST, mark: str) -> ast.expr:
    # `x if 1 else 0` keeps the compiler from folding the mark into its surroundings
    filled = ast.IfExp(ast.Constant(value=True), ast.Constant(mark), ast.Constant(value=0))
    return ast.fix_missing_locations(ast.copy_location(filled, node))
