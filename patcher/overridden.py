"""What somebody made a live function say of itself at run time is not overwritten without a word.

A docstring that is not the base's stays, and is told; an annotation that is not the base's stays
where the patch does not change it, and is a conflict where it does, as a default is.
"""

from __future__ import annotations

import ast
from types import CellType, FunctionType, GenericAlias, UnionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.edits import TYPE_PARAMS, Edit
from zdpatch.patcher.names import annotations_of, mangled
from zdpatch.patcher.remade import remade
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.names import FunctionNode
    from zdpatch.patcher.stage import Stage

_ALIASES: Final = frozenset({GenericAlias, UnionType})
# An annotation of these alone gives the same again, and asks nobody.
_NAMING: Final = (
    ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp,
    ast.BitOr, ast.expr_context,
)  # fmt: skip


def own_docstring(function: FunctionType, edit: Edit, new: str | None) -> bool:
    """Whether a live function has another docstring than the base gives it, and than `new`."""
    code = edit.codes[0]
    present = function.__doc__
    return code is not None and not same(present, _written(code)) and not same(present, new)


def _written(code: CodeType) -> str | None:
    """The docstring of a function that is made of `code`."""
    closure = tuple(CellType() for _ in code.co_freevars)
    return FunctionType(code, {}, None, None, closure).__doc__


def merged_annotations(
    function: FunctionType,
    new: dict[str, object],
    edit: Edit,
    stage: Stage,
    params: Iterable[object] = (),
) -> dict[str, object] | str:
    """The annotations that a live function gets: `new`, and what was set at run time where the
    patch changes nothing; the parameter to blame when it does.
    """
    before, after = (_named(side[-1]) for side in (edit.old, edit.new))
    live = cast("dict[str, object]", function.__annotations__)
    given = _base(before, edit, stage, params)
    own = {name for name in live.keys() | before.keys() if _differs(name, live, before, given)}
    changed = {name for name in before.keys() | after.keys() if _changed(name, before, after)}
    if edit.cause or TYPE_PARAMS in edit.facets:
        changed = before.keys() | after.keys()
    if own & changed:
        return min(own & changed)
    kept = {name: live[name] for name in live if name in own}
    return {n: kept.get(n, v) for n, v in new.items() if n in kept or n not in own} | kept


def _named(item: Item) -> dict[str, ast.expr]:
    """The annotations of a definition by the names that its function has them under."""
    found = annotations_of(cast("FunctionNode", item.node))
    return {mangled(item.scope, name): each for name, each in found.items()}


def _changed(name: str, before: Mapping[str, ast.expr], after: Mapping[str, ast.expr]) -> bool:
    both = name in before and name in after
    return not both or ast.dump(before[name]) != ast.dump(after[name])


def _base(
    written: Mapping[str, ast.expr], edit: Edit, stage: Stage, params: Iterable[object]
) -> dict[str, object]:
    """What the base's annotations give, of those that only name things."""
    plain = [e for e in written.values() if all(isinstance(p, _NAMING) for p in ast.walk(e))]
    try:
        made = remade(stage, edit, params, new=False, annotated=plain)
    except (Exception, SystemExit):  # noqa: BLE001 - names that it reads may be gone
        return {}
    return cast("dict[str, object]", made.__annotations__)


def _differs(
    name: str,
    live: Mapping[str, object],
    written: Mapping[str, ast.expr],
    given: Mapping[str, object],
) -> bool:
    """Whether an annotation is surely another than the base gives."""
    if name not in live or name not in written:
        return True
    if name not in given or same(live[name], given[name]):
        return False
    mine, base = live[name], given[name]
    made = any(isinstance(part, ast.Subscript | ast.BinOp) for part in ast.walk(written[name]))
    if type(mine) is not type(base) or not made:
        return True
    # what a class of the application makes of `C[x]` may be another object each time
    return type(mine) in _ALIASES or type(mine).__module__ == "typing"
