"""Objects made by the old `__init__` lack what only the new one sets; reading it on them would
fail.

Decided from the text: attributes stored on `self` by the new initialiser, by nothing in the base
class
body, and loaded somewhere in the new source of the patch outside that initialiser.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.diff import BODY, Edit, ModuleVersions
from zdpatch.patcher.names import FunctionNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.outline import Item

_INITIALISERS: Final = frozenset(
    {"__init__", "__new__", "__post_init__", "__setstate__", "__attrs_post_init__"}
)


def unfit(versions: Mapping[str, ModuleVersions], edits: Iterable[Edit]) -> list[Edit]:
    """An edit of kind "unfit" for each class whose live instances would lack an attribute that is
    read.
    """
    found: list[Edit] = []
    for edit in edits:
        if not _changes_initialiser(edit):
            continue
        fresh = _fresh(versions[edit.module], edit)
        missing = sorted(fresh & _loaded(versions, edit.new[-1].node))
        if missing:
            names = ", ".join(missing)
            reason = (
                f"only the new {edit.new[-1].name} sets {names}, which is read elsewhere; "
                "objects made before lack it"
            )
            found.append(Edit(edit.module, edit.scope, "unfit", edit.old, edit.new, detail=reason))
    return found


def _changes_initialiser(edit: Edit) -> bool:
    if not edit.new or not edit.scope or edit.new[-1].kind != "function":
        return False
    changed = edit.kind == "added" or (edit.kind == "function" and BODY in edit.facets)
    return changed and edit.new[-1].name in _INITIALISERS


def _fresh(each: ModuleVersions, edit: Edit) -> set[str]:
    assert each.base is not None
    assert each.new is not None
    old = each.base.outline.scopes.get(edit.scope, ())
    known = {name for item in old for name in item.names}
    for item in old:
        known.update(_stored(item))
    # a default on the class serves the instances which lack their own
    known |= {
        n for i in each.new.outline.scopes.get(edit.scope, ()) if i.kind != "field" for n in i.names
    }
    return set(_stored(edit.new[-1])) - known


def _stored(item: Item) -> Iterator[str]:
    """Attributes that a method stores on its first argument, whatever it calls it."""
    if not isinstance(item.node, FunctionNode):
        return
    arguments = [*item.node.args.posonlyargs, *item.node.args.args]
    first = "self" if item.name == "__new__" or not arguments else arguments[0].arg
    for part in ast.walk(item.node):
        if (
            isinstance(part, ast.Attribute)
            and isinstance(part.ctx, ast.Store)
            and isinstance(part.value, ast.Name)
            and part.value.id == first
        ):
            yield part.attr


def _loaded(versions: Mapping[str, ModuleVersions], initialiser: ast.stmt) -> set[str]:
    """Attribute names that the new source of the patch loads from anything, `initialiser` aside."""
    found: set[str] = set()
    for each in versions.values():
        if each.new is None:
            continue
        inside = {id(part) for tree in _same(each, initialiser) for part in ast.walk(tree)}
        for part in ast.walk(each.new.outline.tree):
            if (
                isinstance(part, ast.Attribute)
                and isinstance(part.ctx, ast.Load)
                and id(part) not in inside
            ):
                found.add(part.attr)
    return found


def _same(each: ModuleVersions, node: ast.stmt) -> list[ast.stmt]:
    assert each.new is not None
    return [node] if any(item.node is node for item in each.new.outline.every()) else []
