"""A star import that comes, goes or changes is read as imports of the names it takes, where the
patch has the source that it takes them from, with a literal `__all__`.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.patcher.items import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zdpatch.patcher.edits import ModuleVersions, Version
    from zdpatch.patcher.outline import Outline


def with_known_stars(versions: Mapping[str, ModuleVersions]) -> dict[str, ModuleVersions]:
    """The versions, with the star imports that only one side has read as imports of names."""
    found: dict[str, ModuleVersions] = {}
    for name, each in versions.items():
        found[name] = each
        if each.base is None or each.new is None or each.change.base == each.change.new:
            continue
        old, new = (_shapes(side.outline) for side in (each.base, each.new))
        if old == new:
            continue
        found[name] = replace(
            each,
            base=_read(each.base, old - new, lambda source: _side(versions, source, new=False)),
            new=_read(each.new, new - old, lambda source: _side(versions, source, new=True)),
        )
    return found


def _shapes(outline: Outline) -> set[str]:
    return {item.shape for item in outline.items if item.kind == "star"}


def _side(versions: Mapping[str, ModuleVersions], source: str, *, new: bool) -> Outline | None:
    each = versions.get(source)
    side = None if each is None else each.new if new else each.base
    return None if side is None else side.outline


def _read(version: Version, only: set[str], source: Callable[[str], Outline | None]) -> Version:
    outline = version.outline
    items: list[Item] = []
    imports = dict(outline.imports)
    for item in outline.items:
        taken = source(item.source) if item.kind == "star" and item.shape in only else None
        names = None if taken is None else _listed(taken)
        if names is None:
            items.append(item)
            continue
        for name in sorted(names):
            items.append(_named(item, name))
            imports[name] = items[-1].source
    return version.read_as(replace(outline, items=tuple(items), imports=imports))


def _listed(source: Outline) -> frozenset[str] | None:
    """The names of a literal `__all__` that nothing but its own statements touches."""
    own = source.binders("", "__all__")
    grown = all(isinstance(item.node, ast.AugAssign) for item in own[1:])
    touched = any(
        "__all__" in (item.global_names if item.kind == "function" else item.reads)
        for item in source.every()
        if item not in own
    )
    return source.exported if grown and not touched else None


def _named(star: Item, name: str) -> Item:
    assert isinstance(star.node, ast.ImportFrom)
    node = ast.ImportFrom(star.node.module, [ast.alias(name)], star.node.level)
    node = ast.fix_missing_locations(ast.copy_location(node, star.node))
    return Item("import", "", (name,), node, source=f"{star.source}.{name}")
