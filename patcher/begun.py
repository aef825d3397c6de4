"""A module that is still being executed has run its statements up to the line that it is at.

So it is with the started program, whose last statement serves for as long as the process lives:
what stands behind that has not run, and will see what is there by then.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.patcher import codes, reach
from zdpatch.patcher.inflight import current_frames

if TYPE_CHECKING:
    from types import FrameType, ModuleType

    from zdpatch.patcher.edits import ModuleVersions, Version
    from zdpatch.patcher.items import Item


def so_far(each: ModuleVersions, module: ModuleType) -> ModuleVersions:
    """A module that both sides have alike, without the statements that have not run yet."""
    assert each.base is not None
    line = _line(each.base, module)
    if line is None:
        return each
    outline = each.base.outline
    begun = [item for item in outline.items if item.line <= line]
    begun[-1:] = map(_unfinished, begun[-1:])
    side = each.base.read_as(replace(outline, items=tuple(begun)))
    return replace(each, base=side, new=side)


def _unfinished(item: Item) -> Item:
    """A statement that is at work: of a call that is not over, what it was given."""
    node = item.node
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return item
    call = node.value
    given = [call.func, *call.args, *(word.value for word in call.keywords)]
    return replace(item, node=ast.copy_location(ast.Expr(ast.Tuple(given, ast.Load())), node))


def _line(version: Version, module: ModuleType) -> int | None:
    """Where a module's own code is now; None when no thread runs it."""
    space, found = reach.namespace(module), None
    tops = current_frames()
    while tops and found is None:
        # The frame of this very call must not stay in its own variables: it would hold itself.
        frame: FrameType | None = tops.popitem()[1]
        while frame is not None and found is None:
            own = frame.f_globals is space and frame.f_code.co_name == "<module>"
            if own and codes.digest(frame.f_code) == codes.digest(version.code):
                found = frame.f_lineno
            frame = frame.f_back
    tops.clear()
    return found
