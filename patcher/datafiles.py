"""A data file that changes is an edit of whatever reads it: of functions that read it at each use,
and against what has kept what it read.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.bodyflow import NO_KEEP, Keep, says_path
from zdpatch.patcher.dataflow import Flow
from zdpatch.patcher.edits import BODY, Edit
from zdpatch.patcher.instances import count
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.ways import Files

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.source import DataChange

DATA = "data file"  # a facet of functions that read one which changes


@dataclass(frozen=True, eq=False)
class KeptData(Edit):
    """A function keeps what it read of a data file that changes, in the place of `keep`."""

    keep: Keep = NO_KEEP

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
    data: Collection[DataChange],
    versions: Mapping[str, ModuleVersions],
    edited: Iterable[Edit],
    loaded: Container[str] | None = None,
) -> Iterator[Edit]:
    """The edits that changed data files are; those of functions that `edited` has are left out.

    `loaded`: modules that are there; what others would do when they are imported is left out,
    unless it would go wrong. None: all of them.
    """
    bases = {name: each.base.outline for name, each in versions.items() if each.base is not None}
    if not data or not bases:
        return
    packages = {name for name, outline in bases.items() if outline.package}
    flow = followed(data, bases, packages)
    found = _Found(flow, versions, said(data), {edit.path for edit in edited})
    for edit in (*found.functions(), *found.read(), *found.kept(), *found.unfollowed(data)):
        if loaded is None or edit.module in loaded:
            yield edit
    yield from found.high(loaded)


@dataclass(frozen=True)
class _Found:
    """What a flow found, as edits."""

    flow: Flow
    versions: Mapping[str, ModuleVersions]
    file: str
    done: set[str]

    def functions(self) -> Iterator[Edit]:
        """Functions that read a file, as if their bodies had changed."""
        for (module, _), item in self.flow.readers.items():
            edit = _function(self.versions[module], item, self.file)
            if edit is not None and edit.path not in self.done:
                yield edit

    def read(self) -> Iterator[Edit]:
        """Statements that read a file when they ran."""
        for (module, _), item in self.flow.read.items():
            yield Edit(module, _path(item), "stale", (item,), (item,), cause=self.file)

    def kept(self) -> Iterator[Edit]:
        """Places where what was read is kept."""
        for (module, _), item in self.flow.readers.items():
            if says_path(item.node):
                yield self._against(module, item, "by its place on disk, which stays as it is")
        for keep in sorted(self.flow.kept, key=lambda keep: (keep.module, keep.line, keep.what)):
            items = [*self.flow.outlines[keep.module].every()]
            item = next(item for item in items if item.qualname == keep.qualname)
            why = f"it keeps what it read of {self.file} in {keep.what}"
            yield self._edit(keep, item, why)

    def unfollowed(self, data: Collection[DataChange]) -> Iterator[Edit]:
        """Statements that name a file in a way which is not followed."""
        names = {each.path.rpartition("/")[2] for each in data if each.base is not None}
        for module, outline in self.flow.outlines.items():
            for item in outline.every():
                if not isinstance(item.node, ast.ClassDef) and self._names(item.node, names):
                    yield self._against(module, item, "in a way that is not followed")

    def _names(self, node: ast.AST, names: set[str]) -> bool:
        whole = getattr(node, "value", None)
        targets = [each.id for each in getattr(node, "targets", ()) if isinstance(each, ast.Name)]
        return any(
            isinstance(part, ast.Constant)
            and isinstance(part.value, str)
            and part.value.rpartition("/")[2] in names
            and id(part) not in self.flow.seen
            and not (part is whole and self.flow.seen.intersection(targets))
            for part in ast.walk(node)
        )

    def high(self, loaded: Container[str] | None) -> Iterator[Edit]:
        """What goes above the package's folder: functions, and statements that run later."""
        for (module, _), item in self.flow.high.items():
            later = loaded is not None and module not in loaded
            if isinstance(item.node, FunctionNode) or later:
                yield self._against(
                    module, item, "or goes above the folder of the package, or writes there"
                )

    def _against(self, module: str, item: Item, how: str) -> KeptData:
        keep = Keep(module, item.qualname, item.line, "other", "", "")
        return self._edit(keep, item, f"it reads {self.file} {how}")

    def _edit(self, keep: Keep, item: Item, why: str) -> KeptData:
        return KeptData(
            keep.module, _path(item), "kept", (item,), (item,),
            detail=why, cause=self.file, keep=keep,
        )  # fmt: skip


def _path(item: Item) -> str:
    if item.names:
        return item.qualname
    return f"{item.scope}:{item.line}" if item.scope else f":{item.line}"


def said(data: Collection[DataChange]) -> str:
    """The files that change, for people."""
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
    """Why something of the old content lives where it is kept; "" when nothing does.

    `taken` is by a scan of the heap where closures keep it.
    """
    if keep.kind == "closure":
        number = len(taken.functions.get(keep.name, []))
        return f"{number} of them live" if number else ""
    if keep.kind in {"variable", "table"}:
        value = taken.namespace.get(keep.name)
        if value is None or (type(value) in _EMPTY and not value):
            return ""
        return f"{keep.name} holds a {type(value).__qualname__}"
    if keep.kind == "class":
        scope, _, attribute = keep.name.rpartition(".")
        family = reach.family(*taken.classes.get(scope, []))
        values = (reach.class_dict(cls).get(attribute) for cls in family)
        full = any(v is not None and not (type(v) in _EMPTY and not v) for v in values)
        return f"{keep.name} is filled" if full else ""
    if keep.kind == "object":
        found = count(reach.family(*taken.classes.get(keep.name, [])))
        one = "there is a live instance"
        many = f"there are {found.number} live instances" if found.number else ""
        return one if found.number == 1 else many
    return "whether that is still there cannot be told"


_EMPTY = frozenset({dict, list, set, tuple, frozenset, str, bytes, bytearray})
