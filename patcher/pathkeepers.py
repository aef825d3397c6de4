"""Who holds a path to files that change, or what was in them: found by a scan of the heap.

What the import system itself holds does not count, nor do variables of modules, which are brought
along. Text in C structures, and what was made of the content, cannot be seen.
"""

from __future__ import annotations

import gc
import hashlib
import os
import posixpath
import sys
import time
from dataclasses import dataclass, field
from importlib.machinery import (
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import PurePath
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.folders import FOLDERS, FolderLoader, Move
from zdpatch.patcher.overlay import PatchedLoader
from zdpatch.patcher.slots import Step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from zdpatch.patcher.source import DataChange

_CHUNK: Final = 512
_SHORTEST: Final = 5  # of a content that tells of its file
_LINE: Final = 10  # of a line that does; single words are anybody's
_OF_IMPORTS: Final = (
    FileFinder, ModuleSpec, SourceFileLoader, SourcelessFileLoader, FolderLoader, PatchedLoader,
    Move, Step,
)  # fmt: skip
# Names by which functions ask for resources of a package.
_ASKS: Final = frozenset(
    {"files", "open_binary", "open_text", "read_binary", "read_text", "get_data", "as_file",
     "open_resource", "resource_filename", "resource_string", "resource_stream", "joinpath"}
)  # fmt: skip
_AGAIN: Final = 3
_MOMENT_S: Final = 0.02
_PLAIN: Final = (dict, list, tuple, set, frozenset)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What to look for: paths on the way to files of a package, whole contents, and their lines
    that only old files have. Each with the file that it tells of.
    """

    paths: dict[str, str] = field(default_factory=dict[str, str])
    contents: dict[str | bytes, str] = field(default_factory=dict["str | bytes", str])
    digests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, move: Move, data: Iterable[DataChange]) -> Wanted:
        paths: dict[str, str] = {}
        contents: dict[str | bytes, str] = {}
        digests: set[str] = set()
        depth = len(move.package) + 1
        for each in data:
            for old in (move.old, *move.also):
                inner = f"{old}/{each.path[depth:]}"
                while len(inner) >= len(old):
                    paths.setdefault(inner, each.path)
                    inner = inner.rpartition("/")[0]
            if each.base:
                contents |= dict.fromkeys(_telling(each.base, each.new or b""), each.path)
                digests.add(hashlib.sha256(each.base).hexdigest())
        return cls(paths, contents, frozenset(digests))

    def told(self, value: object) -> tuple[str, str] | None:
        """The file that a value tells of, and how."""
        if isinstance(value, PurePath):
            text: object = os.fspath(value) if type(value).__module__.startswith("pathlib") else ""
        else:
            text = value
        if type(text) is bytes and text in self.contents:
            return self.contents[text], "what was in it"
        if type(text) is bytes:
            text = text.decode("utf-8", "surrogateescape")
        if type(text) is not str:
            return None
        if text in self.contents:
            return self.contents[text], "what was in it"
        if text.startswith("/") and ("/." in text or "//" in text):
            text = posixpath.normpath(text)
        path = self.paths.get(text) or self.paths.get(text.rstrip("/"))
        return None if path is None else (path, "a path to it")


def _telling(old: bytes, new: bytes) -> Iterator[str | bytes]:
    """The content as bytes and as text, and lines that are long enough and gone in the new one."""
    if len(old) >= _SHORTEST:
        yield old
    try:
        texts = [side.decode("utf-8-sig").replace("\r\n", "\n") for side in (old, new)]
    except UnicodeDecodeError:
        return
    was, now = texts
    if len(was) >= _SHORTEST:
        yield was
    gone = {line.strip() for line in was.split("\n")} - {line.strip() for line in now.split("\n")}
    yield from (line for line in gone if len(line) >= _LINE and not line.isidentifier())


def count(wanted: Wanted) -> dict[str, int]:
    """How many objects hold something of each data file; those that can be seen."""
    found: dict[str, int] = {}
    if gc.isenabled():
        gc.collect()  # garbage of the undo itself
    for _, value in _holders(wanted):
        if (told := wanted.told(value)) is not None:
            found[told[0]] = found.get(told[0], 0) + 1
    return found


def keepers(wanted: Wanted, aside: Collection[int] = ()) -> Iterator[tuple[str, str]]:
    """(data file, why) of each that something in the process keeps to, objects `aside` (by id)
    left out.
    """
    if reach.frozen():
        for path in sorted({*wanted.paths.values()}):
            yield path, "who holds a path to it cannot be seen here (gc.freeze)"
        return
    found = _found(wanted, aside)
    for _ in range(_AGAIN if found else 0):  # a call in flight may hold it for a moment
        if gc.isenabled():
            gc.collect()  # garbage holds nothing: its time has come a little early
        time.sleep(_MOMENT_S)
        if not (found := _found(wanted, aside)):
            break
    yield from sorted(found.items())


def _found(wanted: Wanted, aside: Collection[int]) -> dict[str, str]:
    found: dict[str, str] = {}
    for holder, value in _holders(wanted, aside):
        if (told := wanted.told(value)) is not None:
            found.setdefault(told[0], f"{_named(holder)} holds {told[1]}")
    return found


def foreign_reader(package: str, names: Collection[str], known: Collection[str]) -> str:
    """Who names a package and asks for resources, or one of the files (`names`), in modules that
    are not `known`; "" for nobody.

    What it does with them is not followed.
    """
    for each in scan.objects():
        if type(each) is FunctionType and _outside(each, known):
            code = each.__code__
            own = str(each.__module__).partition(".")[0] not in sys.stdlib_module_names
            texts = [t for t in code.co_consts if type(t) is str]
            if own and any(text.rpartition("/")[2] in names for text in texts):
                return f"{_kind(each)} names the file, and may keep what it reads of it"
            if _ASKS.intersection(code.co_names) and any(
                text == package or text.startswith(f"{package}.") for text in texts
            ):
                return f"{_kind(each)} names the package, and may keep what it reads of it"
    return ""


def tls_contexts() -> int:
    """How many TLS contexts live: what certificates they have loaded nobody can see."""
    cls: type | None = getattr(sys.modules.get("_ssl"), "_SSLContext", None)
    return sum(1 for each in scan.objects() if any(base is cls for base in type(each).__mro__))


def _outside(function: FunctionType, known: Collection[str]) -> bool:
    """Whether a function is of a module that is not `known`, nor of ours; module bodies ran."""
    module = str(function.__module__)
    ours = module in known or module.startswith("zdpatch.")
    return not ours and function.__code__.co_name != "<module>"


def _holders(wanted: Wanted, beside: Collection[int] = ()) -> Iterator[tuple[object, object]]:
    """Objects that hold something wanted, and what it is."""
    for _, module in reach.modules():
        for value in list(reach.namespace(module).values()):
            if type(value) in {str, bytes} and value in wanted.contents:
                yield module, value
    for frame in _frames():
        for value in _hits([*frame.f_locals.values()], wanted):
            yield frame.f_code, value
    objects = scan.listed()
    aside = _aside(objects) | {*beside} | {id(objects), id(wanted.paths), id(wanted.contents)}
    for start in range(0, len(objects), _CHUNK):
        some = [o for o in objects[start : start + _CHUNK] if id(o) not in aside and not _ends(o)]
        if not any(_hits(gc.get_referents(*some), wanted)):
            continue
        for each in some:
            for value in _hits(gc.get_referents(each), wanted):
                if not _bundled(each, value, wanted):
                    yield each, value


def _ends(value: object) -> bool:
    """Whether it is what `importlib.resources.as_file` waits in: it does no more than end."""
    frame = value.gi_frame if type(value) is GeneratorType else None
    name = str(frame.f_globals.get("__name__")) if frame is not None else ""
    return name.startswith(("importlib.resources", "importlib_resources"))


def _frames() -> Iterator[FrameType]:
    """Frames of all threads, but for those of zdpatch and of module bodies."""
    for top in sys._current_frames().values():  # pyright: ignore[reportPrivateUsage] - documented
        frame: FrameType | None = top
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if not name.startswith("zdpatch.") and frame.f_code.co_name != "<module>":
                yield frame
            frame = frame.f_back


def _hits(values: list[object], wanted: Wanted) -> Iterator[object]:
    """Those of some values that are wanted, and of what plain containers among them hold that the
    collector does not track.
    """
    for value in values:
        kind = type(value)
        if kind is str or kind is bytes or issubclass(kind, PurePath):
            if wanted.told(value) is not None:
                yield value
        elif kind in _PLAIN and not gc.is_tracked(value):
            yield from _hits(gc.get_referents(value), wanted)


def _aside(objects: list[object]) -> set[int]:
    """Holders that do not count: what imports hold, and the namespaces of modules."""
    found = {id(sys.path_importer_cache), id(FOLDERS), id(sys.modules)}
    found |= {id(reach.namespace(module)) for _, module in reach.modules()}
    for each in objects:
        if type(each) is ModuleType:  # also of modules that nobody can import any more
            found.add(id(reach.namespace(each).get("__path__")))
        if type(each) in _OF_IMPORTS or issubclass(type(each), PurePath):
            found.add(id(each))
            found |= {id(r) for r in gc.get_referents(each) if type(r) in {dict, list}}
    return found


def _bundled(holder: object, value: object, wanted: Wanted) -> bool:
    """Whether it is the content as a bundle carries it, or the engine looks at it."""
    if type(holder) is FrameType:  # of a refusal of ours that is told, or was
        return str(holder.f_globals.get("__name__")).startswith("zdpatch.")
    owner = type(holder).__module__
    if owner.startswith("zdpatch.") or owner == "ast":
        return True
    if type(holder) is not dict or type(value) is not bytes:
        return False
    table = cast("dict[object, object]", holder)
    return any(table.get(digest) is value for digest in wanted.digests)


def _named(holder: object) -> str:
    """An object for people, by what holds it when it is a plain container."""
    if type(holder) in _PLAIN:
        kind = type(holder).__name__
        for owner in gc.get_referrers(holder):
            if type(owner) not in {*_PLAIN, ModuleType} and not _frame(owner):
                return f"a {kind} of {_kind(owner)}"
        return f"a {kind}"
    return _kind(holder)


def _frame(value: object) -> bool:
    return type(value).__name__ in {"frame", "generator", "list_iterator"}


def _kind(value: object) -> str:
    if type(value) is ModuleType:
        return f"the module {value.__name__}"
    if type(value) is CodeType:
        return f"a running call of {value.co_qualname}"
    if type(value) is FunctionType:
        return f"{value.__module__}.{value.__qualname__}"
    if reach.is_a(value, type):
        return f"the class {reach.qualname(value)}"  # type: ignore[arg-type]
    return f"an object of {type(value).__module__}.{type(value).__qualname__}"
