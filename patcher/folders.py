"""The files of a package are served from a folder of its own while a patch of them is in: a copy of
the package's folder in which they are as the patch says.

Code that asks at each use where its package lies (`__file__`, `importlib.resources`, `pkgutil`)
comes to the folder. What asked before and kept a path is brought along where it is the variable of
a module, and stands against the patch where it is anything else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import PosixPath, PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from zdpatch.patcher import reach
from zdpatch.patcher.slots import MISSING, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDERS: Final[dict[str, str]] = {}
"""Where the files of a package are served from, by its dotted name; steps of a commit write it."""

_PATHS: Final = (PosixPath, PurePosixPath)
_OWN: Final = frozenset({"__file__", "__path__", "__spec__", "__loader__", "__cached__"})


class Shelf(Protocol):
    """Keeps folders of packages. It is the engine's owner who has one: the engine does no I/O."""

    def read(self, path: str) -> bytes | None:
        """What is in a file; None when there is none. Raises OSError for what cannot be read."""
        ...

    def real(self, path: str) -> str:
        """A path without links in it."""
        ...

    def fill(self, folder: str, files: Mapping[str, bytes | None]) -> str:
        """The path of a folder like `folder`, with `files` (relative path to content; None: not
        there) in it; the same one for the same arguments, on disk for good. Raises OSError.
        """
        ...

    def holds(self, path: str, content: bytes | None) -> bool:
        """Whether a file has that content (None: is not there); one that cannot be read has not."""
        ...

    def mend(self, place: str, folder: str, files: Mapping[str, bytes | None]) -> None:
        """Let a folder that `fill` made of `folder` have `files` again. Raises OSError."""
        ...


class FolderLoader:
    """The loader of a package whose files are served from elsewhere; all else is as it was."""

    def __init__(self, real: object, move: Move) -> None:
        self.real = real
        self.move = move

    def get_resource_reader(self, fullname: str) -> object:
        """The files of the folder."""
        from importlib.readers import FileReader  # noqa: PLC0415 - with whoever asks for resources

        file = self.move.of(str(cast("Any", self.real).get_filename(fullname)))
        return FileReader(cast("Any", SimpleNamespace(path=file)))

    def get_data(self, path: str) -> bytes:
        """What is in a file."""
        return cast("bytes", cast("Any", self.real).get_data(self.move.of(path)))

    def __getattr__(self, name: str) -> object:
        if name in {"real", "move"}:  # while it is being copied
            raise AttributeError(name)
        return getattr(self.real, name)


@dataclass(frozen=True, slots=True)
class Move:
    """From one folder of a package to another, without a slash at the end; `also` are other names
    of the old one.
    """

    package: str
    old: str
    new: str
    also: tuple[str, ...] = ()

    def of(self, path: str) -> str:
        """Where a path at or below the old folder is now; any other as it is."""
        for old in (self.old, *self.also):
            if path == old or path.startswith(f"{old}/"):
                return self.new + path[len(old) :]
        return path

    def value(self, value: object) -> object:
        """The same of text, bytes and plain paths; MISSING for what does not lie there."""
        if type(value) is bytes:
            moved: object = self.of(value.decode("utf-8", "surrogateescape")).encode(
                "utf-8", "surrogateescape"
            )
        elif type(value) is str:
            moved = self.of(value)
        elif type(value) in _PATHS:
            moved = cast("type[PurePosixPath]", type(value))(self.of(str(value)))
        else:
            return MISSING
        return MISSING if moved == value else moved

    def has(self, module: str) -> bool:
        """Whether it is a module of the package."""
        return module == self.package or module.startswith(f"{self.package}.")


def covers(module: str) -> bool:
    """Whether the files of a module's package are served from elsewhere."""
    return any(module == p or module.startswith(f"{p}.") for p in FOLDERS)


def moved(spec: ModuleSpec, folders: Mapping[str, str] | None = None) -> ModuleSpec:
    """The spec of a module, found where its package really lies, at the place that is served:
    by `folders`, or by `FOLDERS`.
    """
    for package, folder in (FOLDERS if folders is None else folders).items():
        if spec.name == package or spec.name.startswith(f"{package}."):
            depth = spec.name.count(".") - package.count(".")
            real = _folder_of(spec, depth)
            if real:
                _place(spec, Move(package, real, folder))
    return spec


def _folder_of(spec: ModuleSpec, depth: int) -> str:
    """The folder of the package `depth` names above a module; "" when it is in no folder."""
    origin = spec.origin
    if origin is None or not spec.has_location or not _plain(spec.loader):
        return ""
    up = depth + (spec.submodule_search_locations is not None)
    parts = origin.split("/")
    return "/".join(parts[: -max(up, 1)]) if len(parts) > up else ""


def _place(spec: ModuleSpec, move: Move) -> None:
    spec.origin = move.of(str(spec.origin))
    if hasattr(spec.loader, "origin"):
        cast("Any", spec.loader).origin = spec.origin
    spec.loader = cast("Any", FolderLoader(spec.loader, move))


def _plain(loader: object) -> bool:
    """Whether a loader takes modules from files in a folder."""
    if type(loader) is FolderLoader:
        return _plain(loader.real)
    real = getattr(loader, "real", loader) if hasattr(loader, "source") else loader
    return type(real) in {SourceFileLoader, SourcelessFileLoader, FolderLoader}


def real_folder(package: str) -> str:
    """Where a loaded package lies, "" when it is no folder, or its loader reads no files."""
    module = sys.modules.get(package)
    space = reach.namespace(module) if reach.is_a(module, ModuleType) else {}  # type: ignore[arg-type]
    where, spec = space.get("__path__"), space.get("__spec__")
    if type(spec) is not ModuleSpec or not _plain(spec.loader) or type(where) is not list:
        return ""
    first = cast("list[object]", where)[0] if where else ""
    return first.rstrip("/") if type(first) is str and len(cast("list[object]", where)) == 1 else ""


def redirect(move: Move) -> Iterator[Step]:
    """Steps after which what is loaded of a package finds its files at the new place: where its
    modules say that they lie, its loaders, and variables of any module that hold a path.
    """
    for name, module in reach.modules():
        space = reach.namespace(module)
        if move.has(name):
            yield from _of_module(name, space, move)
        for variable, value in list(space.items()):
            if type(variable) is str and variable not in _OWN:
                new = move.value(value)
                if new is not MISSING:
                    yield Step("item", space, variable, new, value, f"{name}:{variable}")


def _of_module(name: str, space: dict[str, object], move: Move) -> Iterator[Step]:
    new = move.value(space.get("__file__"))
    if new is not MISSING:
        yield Step("item", space, "__file__", new, space["__file__"], f"{name}:__file__")
    spec = space.get("__spec__")
    if type(spec) is not ModuleSpec:
        return
    own = vars(spec)
    origin = move.value(own.get("origin"))
    if origin is not MISSING:
        yield Step("item", own, "origin", origin, own["origin"], f"{name}:__spec__.origin")
    if not _plain(own.get("loader")):
        return
    real = own["loader"].real if type(own["loader"]) is FolderLoader else own["loader"]
    loader = FolderLoader(real, Move(move.package, real_folder(move.package), move.new))
    yield Step("item", own, "loader", loader, own["loader"], f"{name}:__spec__.loader")
    if space.get("__loader__") is own["loader"]:
        yield Step("item", space, "__loader__", loader, own["loader"], f"{name}:__loader__")
