"""Modules outside the patch that took a changed value when they were imported, found by identity
and confirmed by their verified source.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.diff import ModuleVersions, version
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`modules`: verified sources, base equal to new, with what is live of them. `rebinds`: names
    in
    modules without a verified source that surely hold a changed value. `doubts`: those that may.
    """

    modules: list[tuple[ModuleVersions, Inventory]]
    rebinds: list[tuple[Name, Binding]]
    doubts: list[tuple[Name, Binding]]


def neighbours(
    changed: Iterable[Name],
    values: Mapping[Name, Value],
    versions: Mapping[str, ModuleVersions],
    inventories: Mapping[str, Inventory],
) -> Neighbours:
    """Modules not in `versions` which bind a changed module-level value, or the module it is in."""
    found = Neighbours([], [], [])
    known: dict[str, bool] = dict.fromkeys(versions, True)
    names = [name for name in changed if "." not in name[1] and name[0] in inventories]
    words = {module.rpartition(".")[2] for module, _ in names}
    for name in names:
        for binding in _holders(name, values[name].old, inventories):
            holder = _name(binding)
            if holder not in known:
                verified = _verified(holder, binding.module)
                known[holder] = verified is not None
                if verified is not None and _mentions(verified[0], words):
                    found.modules.append(verified)
            if not known[holder] and not reach.is_a(_held(binding), ModuleType):
                _unverified(found, name, binding)
    return found


def _holders(name: Name, old: object, inventories: Mapping[str, Inventory]) -> list[Binding]:
    module, own = name
    held = inventory.bindings(inventories[module].module, None)
    if old is not MISSING:
        held += inventory.bindings(old, {own} if _shared(old) else None)
    return [each for each in held if _name(each) not in {module, "__main__"}]


def _name(binding: Binding) -> str:
    name = reach.namespace(binding.module).get("__name__")
    return name if type(name) is str else "?"


def _held(binding: Binding) -> object:
    return reach.namespace(binding.module).get(binding.name)


def _unverified(found: Neighbours, name: Name, binding: Binding) -> None:
    """Identity proves where a value came from, unless the interpreter shares the object among its
    many uses.
    """
    if not _shared(_held(binding)):
        found.rebinds.append((name, binding))
    elif not _compiled(binding.module) and f"{name[0].rpartition('.')[2]}" in (
        _text(binding.module) or ""
    ):
        found.doubts.append((name, binding))


def _compiled(module: ModuleType) -> bool:
    """An extension or a built-in module: its names come from no import statement."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or "built-in"
    return origin in {"built-in", "frozen"} or origin.endswith(tuple(EXTENSION_SUFFIXES))


def _shared(value: object) -> bool:
    """True for values of which the interpreter keeps one object for many uses: identity proves
    nothing.
    """
    return value is None or type(value) in {bool, int} or value in ((), "", b"") or _interned(value)


def _interned(value: object) -> bool:
    return type(value) is str and (value.isidentifier() or len(value) < 2)


def _text(module: ModuleType) -> str | None:
    spec = reach.namespace(module).get("__spec__")
    loader, name = getattr(spec, "loader", None), getattr(spec, "name", None)
    try:
        text = loader.get_source(name)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001 - loaders are foreign code, and a source is only a hint
        return None
    return text if isinstance(text, str) else None


def _mentions(each: ModuleVersions, words: set[str]) -> bool:
    """Whether the source could import from a module with one of these last names."""
    text = each.change.new or b""
    return b"from ." in text or any(word.encode() in text for word in words)


def _verified(name: str, module: ModuleType) -> tuple[ModuleVersions, Inventory] | None:
    """The module with its own source on both sides, when that source is what really runs."""
    text = _text(module)
    if text is None:
        return None
    source = text.encode()
    package = "__path__" in reach.namespace(module)
    try:
        each = version(name, source, f"<source of {name}>", package=package)
    except SyntaxError:
        return None
    taken = inventory.take(module, heap=False)
    if inventory.drift(taken, each.code):
        return None
    path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
    return ModuleVersions(ModuleChange(name, path, package, source, source), each, each), taken
