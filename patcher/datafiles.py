"""A data file that changes is an edit of whatever reads it: of functions that read it at each use,
and against what has kept what it read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.bodyflow import NOWHERE, Keep, says_path
from zdpatch.patcher.dataflow import Flow
from zdpatch.patcher.edits import BODY, Edit
from zdpatch.patcher.instances import count
from zdpatch.patcher.ways import Files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.outline import Item, Outline
    from zdpatch.patcher.source import DataChange

DATA = "data file"  # a facet of functions that read one which changes


@dataclass(frozen=True, eq=False)
class KeptData(Edit):
    """A function keeps what it read of a data file that changes, in the place of `keep`."""

    keep: Keep = NOWHERE

    @property
    def line(self) -> int:
        return self.keep.line


def root_of(path: str, packages: Collection[str]) -> str:
    """The topmost package that holds a file, as a path; "" when none does. `packages`: dotted."""
    parts = path.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        if ".".join(parts[:end]) in packages:
            return "/".join(parts[:end])
    return ""


def files_of(data: Iterable[DataChange], packages: Collection[str]) -> Files:
    """The files that change, and the packages they are in."""
    paths = [each.path for each in data]
    roots = (root_of(path, packages) for path in paths)
    return Files(frozenset(paths), frozenset(roots) - {""})


def followed(
    data: Collection[DataChange], outlines: Mapping[str, Outline], packages: Collection[str]
) -> Flow:
    """Where what is in the files goes, in modules of these outlines."""
    return Flow(outlines, files_of(data, packages)).solve()


def data_edits(
    data: Collection[DataChange], versions: Mapping[str, ModuleVersions], edited: Iterable[Edit]
) -> Iterator[Edit]:
    """The edits that changed data files are; those of functions that `edited` has are left out."""
    bases = {name: each.base.outline for name, each in versions.items() if each.base is not None}
    if not data or not bases:
        return
    packages = {name for name, outline in bases.items() if outline.package}
    flow = followed(data, bases, packages)
    said = _said(data)
    done = {edit.path for edit in edited}
    for (module, _), item in flow.readers.items():
        edit = _function(versions[module], item, said)
        if edit is not None and edit.path not in done:
            yield edit
    for (module, _), item in flow.read.items():
        if item.names:
            yield Edit(module, item.qualname, "stale", (item,), (item,), cause=said)
        else:
            qualname = f"{item.scope}:{item.line}" if item.scope else f":{item.line}"
            yield Edit(module, qualname, "stale", (item,), (item,), cause=said)
    for (module, name), item in flow.readers.items():
        if says_path(item.node):
            why = f"it reads {said} by __path__, which stays as it is"
            keep = Keep(module, name, item.line, "other", "", "")
            items = (item,), (item,)
            yield KeptData(module, name, "kept", *items, detail=why, cause=said, keep=keep)
    for keep in sorted(flow.kept, key=lambda keep: (keep.module, keep.line, keep.what)):
        item = flow.readers[keep.module, keep.qualname]
        yield KeptData(
            keep.module, keep.qualname, "kept", (item,), (item,),
            detail=f"it keeps what it read of {said} in {keep.what}", cause=said, keep=keep,
        )  # fmt: skip


def _said(data: Collection[DataChange]) -> str:
    first = next(iter(data)).path
    return first if len(data) == 1 else f"{first} and {len(data) - 1} more data files"


def _function(each: ModuleVersions, item: Item, said: str) -> Edit | None:
    """A reader that both sides have, as if its body had changed."""
    if each.base is None or each.new is None:
        return None
    binders = each.new.outline.binders(item.scope, item.name)
    twin = next((one for one in binders if one.shape == item.shape), None)
    pair = each.base.code_of(item), None if twin is None else each.new.code_of(twin)
    if twin is None or None in pair:
        return None
    facets = frozenset({BODY, DATA})
    return Edit(
        each.name, item.qualname, "function", (item,), (twin,), facets, pair, cause="", detail=said
    )


def still_kept(keep: Keep, taken: Inventory) -> str:
    """Why something of the old content lives where it is kept; "" when nothing does."""
    if keep.kind in {"variable", "table"}:
        value = taken.namespace.get(keep.name)
        if value is None or (type(value) in _EMPTY and not value):
            return ""
        return f"{keep.name} holds a {type(value).__qualname__}"
    if keep.kind == "object":
        found = count(reach.family(*taken.classes.get(keep.name, [])))
        one = "there is a live instance"
        many = f"there are {found.number} live instances" if found.number else ""
        return one if found.number == 1 else many
    return "whether that is still there cannot be told"


_EMPTY = frozenset({dict, list, set, tuple, frozenset, str, bytes, bytearray})
