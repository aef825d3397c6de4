"""Functions that a module calls out of its tables (`for h in HOOKS: h(f)`): anybody may have put
them there, so the imports of the module do not lead to them; its live tables do.
"""

from __future__ import annotations

import ast
import gc
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TABLES: Final[frozenset[type]] = frozenset({dict, list, tuple, set, frozenset, deque})
_DEEP: Final = 3  # a table of tables of pairs
_TAKE: Final = frozenset({"get", "pop", "popleft", "popitem", "values", "items", "setdefault"})


def called_tables(tree: ast.AST) -> frozenset[str]:
    """Names and attributes that stand for a table out of which something is called."""
    sources: dict[str, set[str]] = {}
    called = set[str]()
    for node in ast.walk(tree):
        for target, value in _bindings(node):
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    sources.setdefault(part.id, set()).update(_tables(value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            func = node.func
            called |= sources.get(func.id, set()) if isinstance(func, ast.Name) else set()
            called |= set(_tables(func)) if isinstance(func, ast.Subscript | ast.Call) else set()
    return frozenset(called)


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets that are bound to what comes out of an expression."""
    if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        yield node.target, node.iter
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.Call):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.NamedExpr):
        yield node.target, node.value


def _tables(node: ast.expr) -> Iterator[str]:
    """What an expression takes something out of, by its last name."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Subscript):
        yield from _tables(node.value)
    elif isinstance(node, ast.Call):
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr in _TAKE:
            yield from _tables(func.value)
        else:  # reversed, sorted, list, enumerate
            for each in node.args:
                yield from _tables(each)


def callables_in(spaces: Iterable[dict[str, object]], names: Iterable[str]) -> Iterator[object]:
    """What can be called of the tables that have one of the names in one of the namespaces."""
    for space in spaces:
        for name in names:
            table = space.get(name)
            yield from _inside(table, _DEEP) if type(table) in _TABLES else ()


def _inside(value: object, depth: int) -> Iterator[object]:
    if type(value) in _TABLES:
        for each in gc.get_referents(value) if depth else ():
            yield from _inside(each, depth - 1)
    elif callable(value):
        yield value


def holds_callables(value: object) -> bool:
    """Whether a table has something that can be called."""
    return type(value) in _TABLES and next(_inside(value, _DEEP), None) is not None
