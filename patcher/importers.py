"""Which loaded modules import from a given one, read from their text: a hint, confirmed later.

Names in a namespace tell of most importers, but not of one that imports inside a class or function,
deletes the name again, or only ever says `pkg.module.NAME`. What a text imports is kept per module.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from zdpatch.patcher import reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

_IMPORT: Final = re.compile(
    rb"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import\b|import[ \t]+([^\n#;]+))", re.MULTILINE
)
_FETCH: Final = re.compile(
    rb"""(?:import_module\(|__import__\(|\bmodules\[)[ \t]*["']([.\w]+)["']"""
    rb"""|\bexec\([ \t]*["']+(?:from|import)[ \t]+([.\w]+)"""
)
_PIECE: Final = 20_000  # bytes
# Not `sysconfig`: asked for a path, it reads a file of the installation, which may be gone by then.
_STDLIB: Final = (
    str(os.__file__).removesuffix("os.py"),
    f"{sys.base_exec_prefix}/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}/",
)
_known: WeakKeyDictionary[ModuleType, frozenset[str]] = WeakKeyDictionary()


def importers(wanted: Iterable[str]) -> Iterator[ModuleType]:
    """Loaded modules, outside of the standard library, whose text imports from one of `wanted`,
    or imports a package one of them is in.
    """
    names = set(wanted)
    names |= {name.rpartition(".")[0] for name in names if "." in name}
    names |= {name.partition(".")[0] for name in names}
    for _, module in reach.modules():
        if _imports(module) & names:
            yield module


def _imports(module: ModuleType) -> frozenset[str]:
    """Absolute names of the modules that the text of a module says it imports from."""
    if module not in _known:
        space = reach.namespace(module)
        source = None if in_stdlib(space) else source_of(module)
        name, package = str(space.get("__name__")), "__path__" in space
        _known[module] = imported(name, source or b"", package=package)
    return _known[module]


def in_stdlib(space: Mapping[str, object]) -> bool:
    """Whether a module's namespace is of the standard library, or of no file."""
    path = space.get("__file__")
    if type(path) is not str:
        return space.get("__name__") != "__main__"
    return path.startswith(_STDLIB) and "-packages" not in path


def imported(name: str, source: bytes, *, package: bool) -> frozenset[str]:
    """Absolute names of the modules that a source says it imports from."""
    return frozenset(_names(name.split(".") if package else name.split(".")[:-1], source))


def _names(parts: list[str], source: bytes) -> Iterator[str]:
    end = 0
    while end < len(source):  # a piece at a time: a search of a long text is not interrupted
        start, end = end, source.find(b"\n", end + _PIECE) + 1 or len(source)
        yield from _names_in(parts, source[start:end])


def _names_in(parts: list[str], source: bytes) -> Iterator[str]:
    """Of whole lines: no import that is looked for goes over several."""
    for match in _IMPORT.finditer(source):
        base, plain = match.group(1), match.group(2)
        if base is not None:
            text = base.decode("utf-8", "replace")
            level = len(text) - len(text.lstrip("."))
            above = parts[: len(parts) - level + 1] if level else []
            yield ".".join([*above, *filter(None, [text.lstrip(".")])])
        else:
            for each in plain.decode("utf-8", "replace").split(","):
                yield each.strip().partition(" ")[0]
    for match in _FETCH.finditer(source):
        yield (match.group(1) or match.group(2)).decode("utf-8", "replace")


def source_of(module: ModuleType) -> bytes | None:
    """The bytes of a module's file, through its loader; None when there are none."""
    space = reach.namespace(module)
    loader, path = space.get("__loader__"), space.get("__file__")
    read = getattr(loader, "get_data", None)
    if read is None or type(path) is not str or not path.endswith(".py"):
        return _text(loader, space.get("__name__"))
    try:
        data = read(path)
    except OSError:
        return _text(loader, space.get("__name__"))
    return data if type(data) is bytes else None


def _text(loader: object, name: object) -> bytes | None:
    """From loaders that keep text and no files: what the overlay serves, archives, notebooks."""
    try:
        text: object = cast("Any", loader).get_source(name)
    except Exception:  # noqa: BLE001 - loaders are foreign code, and a source is only a hint
        return None
    return text.encode() if type(text) is str else None
