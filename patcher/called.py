"""What of a changed function differs when it is called, and when what it gives back decorates: code
of functions that it only makes does not run then (see `deferred`).
"""

from __future__ import annotations

import ast
from types import CodeType
from typing import TYPE_CHECKING

from zdpatch.patcher import codes
from zdpatch.patcher.deferred import Inner, called_inner, given_back, kept_inner
from zdpatch.patcher.edits import (
    BODY,
    DEFAULTS,
    DOCSTRING,
    SIGNATURE,
    Edit,
    ModuleVersions,
    first_line,
)
from zdpatch.patcher.facets import changed_defaults, defaults
from zdpatch.patcher.hints import bare_body
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.nested import alone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from zdpatch.patcher.items import Item

_Side = tuple[CodeType, FunctionNode | ast.Lambda, "Mapping[str, str]"]


def runs_otherwise(edit: Edit, versions: Mapping[str, ModuleVersions]) -> bool:
    """Whether a call of the function itself may do something else."""
    sides = _sides(edit, versions)
    return sides is None or (_run(*sides[0]) != _run(*sides[1]) and not _only_hints(sides))


def does_otherwise(edit: Edit) -> bool:
    """Whether the code of a function, or of what it makes, differs in more than the docstring."""
    old, new = edit.codes
    if BODY not in edit.facets or DOCSTRING not in edit.facets or old is None or new is None:
        return BODY in edit.facets
    if not all(code.co_consts and type(code.co_consts[0]) is str for code in (old, new)):
        return True
    bare = (code.replace(co_consts=(None, *code.co_consts[1:])) for code in (old, new))
    return len({codes.digest(code) for code in bare}) > 1


def defaults_taken(edit: Edit) -> frozenset[str]:
    """Parameters whose default was another: calls that leave them out got that."""
    before = {name for item in edit.old[-1:] for name in defaults(_definition(item))}
    return changed_defaults(edit) & before


def takes_otherwise(edit: Edit) -> bool:
    """Whether a call that leaves a parameter out gets another default."""
    return bool(edit.facets & {DEFAULTS, SIGNATURE}) and bool(defaults_taken(edit))


def _definition(item: Item) -> FunctionNode:
    assert isinstance(item.node, FunctionNode)
    return item.node


def _only_hints(sides: tuple[_Side, _Side]) -> bool:
    """Whether the two differ, when they are called, in nothing but what type checkers read."""
    (_, before, old), (_, after, new) = sides
    return bare_body(before, old) == bare_body(after, new)


def surely_runs_otherwise(edit: Edit, versions: Mapping[str, ModuleVersions]) -> bool:
    """Whether a call does something else by its own code, or by a function in it that it calls."""
    old, new = edit.codes
    if old is None or new is None:
        return False
    nodes = edit.old[-1].node, edit.new[-1].node
    if not isinstance(nodes[0], FunctionNode) or not isinstance(nodes[1], FunctionNode):
        return alone(old) != alone(new)
    sides = _sides(edit, versions)
    hints = sides is not None and _only_hints(sides)
    return _sure(old, nodes[0]) != _sure(new, nodes[1]) and not hints


def decorates_otherwise(edit: Edit) -> bool:
    """Whether what a call gives back may do something else when it is called."""
    old, new = edit.codes
    nodes = edit.old[-1].node, edit.new[-1].node
    if old is None or new is None:
        return False
    if not isinstance(nodes[0], FunctionNode) or not isinstance(nodes[1], FunctionNode):
        return False
    return _given(old, nodes[0]) != _given(new, nodes[1])


def _sides(edit: Edit, versions: Mapping[str, ModuleVersions]) -> tuple[_Side, _Side] | None:
    old, new = edit.codes
    each = versions.get(edit.module)
    if old is None or new is None or each is None or each.base is None or each.new is None:
        return None
    before, after = edit.old[-1].node, edit.new[-1].node
    if not isinstance(before, FunctionNode) or not isinstance(after, FunctionNode):
        return None
    return (
        (old, before, each.base.outline.keepers),
        (new, after, each.new.outline.keepers),
    )


def _run(code: CodeType, node: Inner, imports: Mapping[str, str]) -> list[bytes]:
    """Digests of what may run: all but the functions that are only made."""
    if not _makes_functions(code):
        return [alone(code)]
    kept = kept_inner(node, imports)
    every = [part for part in ast.walk(node) if isinstance(part, Inner) and part is not node]
    quiet = {_place(inner) for inner in kept} - {_place(i) for i in every if i not in kept}
    inside = (
        codes.digest(each)
        for each in codes.functions_in(code)
        if (each.co_name, each.co_firstlineno) not in quiet
    )
    return [alone(code), *inside]


def _sure(code: CodeType, node: Inner) -> list[bytes]:
    inside = _makes_functions(code)
    called = {_place(inner) for inner in called_inner(node)} if inside else set[tuple[str, int]]()
    return [alone(code), *(codes.digest(each) for each, _ in _at(code, called))]


def _given(code: CodeType, node: Inner) -> list[list[bytes]]:
    if not _makes_functions(code):
        return []
    given = {_place(inner): inner for inner in given_back(node)}
    return [_sure(each, given[place]) for each, place in _at(code, given)]


def _at(
    code: CodeType, places: Collection[tuple[str, int]]
) -> Iterator[tuple[CodeType, tuple[str, int]]]:
    for each in codes.functions_in(code):
        place = each.co_name, each.co_firstlineno
        if place in places:
            yield each, place


def _makes_functions(code: CodeType) -> bool:
    return next(codes.functions_in(code), None) is not None


def _place(node: Inner) -> tuple[str, int]:
    """Name and first line, as the code has them."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, first_line(node)
