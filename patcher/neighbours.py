"""Modules outside the patch that took, or called, what changes when they were imported.

Found by their text and by identity; what is done about them rests on a source that is verified to
be what runs. Where there is none, only identity can prove where a value came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.begun import so_far
from zdpatch.patcher.calls import Changed, stale_calls
from zdpatch.patcher.computed import stale_computed
from zdpatch.patcher.holding import Holders
from zdpatch.patcher.importers import importers, source_of
from zdpatch.patcher.indirect import as_methods, classes_of, holder_names, stale_indirect
from zdpatch.patcher.looks import stale_metadata
from zdpatch.patcher.spread import learn, stale_in
from zdpatch.patcher.stars import follow
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import World, mro

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import ModuleType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value
    from zdpatch.patcher.stars import Moved
    from zdpatch.patcher.texts import Texts


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`modules`: verified sources, base equal to new, with what is live of them. `rebinds`: names
    in modules without a verified source that surely hold a changed value. `doubts`: (name, holder)
    of those that may.
    """

    modules: list[tuple[ModuleVersions, Inventory]]
    rebinds: list[tuple[Name, Binding]]
    doubts: list[tuple[Name, str]]


@dataclass(frozen=True, eq=False)
class Known:
    """What the plan knows so far: the versions and inventories of its modules, the live classes,
    new values and edits, and the texts that it has read.
    """

    versions: Mapping[str, ModuleVersions]
    inventories: Mapping[str, Inventory]
    classes: Mapping[Name, type]
    values: Mapping[Name, Value]
    edits: Collection[Edit]
    texts: Texts

    def functions(self) -> dict[Name, str]:
        """The functions of which anything changes, each with its path."""
        return {(e.module, e.qualname): e.path for e in self.edits if e.kind == "function"}

    @cached_property
    def world(self) -> World:
        """What can be traced."""
        spaces = {name: taken.namespace for name, taken in self.inventories.items()}
        return World(self.versions, spaces, self.classes)


def neighbours(changed: Changed, known: Known, stars: Mapping[str, Moved]) -> Neighbours:
    """Modules not in `known` which read a value, or called a function, of `changed`, or take by a
    star import what `stars` says.
    """
    found = Neighbours([], [], [])
    reaching = changed.through(known.versions)
    decided: set[str] = set(known.versions)
    targets = {name: why for name, why in reaching.full.items() if name not in changed.values}
    holders = Holders(known.world, targets, reaching.ran)
    words = _words(changed, reaching, known) | holder_names(holders)
    values = {module for module, _ in changed.values}
    names = {**reaching.full, **changed.made, **known.functions()}
    for module in importers({*stars, *(name[0] for name in names)}):
        name = _name(module)
        if name in decided:
            continue
        source = source_of(module)
        if source is None:
            continue
        hinted = bool(values) or (bool(stars) and b"*" in source)
        if not hinted and not any(word in source for word in words):
            continue
        each = known.texts.as_it_is(name, module, source)
        each = None if each is None else so_far(each, module)
        why = None if each is None else _affected(each, (reaching, holders), known, module, stars)
        if each is None or why is None:
            continue
        decided.add(name)
        taken = inventory.take(module, heap=False)
        if each.base is None or inventory.drift(taken, each.base.written):
            found.doubts.append((why, name))
        else:
            found.modules.append((each, taken))
    found.rebinds.extend(_held(changed, known, decided))
    return found


def _name(module: ModuleType) -> str:
    name = reach.namespace(module).get("__name__")
    return name if type(name) is str else "?"


def _words(changed: Changed, reaching: Changed, known: Known) -> set[bytes]:
    """One of these is in the text of every module that uses what changes when it is imported: a
    name of the definition, of one that comes to it, or of an object of the class.
    """
    if any(name == "__getattr__" for _, name in changed.full):
        return {b""}  # names that it gave are written nowhere
    names = {**reaching.full, **changed.made, **known.functions()}
    words = {part for _, name in names for part in name.split(".")}
    owners = {(m, n.rpartition(".")[0]) for m, n in (*changed.methods, *changed.made)}
    classes = {id(known.classes[name]) for name in owners if name in known.classes}
    for taken in known.inventories.values():
        for name, value in reach.items(taken.namespace) if classes else ():
            if type(name) is str and any(id(cls) in classes for cls in mro(type(value))):
                words.add(name)
    return {word.encode() for word in words}


def _affected(
    each: ModuleVersions,
    reaching: tuple[Changed, Holders],
    known: Known,
    module: ModuleType,
    stars: Mapping[str, Moved],
) -> Name | None:
    """A changed name that some import-time statement of the module depends on."""
    changed, holders = reaching
    for edit in follow(each, stars):
        source, _, name = edit.cause.partition(":")
        return source, name
    versions = {**known.versions, each.name: each}
    if each.new is not None:
        learn(each.new.outline, reach.namespace(module))
    edits = [*stale_in(each, versions, changed.values)]
    edits += stale_calls(versions, changed, lambda _module, _call: None, only=each.name)
    world = known.world.beside(each, reach.namespace(module))
    space = reach.namespace(module)
    world = world.with_classes(classes_of(each.name, space, holders))
    holders = holders.within(world)
    changed = changed.also(as_methods(world, holders))
    edits += stale_computed(versions, changed, world, only=each.name)
    edits += stale_metadata(known.edits, world, only=each.name)
    edits += stale_indirect(versions, holders, only=each.name)
    names = {**changed.full, **changed.made, **changed.methods, **known.functions()}
    causes = {why: name for name, why in names.items()}
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
