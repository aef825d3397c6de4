"""New code is compiled as part of its whole module, so that mangling, nesting and line numbers are right; only free variables may need help."""

from __future__ import annotations

import ast
import copy
from types import CodeType
from typing import cast

from zdpatch.patcher import codes
from zdpatch.patcher.diff import Edit, ModuleVersions, first_line
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.stage import future_flags


def padded(
    each: ModuleVersions, edit: Edit, wanted: tuple[str, ...], filename: str
) -> CodeType | None:
    """The new code of a method with the free variables its live function has; None when it needs others.

    `f.__code__` demands as many free variables as the closure has cells, and reads them by position
    (CPython `func_set_code`, which compares only the number). A method that stops using `super()`
    would lose `__class__`: naming it in dead code keeps the cell, and costs nothing at run time.
    """
    new = edit.codes[1]
    if each.new is None or new is None or not set(new.co_freevars) <= set(wanted) <= {"__class__"}:
        return None
    tree = copy.deepcopy(each.new.outline.tree)
    place = edit.new[-1].node
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode) and (node.lineno, node.col_offset) == (
            place.lineno,
            place.col_offset,
        ):
            _name_in_dead_code(node, wanted)
    code = compile(tree, filename, "exec", flags=future_flags(each.new.outline), dont_inherit=True)
    group = codes.flatten(code).get(edit.qualname, [])
    line = first_line(place)
    found = next((c for c in group if c.co_firstlineno == line), None)
    return found if found is not None and found.co_freevars == wanted else None


def _name_in_dead_code(node: FunctionNode, names: tuple[str, ...]) -> None:
    at = 1 if ast.get_docstring(node, clean=False) is not None else 0
    anchor = node.body[min(at, len(node.body) - 1)]
    loads = [cast(ast.stmt, ast.Expr(ast.Name(name, ast.Load()))) for name in names]
    dead = ast.If(ast.Constant(value=0), loads, [])
    node.body.insert(at, ast.fix_missing_locations(ast.copy_location(dead, anchor)))
