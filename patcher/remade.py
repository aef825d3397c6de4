"""The function of an edit is made again beside the live one, to read what the edit changes."""

from __future__ import annotations

import ast
import copy
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from zdpatch.patcher.edits import ANNOTATIONS, POSTPONED, TYPE_PARAMS, Edit
from zdpatch.patcher.evaluate import Find, run
from zdpatch.patcher.facets import changed_defaults
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import mangled
from zdpatch.patcher.stage import Stage, knowing, nothing_new

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zdpatch.patcher.names import FunctionNode


def remade(
    stage: Stage,
    edit: Edit,
    params: Iterable[Any] = (),
    *,
    new: bool,
    annotated: Iterable[ast.expr] = (),
) -> FunctionType:
    """The function of an edit made again without its decorators, to read defaults,
    annotations and type parameters from.

    Only default expressions which the edit changes are evaluated; the others are None in it.
    `params` are the live type parameters: annotations name these where they are unchanged.
    `annotated`: the annotations of the old side that it has.
    """
    item = (edit.new if new else edit.old)[-1]
    kept = {(each.lineno, each.col_offset) for each in annotated}
    node = copy.deepcopy(cast("FunctionNode", item.node))
    node.decorator_list = []
    changed = changed_defaults(edit)
    _blank(node.args, changed)
    if not edit.facets & {ANNOTATIONS, POSTPONED} or not new:
        _strip_annotations(node, kept)
    twin = Item("function", item.scope, item.names, node)
    finder: Find = stage.find if new else nothing_new
    if TYPE_PARAMS not in edit.facets or not new:
        finder = knowing({param.__name__: param for param in params}, finder)
        if sys.version_info >= (3, 12):
            node.type_params = []
    made = run([twin], stage.place(edit, new=new), finder)[mangled(item.scope, item.name)]
    assert isinstance(made, FunctionType)
    return made


def _blank(arguments: ast.arguments, keep: frozenset[str]) -> None:
    positional = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
    named = positional[len(positional) - len(arguments.defaults) :]
    blank = ast.Constant(None)
    arguments.defaults = [
        value if name in keep else ast.copy_location(copy.copy(blank), value)
        for name, value in zip(named, arguments.defaults, strict=True)
    ]
    arguments.kw_defaults = [
        value if value is None or each.arg in keep else ast.copy_location(copy.copy(blank), value)
        for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]


def _strip_annotations(node: FunctionNode, kept: set[tuple[int, int]]) -> None:
    """Take away the annotations that do not begin at one of these places."""
    for part in ast.walk(node.args):
        if isinstance(part, ast.arg) and _place(part.annotation) not in kept:
            part.annotation = None
    node.returns = node.returns if _place(node.returns) in kept else None


def _place(node: ast.expr | None) -> tuple[int, int]:
    return (0, 0) if node is None else (node.lineno, node.col_offset)
