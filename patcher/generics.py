"""Type parameters (PEP 695) stand in hidden scopes: what is compiled alone gets the very objects
that the live definition has.

A statement of `class C[T]` sees `T` through a closure; compiled again it is put into the same
nesting, and its cells are filled with the parameters of the live class.
"""

from __future__ import annotations

import ast
import copy
import sys
from types import CellType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    from zdpatch.patcher.outline import Outline

_PARAMS = ".type_params"  # how CPython names the variable that holds all of them


def params_of(node: ast.AST) -> list[Any]:
    """The type parameters of a definition: syntax nodes; none before Python 3.12."""
    return list(getattr(node, "type_params", ()))


def param_names(node: ast.AST) -> frozenset[str]:
    return frozenset(param.name for param in params_of(node))


def is_alias(node: ast.AST) -> bool:
    """Whether it is a `type` statement, whose value is evaluated when it is asked for."""
    return type(node).__name__ == "TypeAlias"


def nest(statement: ast.stmt, scope: str, outline: Outline | None) -> ast.Module:
    """A module with the class statements of `scope` round a statement, so that its names, its
    qualified name and its free variables are what they are in the whole source.
    """
    names = scope.split(".") if scope else []
    for depth in range(len(names), 0, -1):
        body, name = statement, names[depth - 1]
        params = [] if outline is None else _class_params(outline, ".".join(names[:depth]))
        statement = ast.ClassDef(name=name, bases=[], keywords=[], body=[body], decorator_list=[])
        if sys.version_info >= (3, 12):
            statement.type_params = params
        ast.copy_location(statement, body)
    return ast.fix_missing_locations(ast.Module([statement], []))


def _class_params(outline: Outline, scope: str) -> list[Any]:
    found = [i for i in outline.every() if i.kind == "class" and i.qualname == scope]
    return copy.deepcopy(params_of(found[-1].node)) if found else []


def held(definitions: Iterable[object]) -> dict[str, object]:
    """The live type parameters of definitions, outer before inner, by name as code sees them."""
    found: dict[str, object] = {}
    for each in definitions:
        params = cast("tuple[Any, ...]", getattr(each, "__type_params__", ()))
        found |= {param.__name__: param for param in params}
        found[_PARAMS] = params
    return found


def cells(code: CodeType, values: Mapping[str, object]) -> tuple[CellType, ...] | None:
    """A closure for `code`; None when it needs none. Raises KeyError for what nobody has."""
    return tuple(CellType(values[name]) for name in code.co_freevars) or None
