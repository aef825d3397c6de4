"""A source tree is the Python modules of one import root, and all other files in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.datafiles import files_of, followed, root_of
from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import read
from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.outline import outline
from zdpatch.patcher.source import DataChange, ModuleChange, Patch, is_data_path, no_data_path
from zdpatch.patcher.spread import Name, going, stale_reads
from zdpatch.patcher.ways import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.outline import Outline

_WORD: Final = re.compile(rb"[\w\x80-\xff]+")
_RELATIVE: Final = re.compile(rb"\bfrom[\s\\]*\.")
_WAYS: Final = frozenset(word.encode() for word in WORDS)
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
    """`modules` by dotted name; `data`: every other file by path."""

    modules: Mapping[str, ModuleSource]
    data: Mapping[str, bytes]


def tree_from_files(files: Mapping[str, bytes]) -> SourceTree:
    """Sort the files of an import root, by "/"-separated path, into modules and data.

    Stubs (`.pyi`, `py.typed`) are neither: no running process reads them.
    """
    modules: dict[str, ModuleSource] = {}
    data: dict[str, bytes] = {}
    for path, content in files.items():
        name = _module_name(path)
        if name is not None:
            package = path.endswith("/__init__.py")
            modules[name] = ModuleSource(name, path, package, content)
        elif not path.endswith((".pyi", "/py.typed")):
            data[path] = content
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
    """The patch that brings `base` to `new`: every module whose source differs, every module of the
    tree which took a changed value, or a name that goes, from one of these when it was imported
    (base equal to new); every data file of a package that differs, and the modules that read it.

    Raises AuthorError ZDP-211 for other files that differ, Refused ZDP-206 for a source that does
    not parse, AuthorError ZDP-001 when nothing differs.
    """
    data = _data(base, new)
    changes = {
        name: _change(base.modules.get(name), new.modules.get(name))
        for name in sorted({*base.modules, *new.modules})
        if base.modules.get(name) != new.modules.get(name)
    }
    if not changes and not data:
        raise AuthorError(
            "ZDP-001", "the two trees have the same modules: there is nothing to patch"
        )
    try:
        dependents = {*_dependents(id, changes, base, new), *_readers(data, base, new)}
    except RecursionError as error:
        raise AuthorError("ZDP-206", "a source is nested too deeply to be looked at") from error
    for name in sorted(dependents - set(changes)):
        changes[name] = _change(base.modules[name], new.modules[name])
    return Patch(id, tuple(changes[name] for name in sorted(changes)), data)


def _change(base: ModuleSource | None, new: ModuleSource | None) -> ModuleChange:
    present = new or base
    assert present is not None
    sources = [None if each is None else each.source for each in (base, new)]
    return ModuleChange(present.name, present.path, present.package, sources[0], sources[1])


def _data(base: SourceTree, new: SourceTree) -> tuple[DataChange, ...]:
    """The data files that differ. Raises AuthorError ZDP-211 for what is no file of a package."""
    every = sorted({*base.data, *new.data})
    differ = [path for path in every if base.data.get(path) != new.data.get(path)]
    packages = _packages(base) | _packages(new)
    outside = [
        (path, no_data_path(path) or "it is in no package")
        for path in differ
        if not is_data_path(path) or not root_of(path, packages)
    ]
    if outside:
        shown = "; ".join(f"{path} ({why})" for path, why in outside[:5])
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        raise AuthorError(
            "ZDP-211",
            f"files which are neither Python modules nor data of a package differ: {shown}{more}",
            next="leave them out of both trees, or deploy them with a release",
        )
    return tuple(DataChange(path, base.data.get(path), new.data.get(path)) for path in differ)


def _packages(tree: SourceTree) -> set[str]:
    return {module.name for module in tree.modules.values() if module.package}


def _readers(data: tuple[DataChange, ...], base: SourceTree, new: SourceTree) -> Iterator[str]:
    """Modules that may read changed data files, or that say where they are; and the packages whose
    files they are.
    """
    packages = _packages(base)
    both = {*base.modules} & {*new.modules}
    yield from both & {root_of(each.path, packages).replace("/", ".") for each in data}
    roots = files_of(data, packages).packages
    texts = {
        name: text
        for name in (base.modules if roots else ())
        if (text := _Text.of(base.modules[name].source)).words and _near(name, text, roots)
    }
    names = [each.path.rpartition("/")[2].encode() for each in data]
    asks = [n for n, text in texts.items() if text.words & _WAYS]
    said = [n for n, m in base.modules.items() if any(name in m.source for name in names)]
    asks = sorted({*asks, *(said if roots else ())})
    outlines: dict[str, Outline] = {}
    while asks:
        for name in asks:
            module = base.modules[name]
            outlines[name] = outline(name, module.source, package=module.package)
        flow = followed(data, outlines, packages)
        found = [*flow.names]
        asks = [n for n, text in texts.items() if n not in outlines and text.may_read(found)]
        if not asks:
            used = {name for name, _ in [*flow.names, *flow.readers, *flow.read]}
            inside = {name for name in outlines if any(_within(name, root) for root in roots)}
            yield from (used | inside | {*said}) & both


def _within(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def _near(name: str, text: _Text, roots: frozenset[str]) -> bool:
    """Whether a module is in one of these packages, or names one."""
    inside = any(_within(name, root) for root in roots)
    return inside or any(root.rpartition(".")[2].encode() in text.words for root in roots)


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
