"""The source of what runs is one that explains it: each candidate is compared, none is believed.

Where a source may be: in the active patches, where the module's loader has it, among the lines kept
for tracebacks. A file that is younger than the process may be what a deploy put there since.
"""

from __future__ import annotations

import io
import linecache
import os
import sys
import tokenize
import zipimport
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from zdpatch.patcher import codes, inventory, overlay, reach
from zdpatch.patcher.drift import Drift
from zdpatch.patcher.edits import version
from zdpatch.patcher.likeness import different_values
from zdpatch.patcher.structure import unexplained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType

State = Literal["verified", "drifted", "no source", "absent"]


@dataclass(frozen=True, slots=True)
class Running:
    """One module as this process has it.

    `source` is set when `state` is "verified": it explains all that runs of the module, or is what
    an import would run. "drifted": no source was found that does; `first` is where the best one
    differs. "no source": there is only compiled code. "absent": it could not be imported either.
    """

    name: str
    state: State
    package: bool = False
    loaded: bool = False
    source: bytes | None = None
    first: Drift | None = None


def running(  # noqa: PLR0913 - what is known of the module
    name: str,
    offered: bytes | None,
    active: Sequence[bytes],
    known: tuple[CodeType, ...],
    since: float,
    *,
    doubtful: bool = True,
) -> Running:
    """What this process runs as module `name`.

    `offered`: a source that somebody has, `active`: those of active patches; both are tried before
    what is found here. `known`: codes whose presence active patches explain. Files that changed
    after `since` (unix seconds) are in doubt, and tried if `doubtful`. Raises nothing for what a
    source holds.
    """
    module = sys.modules.get(name)
    if module is None:
        return _unloaded(name, offered)
    if not reach.is_a(module, ModuleType):
        what = "something else than a module stands for it in sys.modules"
        return Running(name, "drifted", loaded=True, first=Drift(f"{name}:", 0, what, "replaced"))
    space = reach.namespace(module)
    package = "__path__" in space
    taken = inventory.take(module, heap=False)
    best: list[Drift] | None = None
    given = [(each, False) for each in active]
    given += [] if offered is None else [(offered, True)]
    for source, doubt in (*given, *_found(space, since)):
        if doubt and not doubtful:
            continue
        differs = _differences(taken, source, known, doubt=doubt)
        if not differs:
            return Running(name, "verified", package, loaded=True, source=source)
        best = differs if best is None or len(differs) < len(best) else best
    if best is None:
        return Running(name, "no source", package, loaded=True)
    return Running(name, "drifted", package, loaded=True, first=best[0])


def _unloaded(name: str, offered: bytes | None) -> Running:
    """What an import would run. Its file is the truth until it is imported."""
    located = overlay.locate(name)
    if located is None:
        return Running(name, "absent")
    if located.source is not None:
        return Running(name, "verified", located.package, source=located.source)
    code = None if offered is None else _compiled(offered)
    wanted = None if located.code is None else codes.digest(located.code)
    if code is not None and codes.digest(code) == wanted:
        return Running(name, "verified", located.package, source=offered)
    return Running(name, "no source", located.package)


def _found(space: dict[str, object], since: float) -> Iterator[tuple[bytes, bool]]:
    """Sources that may be the module's, from its loader and `linecache`, and whether in doubt."""
    file = space.get("__file__")
    if type(file) is not str or not file.endswith(".py"):
        return
    loader = space.get("__loader__")
    with suppress(Exception):  # it is gone, or the archive was replaced: then no candidate
        if type(loader) is zipimport.zipimporter:
            yield loader.get_data(file), _changed(loader.archive, since)
        else:
            yield SourceFileLoader("", file).get_data(file), _changed(file, since)
    kept = linecache.cache.get(file)
    if kept is not None and len(kept) == 4:
        text = "".join(kept[2]).encode("utf-8", "surrogatepass")
        with suppress(SyntaxError, UnicodeError, LookupError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(text).readline)
            yield text.decode().encode(encoding), True


def _changed(path: str, since: float) -> bool:
    """Whether a file was changed, or put there, after a time."""
    return os.stat(path).st_ctime >= since  # noqa: PTH116


def _differences(
    taken: inventory.Inventory, source: bytes, known: tuple[CodeType, ...], *, doubt: bool
) -> list[Drift]:
    try:
        base = version(taken.name, source, "<source>", package="__path__" in taken.namespace)
        _ = base.code  # what parses may still not compile
    except SyntaxError:
        return [Drift(f"{taken.name}:", 0, "its source here does not compile", "changed")]
    differs = unexplained(taken, base, known)
    return differs or different_values(taken, base, known, doubt=doubt)


def _compiled(source: bytes) -> CodeType | None:
    try:
        return codes.compile_source(source, "<source>")
    except SyntaxError:
        return None
