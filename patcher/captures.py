"""What a function puts into the variables that its inner functions close over, in each version.

A closure that is alive keeps the object its variable had when it was made. Given new code that
counts on something else under the same name, it would be wrong.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.edits import first_line
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.spelling import parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.items import Item

# For each variable of a function the statements that bind it, as text without positions.
Bindings = dict[str, frozenset[str]]
Captures = dict[tuple[str, int], Bindings]
_Inner = FunctionNode | ast.Lambda
_COMPREHENSIONS: Final = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def captures(item: Item) -> Captures:
    """By path and line of each function inside another: what its enclosing functions bind."""
    return dict(_inside(item.node, f"{item.qualname}.<locals>", {}))


def recaptured(old: Bindings, new: Bindings, names: tuple[str, ...]) -> list[str]:
    """Those of `names`, free variables, that are bound to something else: by other statements, or
    by ones that read a variable which is.
    """
    other = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    while True:
        reached = {
            name
            for name, texts in new.items()
            if name not in other and any(f"id='{each}'" in text for each in other for text in texts)
        }
        if not reached:
            return [name for name in names if name in other]
        other |= reached


def _inside(
    node: ast.AST, prefix: str, outer: Bindings
) -> Iterator[tuple[tuple[str, int], Bindings]]:
    own = outer
    if isinstance(node, FunctionNode | ast.Lambda):
        own = {**outer, **_bindings(node)}
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            path = f"{prefix}.{child.name}"
            yield (path, first_line(child)), own
            yield from _inside(child, f"{path}.<locals>", own)
        elif isinstance(child, ast.Lambda):
            path = f"{prefix}.<lambda>"
            yield (path, child.lineno), own
            yield from _inside(child, f"{path}.<locals>", own)
        elif isinstance(child, ast.ClassDef):
            yield from _inside(child, f"{prefix}.{child.name}", own)
        else:
            yield from _inside(child, prefix, own)


def _bindings(node: _Inner) -> Bindings:
    found = {name: {"parameter"} for name in parameters(node)}
    for name, text in _statements(node):
        found.setdefault(name, set()).add(text)
    return {name: frozenset(texts) for name, texts in found.items()}


def _statements(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, text) of what binds variables of a function, below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            made = "|".join(map(ast.dump, [child.args, *child.decorator_list]))
            yield child.name, f"def {made}"
            yield from _rebound(child)
        elif isinstance(child, ast.ClassDef):
            yield child.name, "class"
        elif not isinstance(child, ast.Lambda | _COMPREHENSIONS):
            yield from _bound(child)
            yield from _statements(child)


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:  # noqa: PLR0912 - one clause a kind of statement
    match node:
        case ast.Assign():
            for target in node.targets:
                whole = isinstance(target, ast.Name)
                text = ast.dump(node.value) if whole else ast.dump(node)
                yield from ((name, text) for name in _stored(target))
        case ast.AnnAssign() | ast.NamedExpr():
            if node.value is not None:
                yield from ((name, ast.dump(node.value)) for name in _stored(node.target))
        case ast.AugAssign():
            yield from ((name, ast.dump(node)) for name in _stored(node.target))
        case ast.For() | ast.AsyncFor():
            text = f"for {ast.dump(node.target)} {ast.dump(node.iter)}"
            yield from ((name, text) for name in _stored(node.target))
        case ast.withitem(optional_vars=ast.expr() as target):
            yield from ((name, f"with {ast.dump(node)}") for name in _stored(target))
        case ast.ExceptHandler(name=str() as name):
            yield name, f"except {ast.dump(node.type) if node.type else ''}"
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                where = node.module if isinstance(node, ast.ImportFrom) else ""
                yield name, f"import {where} {alias.name}"
        case ast.match_case():
            for part in ast.walk(node.pattern):
                if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                    yield part.name, f"case {ast.dump(node.pattern)}"
        case _:
            return


def _stored(target: ast.AST) -> Iterator[str]:
    for part in ast.walk(target):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def _rebound(node: FunctionNode) -> Iterator[tuple[str, str]]:
    """What an inner function puts into variables around it; counting one up is no other thing."""
    names = {n for part in ast.walk(node) if isinstance(part, ast.Nonlocal) for n in part.names}
    for part in ast.walk(node) if names else ():
        if isinstance(part, ast.AugAssign):
            continue
        for name, text in _bound(part):
            if name in names and f"id='{name}'" not in text:
                yield name, text
