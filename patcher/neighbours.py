"""Modules outside the patch that took, or called, what changes when they were imported.

Found by their text and by identity; what is done about them rests on a source that is verified to
be what runs. Where there is none, only identity can prove where a value came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.calls import Changed, stale_calls
from zdpatch.patcher.edits import ModuleVersions, version
from zdpatch.patcher.importers import importers, source_of
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.spread import stale_in
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`modules`: verified sources, base equal to new, with what is live of them. `rebinds`: names
    in modules without a verified source that surely hold a changed value. `doubts`: (name, holder)
    of those that may.
    """

    modules: list[tuple[ModuleVersions, Inventory]]
    rebinds: list[tuple[Name, Binding]]
    doubts: list[tuple[Name, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """What the plan knows so far: the versions and inventories of its modules, and new values."""

    versions: Mapping[str, ModuleVersions]
    inventories: Mapping[str, Inventory]
    values: Mapping[Name, Value]


def neighbours(changed: Changed, known: Known) -> Neighbours:
    """Modules not in `known` which read a value, or called a function, of `changed`."""
    found = Neighbours([], [], [])
    reaching = changed.through(known.versions)
    decided: set[str] = set(known.versions)
    words = {name.rpartition(".")[2].encode() for _, name in changed.full}
    values = {module for module, _ in changed.values}
    for module in importers({module for module, _ in changed.full}):
        name = _name(module)
        if name in decided:
            continue
        source = source_of(module)
        if source is None or not (values or any(word in source for word in words)):
            continue
        each = _read(name, module, source)
        why = None if each is None else _affected(each, reaching, known)
        if each is None or why is None:
            continue
        decided.add(name)
        taken = inventory.take(module, heap=False)
        if inventory.drift(taken, _code(each)):
            found.doubts.append((why, name))
        else:
            found.modules.append((each, taken))
    found.rebinds.extend(_held(changed, known, decided))
    return found


def _name(module: ModuleType) -> str:
    name = reach.namespace(module).get("__name__")
    return name if type(name) is str else "?"


def _read(name: str, module: ModuleType, source: bytes) -> ModuleVersions | None:
    package = "__path__" in reach.namespace(module)
    path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
    try:
        each = version(name, source, f"<source of {name}>", package=package)
    except (SyntaxError, RecursionError):
        return None
    return ModuleVersions(ModuleChange(name, path, package, source, source), each, each)


def _code(each: ModuleVersions) -> Any:  # noqa: ANN401 - the code of a side that is there
    assert each.base is not None
    return each.base.code


def _affected(each: ModuleVersions, changed: Changed, known: Known) -> Name | None:
    """A changed name that some import-time statement of the module depends on."""
    versions = {**known.versions, each.name: each}
    edits = [*stale_in(each, versions, changed.values)]
    edits += stale_calls(versions, changed, lambda _module, _call: None, only=each.name)
    causes = {why: name for name, why in changed.full.items()}
    return next((causes[edit.cause] for edit in edits if edit.cause in causes), None)


def _held(changed: Changed, known: Known, decided: set[str]) -> Iterator[tuple[Name, Binding]]:
    """Names in modules without a source whose object can only have come from a changed name."""
    for name in changed.values:
        value = known.values.get(name)
        if value is None or "." in name[1] or value.old is MISSING or _shared(value.old):
            continue
        for binding in inventory.bindings(value.old, None):
            holder = _name(binding.module)
            sourceless = source_of(binding.module) is None and not _compiled(binding.module)
            if holder not in decided and sourceless:
                yield name, binding


def _compiled(module: ModuleType) -> bool:
    """An extension or a built-in module: its names come from no import statement."""
    origin = getattr(reach.namespace(module).get("__spec__"), "origin", None)
    return origin in {"built-in", "frozen"} or str(origin).endswith(tuple(EXTENSION_SUFFIXES))


def _shared(value: object) -> bool:
    """True for values of which the interpreter keeps one object for many uses."""
    if type(value) is str:
        return value.isidentifier() or len(value) < 2
    return value is None or type(value) in {bool, int} or (type(value) is tuple and not value)
