"""A definition differs by facets: parameters, defaults, decorators, metadata, code."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher import codes
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    BODY,
    DECORATORS,
    DEFAULTS,
    DOCSTRING,
    KIND,
    KIND_FLAGS,
    POSTPONED,
    SIGNATURE,
    TYPE_PARAMS,
    Edit,
)  # fmt: skip
from zdpatch.patcher.generics import params_of
from zdpatch.patcher.names import FunctionNode, annotations_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from zdpatch.patcher.items import Item


def function_facets(
    old: Item, new: Item, old_code: CodeType | None, new_code: CodeType | None
) -> frozenset[str]:
    """Which facets of a definition differ between two items of kind function."""
    before, after = old.node, new.node
    assert isinstance(before, FunctionNode)
    assert isinstance(after, FunctionNode)
    facets: set[str] = set()
    if dumps(before.decorator_list) != dumps(after.decorator_list):
        facets.add(DECORATORS)
    if signature_shape(before) != signature_shape(after):
        facets.add(SIGNATURE)
    if default_shapes(before) != default_shapes(after):
        facets.add(DEFAULTS)
    if _annotation_shape(before) != _annotation_shape(after):
        facets.add(ANNOTATIONS)
    elif old.lazy_annotations != new.lazy_annotations and annotations_of(after):
        facets.add(POSTPONED)
    if dumps(params_of(before)) != dumps(params_of(after)):
        facets |= {TYPE_PARAMS, ANNOTATIONS}
    if ast.get_docstring(before, clean=False) != ast.get_docstring(after, clean=False):
        facets.add(DOCSTRING)
    if old_code is None or new_code is None:
        if old_code is not new_code:
            facets.add(BODY)
    elif codes.digest(old_code) != codes.digest(new_code):
        facets.add(BODY)
        if (old_code.co_flags ^ new_code.co_flags) & KIND_FLAGS:
            facets.add(KIND)
    return frozenset(facets)


def dumps(nodes: Iterable[ast.AST]) -> list[str]:
    """What syntax trees say, without positions."""
    return [ast.dump(node) for node in nodes]


def _annotation_shape(node: FunctionNode) -> dict[str, str]:
    return {name: ast.dump(each) for name, each in annotations_of(node).items()}


def signature_shape(node: FunctionNode) -> tuple[object, ...]:
    """The parameters by kind and name, and which of them have a default."""
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    return (
        tuple(positional),
        len(args.posonlyargs),
        args.vararg.arg if args.vararg else None,
        tuple(each.arg for each in args.kwonlyargs),
        args.kwarg.arg if args.kwarg else None,
        len(args.defaults),
        tuple(each is not None for each in args.kw_defaults),
    )


def defaults(node: FunctionNode) -> dict[str, ast.expr]:
    """Default expressions by parameter name."""
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    found = dict(
        zip(positional[len(positional) - len(args.defaults) :], args.defaults, strict=True)
    )
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return found | {each.arg: value for each, value in pairs if value is not None}


def changed_defaults(edit: Edit) -> frozenset[str]:
    """Parameters whose default must be evaluated: its text differs, it is new, or it reads a
    changed name.
    """
    if not edit.facets & {DEFAULTS, SIGNATURE}:
        return frozenset()
    before, after = (default_shapes(_function_node(each[-1])) for each in (edit.old, edit.new))
    return edit.stale | {name for name, shape in after.items() if before.get(name) != shape}


def _function_node(item: Item) -> FunctionNode:
    assert isinstance(item.node, FunctionNode)
    return item.node


def default_shapes(node: FunctionNode) -> dict[str, str]:
    return {name: ast.dump(value) for name, value in defaults(node).items()}
