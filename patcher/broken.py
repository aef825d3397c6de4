"""A statement that reads a name which goes cannot run again: the module it is in would not be
imported any more, at the next restart.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.importers import importers, source_of
from zdpatch.patcher.names import uses
from zdpatch.patcher.spread import stale_in, stale_reads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.texts import Texts


def failing(going: Mapping[Name, str], versions: Mapping[str, ModuleVersions]) -> Iterator[Edit]:
    """Statements of the patch's modules, imported here or not, which cannot run any more."""
    for edit in stale_reads(versions, going, ()) if going else ():
        if _fails(edit, versions):
            yield edit


def failing_outside(
    going: Mapping[Name, str], versions: Mapping[str, ModuleVersions], texts: Texts
) -> Iterator[tuple[Edit, bool]]:
    """The same for loaded modules that are not in the patch, and whether they are in a package of
    the patch, and surely run what their source says.
    """
    words = {path.encode() for _, path in going}
    packages = {name.partition(".")[0] for name in versions}
    for module in importers({name for name, _ in going}) if going else ():
        name, source = reach.namespace(module).get("__name__"), source_of(module)
        if type(name) is not str or name in versions or source is None:
            continue
        if not any(word in source for word in words):
            continue
        if (each := texts.as_it_is(name, module, source)) is None or each.base is None:
            continue
        own = name.partition(".")[0] in packages
        own = own and not inventory.drift(inventory.take(module, heap=False), each.base.written)
        every = {**versions, name: each}
        for edit in stale_in(each, every, going):
            if _fails(edit, every):
                yield edit, own


def _fails(edit: Edit, versions: Mapping[str, ModuleVersions]) -> bool:
    item = edit.new[-1]
    source, _, name = edit.cause.partition(":")
    if item.kind == "star" or name in vars(builtins):
        return False  # it takes what there is
    if isinstance(item.node, ast.Try):
        return False
    each = versions.get(source)
    new = each.new if each is not None and edit.module != source else None
    if new is not None and new.outline.binders("", "__getattr__"):
        return False  # it may give the name when asked
    return not isinstance(item.node, ast.If) or name in uses(item.node.test).reads
