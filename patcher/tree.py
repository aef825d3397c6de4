"""A source tree is the Python modules of one import root, and the digests of all else in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import read
from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.source import ModuleChange, Patch
from zdpatch.patcher.spread import Name, going, stale_reads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORD: Final = re.compile(rb"[\w\x80-\xff]+")
_RELATIVE: Final = re.compile(rb"\bfrom[\s\\]*\.")
_STAR: Final = re.compile(rb"\bimport[\s\\]*\*")


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """One module of a tree: `path` relative to the import root, source as bytes."""

    name: str
    path: str
    package: bool
    source: bytes


@dataclass(frozen=True, slots=True)
class SourceTree:
    """`modules` by dotted name; `data`: sha256 (hex) of every other file by path."""

    modules: Mapping[str, ModuleSource]
    data: Mapping[str, str]


def tree_from_files(files: Mapping[str, bytes]) -> SourceTree:
    """Sort the files of an import root, by "/"-separated path, into modules and data.

    Stubs (`.pyi`, `py.typed`) are neither: no running process reads them.
    """
    modules: dict[str, ModuleSource] = {}
    data: dict[str, str] = {}
    for path, content in files.items():
        name = _module_name(path)
        if name is not None:
            package = path.endswith("/__init__.py")
            modules[name] = ModuleSource(name, path, package, content)
        elif not path.endswith((".pyi", "/py.typed")):
            data[path] = hashlib.sha256(content).hexdigest()
    return SourceTree(modules, data)


def _module_name(path: str) -> str | None:
    pure = PurePosixPath(path)
    if pure.suffix != ".py":
        return None
    parts = [*pure.parent.parts, pure.stem]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def make_patch(id: str, base: SourceTree, new: SourceTree) -> Patch:
    """The patch that brings `base` to `new`: every module whose source differs, and every module of
    the tree which took a changed value, or a name that goes, from one of these when it was imported
    (base equal to new).

    Raises AuthorError ZDP-211 for changed data files, Refused ZDP-206 for a source that does not
    parse, AuthorError ZDP-001 when nothing differs.
    """
    _same_data(base, new)
    changes = {
        name: _change(base.modules.get(name), new.modules.get(name))
        for name in sorted({*base.modules, *new.modules})
        if base.modules.get(name) != new.modules.get(name)
    }
    if not changes:
        raise AuthorError(
            "ZDP-001", "the two trees have the same modules: there is nothing to patch"
        )
    try:
        dependents = _dependents(id, changes, base, new)
    except RecursionError as error:
        raise AuthorError("ZDP-206", "a source is nested too deeply to be looked at") from error
    for name in dependents:
        changes[name] = _change(base.modules[name], new.modules[name])
    return Patch(id, tuple(changes[name] for name in sorted(changes)))


def _change(base: ModuleSource | None, new: ModuleSource | None) -> ModuleChange:
    present = new or base
    assert present is not None
    sources = [None if each is None else each.source for each in (base, new)]
    return ModuleChange(present.name, present.path, present.package, sources[0], sources[1])


def _same_data(base: SourceTree, new: SourceTree) -> None:
    every = sorted({*base.data, *new.data})
    changed = [path for path in every if base.data.get(path) != new.data.get(path)]
    if changed:
        shown = ", ".join(changed[:5]) + (
            f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        )
        raise AuthorError(
            "ZDP-211",
            f"files which are not Python modules differ: {shown}",
            next="leave them out of both trees, or deploy them with a release",
        )


def _dependents(
    id: str,
    changes: Mapping[str, ModuleChange],
    base: SourceTree,
    new: SourceTree,
) -> list[str]:
    """Unchanged modules of the tree with import-time statements which read a name that changes."""
    versions = {name: read(change, id) for name, change in changes.items()}
    edits = [edit for each in versions.values() for edit in diff(each)]
    changed: dict[Name, str] = {
        (edit.module, edit.qualname): edit.path for edit in edits if edit.kind == "value"
    }
    removed = [edit for edit in edits if edit.kind == "removed"]
    changed |= going(removed, [n for n, each in versions.items() if each.new is None], versions)
    unread = {
        name: _Text.of(module.source)
        for name, module in base.modules.items()
        if changed and name not in changes and new.modules.get(name) == module
    }
    found: set[str] = set()
    fresh, names = edits, [*changed]
    while names and fresh:
        for name in [name for name, text in unread.items() if text.may_read(names)]:
            versions[name] = read(_change(base.modules[name], base.modules[name]), id)
            del unread[name]
        fresh = stale_reads(versions, changed, edits)
        edits += fresh
        found.update(edit.module for edit in fresh)
        values = {(e.module, e.qualname): e.cause for e in fresh if e.kind == "value"}
        names = [*values]
        changed |= values
    return sorted(found - set(changes))


@dataclass(frozen=True, slots=True)
class _Text:
    """What the text of a module says, before it is parsed: its words, whether it imports from its
    own package, and whether it takes all names of a module.
    """

    words: frozenset[bytes]
    near: bool
    stars: bool

    @classmethod
    def of(cls, source: bytes) -> _Text:
        near, stars = (each.search(source) is not None for each in (_RELATIVE, _STAR))
        return cls(frozenset(_WORD.findall(source)), near, stars)

    def may_read(self, names: Iterable[Name]) -> bool:
        """Whether it may read one of `names` of other modules: it names the module or imports from
        its own package, and says the name, or takes all. Names that are not ASCII may be written
        in more than one way.
        """
        return any(
            (self.near or self._says(module)) and (self.stars or self._says(path))
            for module, path in names
        )

    def _says(self, dotted: str) -> bool:
        last = dotted.rpartition(".")[2]
        return not last.isascii() or last.encode() in self.words
