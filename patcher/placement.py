"""A statement is evaluated out of its place: what it reads must have one value, and by then."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.items import Item


def ill_placed(edit: Edit, each: ModuleVersions) -> tuple[str, str] | None:
    """(row, reason) why the new statements of an edit cannot be evaluated; None when they can.

    A name that the module binds several times may have had another value where the statement
    stands; one that is bound only further down makes a source which cannot be imported.
    """
    if each.new is None:
        return None
    for item in edit.new:
        for read in sorted(item.reads):
            root = read.partition(".")[0]
            if root in item.names or (item.scope and each.new.outline.binders(item.scope, root)):
                continue
            binders = each.new.outline.binders("", root)
            values = [binder for binder in binders if binder.kind == "value"]
            if len(values) > 1 and item.line < values[-1].line:
                return "M", f"it reads {root}, which the module binds several times"
            if binders and _later(item, binders, each) and not hasattr(builtins, root):
                return "X", f"it reads {root} before it is defined: the source cannot be imported"
    return None


def _later(item: Item, binders: list[Item], each: ModuleVersions) -> bool:
    """Whether every statement that binds a name comes after `item`, at the same level."""
    assert each.new is not None
    starred = any(other.kind in {"star", "effect"} for other in each.new.outline.items)
    return not starred and all(binder.line > item.line for binder in binders)
