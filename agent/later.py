"""What only a patch needs is loaded when one comes, from files kept since the start.

Most processes are never patched, and their agents need neither the engine nor what checks
signatures; nor what makes scopes of requests, where there are none. A deploy may replace or remove
the files below a running process: so the bytecode is read into memory at the start, extension
modules are held open, and the import uses these.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, PathFinder, SourceFileLoader
from typing import TYPE_CHECKING, Any, Final

import zdpatch.patcher
from zdpatch.agent.native import Lock
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ENGINE: Final = "zdpatch.agent.local"
SIGNATURES: Final = "cryptography.hazmat.primitives.asymmetric.ed25519"

_CRYPTOGRAPHY: Final = (
    "cryptography",
    "cryptography.__about__",
    "cryptography.exceptions",
    "cryptography.utils",
    "cryptography.hazmat",
    "cryptography.hazmat.bindings",
    "cryptography.hazmat.bindings._rust",
    "cryptography.hazmat.primitives",
    "cryptography.hazmat.primitives._serialization",
    "cryptography.hazmat.primitives.hashes",
    "cryptography.hazmat.primitives.asymmetric",
    SIGNATURES,
    "_cffi_backend",
)
# small: loaded at the start
_STDLIB: Final = ("bisect", "contextvars", "importlib.util", "pkgutil")
_OF_SCOPES: Final = ("keyed", "carry", "asgi_app", "wsgi_app", "flask_app", "celery_tasks")
_PYC_HEADER: Final = 16
_FileId = tuple[int, int]


class _Bytes(SourceFileLoader):
    """A module whose bytecode (or source, where there is none) was read at the start."""

    def __init__(self, name: str, path: str, cached: str | None) -> None:
        super().__init__(name, path)
        found = os.stat(path)  # noqa: PTH116 - dozens of files at every start
        self._stats: Final = {"mtime": found.st_mtime, "size": found.st_size}
        self._held: dict[str, bytes] | None = None  # None: as any other module
        held: dict[str, bytes] = {}
        code = _read(cached)
        if code is not None and cached is not None:
            held[cached] = code
        if code is None or code[4:_PYC_HEADER] != self._expected():
            held[path] = self.get_data(path)
        self._held = held

    def _expected(self) -> bytes:
        """Flags, time and size that bytecode of this source has: of PEP 552, unless hashed."""
        numbers = (0, int(self._stats["mtime"]), int(self._stats["size"]))
        return b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers)

    def path_stats(self, path: str) -> dict[str, Any]:
        """As they were at the start."""
        return dict(self._stats) if path == self.path else dict(super().path_stats(path))

    def get_data(self, path: str) -> bytes:
        """What was kept, and nothing else; once the module is loaded, from the disk."""
        if self._held is None:
            return super().get_data(path)
        if path not in self._held:
            raise FileNotFoundError(path)
        return self._held[path]

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:  # noqa: ANN401 - a Buffer
        """Nothing is written below a directory that may be another release's by now."""

    def exec_module(self, module: ModuleType) -> None:
        """Once it is loaded nothing needs to be held."""
        super().exec_module(module)
        self._held = None


@dataclass(frozen=True, slots=True)
class _Open:
    """An extension module, held open since the start: `number` is a descriptor of `file`."""

    spec: ModuleSpec
    number: int
    file: _FileId

    def find(self) -> ModuleSpec:
        """By its path while the same file is there, else through the open file."""
        path = str(self.spec.origin)
        if not self._is(path) and self._is(self.number):
            path = f"/proc/self/fd/{self.number}"
        self.spec.origin, self.spec.loader = path, ExtensionFileLoader(self.spec.name, path)
        return self.spec

    def close(self) -> None:
        """Let go, unless somebody closed it and the number is another file's now."""
        if self._is(self.number):
            os.close(self.number)

    def _is(self, file: str | int) -> bool:
        with contextlib.suppress(OSError):
            found = os.stat(file)  # noqa: PTH116 - a descriptor too
            return (found.st_dev, found.st_ino) == self.file
        return False


class _Finder:
    """Finds what was kept. It stays on the import path once it had to be there: taking it out of
    the list could hide the finder after it from another thread that imports meanwhile.
    """

    def __init__(self) -> None:
        self.kept: Final[dict[str, ModuleSpec | _Open]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks."""
        del path, target
        kept = self.kept.get(name)
        return kept.find() if isinstance(kept, _Open) else kept

    def keep(self, name: str, path: Sequence[str] | None) -> Sequence[str] | None:
        """Keep a module that is not loaded; where its submodules are, if it is a package."""
        if name in sys.modules or name in self.kept:
            return getattr(sys.modules.get(name), "__path__", None)
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:
            return None
        with contextlib.suppress(OSError):  # not readable now: `need` will say so
            if type(spec.loader) is SourceFileLoader:
                spec.loader = _Bytes(name, spec.origin, spec.cached)
                self.kept[name] = spec
            elif type(spec.loader) is ExtensionFileLoader:
                number = os.open(spec.origin, os.O_RDONLY | os.O_CLOEXEC)
                found = os.fstat(number)
                self.kept[name] = _Open(spec, number, (found.st_dev, found.st_ino))
            else:  # an archive, a loader of somebody's own: what it needs later nobody knows
                importlib.import_module(name)
        return spec.submodule_search_locations

    def release(self) -> None:
        """Let go of what is loaded."""
        for name in [name for name in self.kept if name in sys.modules]:
            kept = self.kept.pop(name)
            if isinstance(kept, _Open):
                kept.close()


class _Turn:
    """One thread at a time keeps, loads or lets go; a child takes nothing of its parent's over."""

    def __init__(self) -> None:
        self.lock = Lock()
        os.register_at_fork(after_in_child=self._again)

    def _again(self) -> None:
        if not self.lock.owned:  # else the thread that forked in the middle goes on in the child
            self.lock = Lock()


_finder: Final = _Finder()
_loaded: Final[set[str]] = set()
_turn: Final = _Turn()


def keep() -> None:
    """Make sure that `ENGINE` and `SIGNATURES` can be loaded whatever happens to the files."""
    with _turn.lock:
        for name in _STDLIB:
            importlib.import_module(name)
        above: dict[str, Sequence[str] | None] = {"": None, **_own_packages()}
        for name in (*_own_modules(), *_CRYPTOGRAPHY):
            parent = name.rpartition(".")[0]
            if not parent or above.get(parent) is not None:
                above[name] = _finder.keep(name, above.get(parent))


def need(name: str) -> ModuleType:
    """`ENGINE`, `SIGNATURES` or a part of scopes, loaded now if it was not.

    Raises ProcessError ZDP-216.
    """
    with _turn.lock:
        if name not in _loaded:
            _load(name)
            _finder.release()
            _loaded.add(name)
        return sys.modules[name]


def _load(name: str) -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    try:
        importlib.import_module(name)
    except Exception as error:
        raise ProcessError(
            "ZDP-216",
            f"{name} cannot be loaded, since its files are not those of the start any more:"
            f" {type(error).__name__}: {error}",
            next="restart the process",
        ) from error


def _own_packages() -> dict[str, Sequence[str] | None]:
    return {name: sys.modules[name].__path__ for name in ("zdpatch.agent", "zdpatch.patcher")}


def _own_modules() -> Iterator[str]:
    yield ENGINE
    yield "zdpatch.agent.hooktime"
    yield "zdpatch.agent.shelf"
    for part in _OF_SCOPES:
        yield f"zdpatch.agent.{part}"
    for folder in zdpatch.patcher.__path__:
        for file in sorted(os.listdir(folder)):  # noqa: PTH208 - names, no Path for each
            if file.endswith(".py") and file != "__init__.py":
                yield f"zdpatch.patcher.{file[:-3]}"


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - dozens of files at every start
            return file.read()
    except OSError:
        return None
