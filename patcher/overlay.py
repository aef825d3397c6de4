"""A module imported later gets the source that the active patches say, whoever imports it.

One finder at the front of `sys.meta_path` looks into one table. The table is a plain dict which
only steps of a commit write to, so what will be imported flips in the same instant as what runs.
Everything about a module but its code stays as it is on disk: its location, its packages' paths,
its resources, unless these are patched too (see `folders`). Its code has the versioned file name,
under which tracebacks find its source.
"""

from __future__ import annotations

import io
import linecache
import pkgutil
import sys
import threading
from dataclasses import dataclass
from importlib.machinery import (
    SOURCE_SUFFIXES,
    BuiltinImporter,
    FrozenImporter,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import decode_source
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from zdpatch.patcher import codes, folders, reach
from zdpatch.patcher.source import file_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import CodeType

    from zdpatch.patcher.source import Patch


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What to import as module `name`; `filename` is the versioned name to compile it under."""

    name: str
    source: bytes
    filename: str
    package: bool


class Removed:
    """The type of `REMOVED`."""

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = Removed()
"""An entry of the table: this module is not to be found any more."""

TABLE: Final[dict[str, Source | Removed]] = {}
"""What the finder serves, by module name. Written by steps of kind "item", and by `serve`."""

_Spec: TypeAlias = ModuleSpec | None
_executions: dict[str, int] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """What an import of `name` would find now, the table included; nothing was imported or run.

    `source` is None where there is only compiled code; `code` is None for what is not Python (an
    extension, a namespace package) and for source that does not compile. `origin` is its path.
    """

    name: str
    origin: str | None
    source: bytes | None
    code: CodeType | None
    package: bool


def install() -> None:
    """Put the finder at the front of `sys.meta_path`, if it is not on it."""
    if not any(finder is FINDER for finder in sys.meta_path):
        sys.meta_path.insert(0, cast("Any", FINDER))


def uninstall() -> None:
    """Take the finder off `sys.meta_path`."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not FINDER]


def serve(patch: Patch, *, new: bool) -> None:
    """Let every later import find one side of `patch`, whatever is on disk.

    For a process that has imported nothing of it yet; one that has is changed by a commit.
    """
    install()
    for change in patch.changes:
        source = change.new if new else change.base
        name = file_name(f"{patch.id}{'' if new else '~'}", change.path)
        TABLE[change.name] = (
            REMOVED if source is None else Source(change.name, source, name, change.package)
        )
        if source is None:
            sys.modules.setdefault(change.name, cast("Any", None))


def forbidden(name: str) -> bool:
    """Whether an import of this name fails because a patch removed the module: `sys.modules` says
    None for it. A finder alone can only raise, which `importlib.util.find_spec` hands on.
    """
    modules = cast("Mapping[str, object]", sys.modules)
    return isinstance(TABLE.get(name), Removed) and modules.get(name, TABLE) is None


def served(name: str) -> bool:
    """Whether a module of this name was executed from a source of the table since the start."""
    return name in _executions


def executions() -> dict[str, int]:
    """How often modules were executed from sources of the table since the start, by name."""
    return dict(_executions)


def remember(filename: str, source: bytes) -> None:
    """Give `linecache` the lines of `filename`; without a time they are never compared with a disk.

    Raises `SyntaxError` when the source's encoding is unknown or wrong.
    """
    text = decode_source(source)
    lines = io.StringIO(text).readlines()
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    linecache.cache[filename] = (len(text), None, lines, filename)


# What would run, or write, the code that is on disk; and the own slot that is absent while a
# loader is being copied.
_NOT_ASKED: Final = frozenset(
    {"load_module", "source_to_code", "set_data", "path_stats", "path_mtime", "real"}
)


class PatchedLoader:
    """Executes a source of the table; all else it asks of the loader that was there before."""

    def __init__(self, source: Source, origin: str | None, real: object) -> None:
        self.source = source
        self.origin = origin
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The usual kind of module."""
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the patched source in the module's namespace."""
        code = self.get_code(self.source.name)
        remember(self.source.filename, self.source.source)
        space = reach.namespace(module)
        fresh = "__builtins__" not in space
        if fresh and self.origin is not None and self.origin.endswith(tuple(SOURCE_SUFFIXES)):
            # Nothing of this module runs under the file's own name, and `inspect` looks there.
            remember(self.origin, self.source.source)
        try:
            exec(code, space)  # noqa: S102 (it is a loader)
        except BaseException:
            if not fresh:  # a reload that fails leaves what it has bound
                self._count()
            raise
        self._count()

    def _count(self) -> None:
        _executions[self.source.name] = _executions.get(self.source.name, 0) + 1

    def get_code(self, fullname: str) -> CodeType:
        """The patched source, compiled."""
        del fullname
        return codes.compile_source(self.source.source, self.source.filename)

    def get_source(self, fullname: str) -> str:
        """The patched source as text."""
        del fullname
        return decode_source(self.source.source)

    def get_filename(self, fullname: str) -> str:
        """Where the module is on disk, or would be."""
        del fullname
        return self.origin or self.source.filename

    def is_package(self, fullname: str) -> bool:
        """Whether it is a package in the patch."""
        del fullname
        return self.source.package

    def get_resource_reader(self, fullname: str) -> object:
        """The real location's resources."""
        ask = getattr(self.real, "get_resource_reader", None)
        return None if ask is None else ask(fullname)

    def __getattr__(self, name: str) -> object:
        if name in _NOT_ASKED:
            raise AttributeError(name)
        return getattr(self.real, name)


class PatchedFinder:
    """Answers for names in the table, and asks the other finders where those modules really are."""

    def __init__(self) -> None:
        self._local = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> _Spec:
        """The spec for a patched module, None for others; raises for removed ones."""
        entry = TABLE.get(fullname)
        if entry is None and not folders.covers(fullname):
            return None
        if isinstance(entry, Removed):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        asked = cast("dict[str, _Question]", self._local.__dict__)
        question = asked.get(fullname)
        if question is not None:
            # A finder that we ask asks us again, to add its own to what it gets (import hooks do).
            question.answered = True
            return _answer(entry, self._others(question, fullname, path, target), path)
        question = asked[fullname] = _Question([self])
        try:
            spec = self._others(question, fullname, path, target)
        finally:
            del asked[fullname]
        answered = question.answered and spec is not None
        return spec if answered else _answer(entry, spec, path)

    def _others(
        self,
        question: _Question,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None,
    ) -> _Spec:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if find is None or any(finder is one for one in question.busy):
                continue
            question.busy.append(finder)
            try:
                spec = cast("_Spec", find(fullname, path, target))
            finally:
                question.busy.pop()
            if spec is not None:
                return spec
        return None


@dataclass(slots=True)
class _Question:
    """One search under way in this thread: who is being asked, and whether we answered inside."""

    busy: list[object]
    answered: bool = False


FINDER: Final = PatchedFinder()


def _answer(entry: Source | None, real: _Spec, path: Iterable[str] | None) -> _Spec:
    """What is found for a module: of an entry, or whose package's files are served elsewhere."""
    spec = real if entry is None else patched(entry, real, path)
    return None if spec is None else folders.moved(spec)


def patched(entry: Source, real: _Spec, path: Iterable[str] | None) -> ModuleSpec:
    """The spec of `entry` at the place of `real`; without one, where it would be below `path`."""
    place = real
    if place is None or place.loader is None:  # not on disk, or only as a namespace package
        place = _would_be(entry, path)
    spec = ModuleSpec(entry.name, None, origin=place.origin, is_package=entry.package)
    spec.loader = cast("Any", PatchedLoader(entry, place.origin, place.loader))
    spec.has_location = place.origin is not None
    locations = (real or place).submodule_search_locations
    if entry.package and locations is not None:
        spec.submodule_search_locations = locations
    return spec


def _would_be(entry: Source, path: Iterable[str] | None) -> ModuleSpec:
    """The place of a module that is not on disk: beside its siblings. Top-level ones have none."""
    folder = next(iter(path or ()), None)
    if folder is None:
        return ModuleSpec(entry.name, None, is_package=entry.package)
    own = PurePath(folder) / entry.name.rpartition(".")[2]
    origin = str(own / "__init__.py") if entry.package else f"{own}.py"
    spec = ModuleSpec(entry.name, None, origin=origin, is_package=entry.package)
    spec.loader = SourceFileLoader(entry.name, origin)
    if entry.package:
        spec.submodule_search_locations = [str(own)]
    return spec


def make_spec(entry: Source) -> ModuleSpec:
    """The spec that an import of `entry` would get, made without importing its parents."""
    parent = entry.name.rpartition(".")[0]
    return patched(entry, _find(entry.name), _locations(parent) if parent else None)


def source_of(spec: ModuleSpec) -> Source:
    """The entry behind a spec of `make_spec` or of the finder."""
    loader = cast("object", spec.loader)
    if isinstance(loader, folders.FolderLoader):
        loader = loader.real
    assert isinstance(loader, PatchedLoader)
    return loader.source


def locate(name: str) -> Located | None:
    """What an import of `name` would find; None when nothing (or when it was removed).

    Parents that are imported are asked for their `__path__`; others are looked for on disk and
    not imported. Zip archives and compiled files without source are read too.
    """
    entry = TABLE.get(name)
    if isinstance(entry, Removed):
        return None
    if entry is not None:
        code = _compiled(entry.source, entry.filename)
        return Located(name, make_spec(entry).origin, entry.source, code, entry.package)
    spec = _find(name)
    if spec is None:
        return None
    package = spec.submodule_search_locations is not None
    loader: Any = spec.loader
    source = code = None
    if spec.origin is not None and spec.origin.endswith(tuple(SOURCE_SUFFIXES)):
        source = cast("bytes", loader.get_data(spec.origin))
        code = _compiled(source, spec.origin)
    elif hasattr(loader, "get_code"):
        code = cast("CodeType | None", loader.get_code(name))
    return Located(name, spec.origin, source, code, package)


def _compiled(source: bytes, filename: str) -> CodeType | None:
    try:
        return codes.compile_source(source, filename)
    except SyntaxError:
        return None


def _find(name: str) -> _Spec:
    """The spec on disk, or of an archive, whatever the table says of the module itself."""
    parent = name.rpartition(".")[0]
    path = _locations(parent) if parent else None
    if parent and path is None:
        return None
    return _find_in(name, path)


def _locations(package: str) -> list[str] | None:
    """Where submodules of a package are looked for; None when it is no package or is not there."""
    if package in sys.modules:  # with None when its import is forbidden
        loaded = sys.modules[package]
        path = reach.namespace(loaded).get("__path__") if reach.is_a(loaded, ModuleType) else None
        return None if path is None else list(cast("Iterable[str]", path))
    entry = TABLE.get(package)
    if isinstance(entry, Removed):
        return None
    spec = _find(package) if entry is None else make_spec(entry)
    found = None if spec is None else spec.submodule_search_locations
    return None if found is None else list(found)


def _find_in(name: str, path: list[str] | None) -> _Spec:
    if path is None:
        spec = BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name)
        if spec is not None:
            return spec
    portions: list[str] = []
    # Not PathFinder: for a namespace package it wants the parent to be imported.
    for folder in sys.path if path is None else path:
        importer: Any = pkgutil.get_importer(folder)
        spec = None if importer is None else cast("_Spec", importer.find_spec(name))
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions += spec.submodule_search_locations or []
    spec = _editable(name, path)
    if spec is None and portions:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = portions
    return spec


def _editable(name: str, path: list[str] | None) -> _Spec:
    """Ask the finders of editable installs; other finders may import or run anything when asked."""
    for finder in list(sys.meta_path):
        home = getattr(finder, "__module__", "")
        if type(home) is str and home.startswith("__editable__"):
            spec = cast("_Spec", cast("Any", finder).find_spec(name, path))
            if spec is not None:
                return spec
    return None
