"""A file may be loaded more than once: a second copy of a module would go on with the old code.

Copies are known by `__file__`: of other entries of `sys.modules`, and of what live functions have
as globals, where no module leads to them (`spec_from_file_location`, `runpy`, an entry that was
deleted from `sys.modules`).
"""

from __future__ import annotations

import os
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import overlay, reach, scan
from zdpatch.patcher.errors import Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.source import Patch


def refuse_twins(patch: Patch) -> None:
    """Raise Refused (ZDP-202) when a file of the patch is loaded a second time."""
    for name, twin in twins(_files(patch)):
        why = f"{twin}, which would keep the old code"
        verdict = Verdict(f"{name}:", 1, "module", "R", why, "replace the worker")
        raise Refused("ZDP-202", f"{name}: {why}", (verdict,))


def _files(patch: Patch) -> dict[str, str]:
    """The file of each module that the patch changes, where it is loaded from, or would be."""
    files: dict[str, str] = {}
    for change in patch.changes:
        if change.base is None or change.base == change.new:
            continue
        module = sys.modules.get(change.name)
        located = overlay.locate(change.name) if module is None else None
        path: object = located.origin if located else None
        if reach.is_a(module, ModuleType):  # else it is refused where it is looked for
            path = reach.namespace(cast("ModuleType", module)).get("__file__")
        if type(path) is str:
            files[change.name] = path
    return files


def twins(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(module, the copy in words) for each module of a patch that lives a second time. `files`:
    the file of each, loaded or not.
    """
    names = {_absolute(path): name for name, path in files.items()}
    bases = {os.path.basename(path) for path in names}  # noqa: PTH119 - paths as text
    own: dict[str, dict[str, object]] = {}
    known: set[int] = set()
    for name, module in reach.modules():
        space = reach.namespace(module)
        known.add(id(space))
        if files.get(name) is not None:
            own[name] = space
    for name, module in reach.modules():
        space = reach.namespace(module)
        found = _module_of(space, names, bases)
        if found and space is not own.get(found):
            yield found, f"the same file is loaded as {name} too"
    for space in _unlisted(known):
        found = _module_of(space, names, bases)
        if found and not _derived(space, own.get(found)):
            called = space.get("__name__")
            yield found, f"a copy of it is alive that sys.modules does not have ({called})"


def _module_of(space: Mapping[str, object], names: Mapping[str, str], bases: set[str]) -> str:
    path = space.get("__file__")
    if type(path) is not str or os.path.basename(path) not in bases:  # noqa: PTH119
        return ""
    return names.get(_absolute(path), "")


def _unlisted(known: set[int]) -> list[dict[str, object]]:
    """Globals of live functions that no module of `sys.modules` has."""
    functions = cast("Iterator[FunctionType]", scan.of({id(FunctionType)}))
    every = (each.__globals__ for each in functions)
    return list({id(space): space for space in every if id(space) not in known}.values())


def _derived(space: Mapping[str, object], own: Mapping[str, object] | None) -> bool:
    """Whether globals were copied from those of the module, and not made by loading it again."""
    spec = space.get("__spec__")
    return own is not None and spec is not None and spec is own.get("__spec__")


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - a path as text; no file is looked at
