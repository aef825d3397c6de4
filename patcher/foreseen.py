"""What may change, because it reads what changes, is evaluated in front of who reads it as well.

Statements are found to be stale in rounds, by what the round before gave. One that reads two names,
of which one is further from the change, would be evaluated with the other's new value alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher.spread import Name, absolute_source, meanings, split, stale_reads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zdpatch.patcher.edits import Edit, ModuleVersions


def foreseen(
    versions: Mapping[str, ModuleVersions], changed: Mapping[Name, str], done: Sequence[Edit]
) -> dict[Name, Edit]:
    """Edits of the values that may come to read something of `changed`, by name; not of `done`."""
    names = dict(changed)
    found: dict[Name, Edit] = {}
    while True:
        stale = stale_reads(versions, names, [*done, *found.values()])
        fresh = {(e.module, e.qualname): e for e in stale if e.kind == "value"}
        fresh = {name: edit for name, edit in fresh.items() if name not in found}
        if not fresh:
            return found
        found |= fresh
        names |= {name: edit.path for name, edit in fresh.items()}


def dependencies(edit: Edit, versions: Mapping[str, ModuleVersions]) -> Iterator[Name]:
    """What the new statements of an edit may read when they run; what they bind is left out."""
    side = versions[edit.module].new
    own = {(edit.module, f"{i.scope}.{n}" if i.scope else n) for i in edit.new for n in i.names}
    for item in edit.new if side is not None else ():
        assert side is not None
        names: list[Name] = []
        if item.kind == "import":
            names += split(item.source, versions)
        for source in item.imported:
            names += split(absolute_source(source, side.outline), versions)
        for read in item.reads:
            names += meanings(side.outline, item.scope, read, versions)
        yield from (name for name in names if name not in own)
