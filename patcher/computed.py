"""A value that import-time code computed by way of a method, an operator, a property or an
initialiser which changes is stale; an object that was made so is like any that lived before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.calls import Changed, whole
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.held import HELD
from zdpatch.patcher.spread import Name, was_there
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import Trace, runs_on_load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.tracing import World

_DATA: Final = frozenset({int, float, complex, bool, str, bytes, type(None), range, re.Pattern})


def stale_computed(
    versions: Mapping[str, ModuleVersions], changed: Changed, world: World, only: str = ""
) -> Iterator[Edit]:
    """Edits of kind "stale" for statements, on both sides, that used what changes on objects.

    `only` restricts the statements to those of one module.
    """
    if not changed.full and not changed.methods and not changed.made:
        return
    methods = _Methods(changed)
    for each in [versions[only]] if only else versions.values():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            if item.kind not in {"value", "effect", "function", "class", "import"}:
                continue
            cause = _cause(world, each.name, item, methods)
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="call"
                )


class _Methods:
    """What of classes changes, by class."""

    def __init__(self, changed: Changed) -> None:
        self.changed = changed
        self.by_class: dict[Name, list[tuple[int, Name, str]]] = {}
        for at, (name, why) in enumerate(changed.methods.items()):
            owner = (name[0], name[1].rpartition(".")[0])
            self.by_class.setdefault(owner, []).append((at, name, why))

    def of(self, owners: Set[Name]) -> Iterator[tuple[Name, str]]:
        """(path, path to blame) of what changes in these classes, in the order of the edits."""
        found = (each for owner in self.by_class.keys() & owners for each in self.by_class[owner])
        return ((name, why) for _, name, why in sorted(found))


def _cause(world: World, module: str, item: Item, methods: _Methods) -> str | None:
    itself = item.kind == "function" and _became_data(world, module, item)
    trace = Trace.of(world, module, item, itself=itself)
    if not (trace.functions or trace.kinds or trace.given):
        return None
    definition = item.kind in {"function", "class"} and not itself
    if (cause := _used(trace, methods, definition=definition)) is not None:
        return cause
    if definition or _holds_object(world, module, item):
        return None
    cause = _handed(trace, methods) if item.names else None
    return cause or _reached(trace, item, methods)


def _became_data(world: World, module: str, item: Item) -> bool:
    """Whether a decorator gave plain data for a function: it may have called it."""
    value = world.look(module, item.scope, item.name)
    return value is not MISSING and value is not None and is_data(value)


def _reached(trace: Trace, item: Item, methods: _Methods) -> str | None:
    """What the statement came to through others."""
    changed = methods.changed
    for name in trace.functions:
        known = changed.ran if name in trace.kept else changed.full
        known = known if name not in changed.made else changed.made
        own = item.names or known is not changed.made
        if own and name in known and name not in changed.values:
            return known[name]
    for name in trace.reads & changed.values.keys():
        return changed.values[name]
    for name, why in methods.of(trace.kinds.keys()):
        if name[1].rpartition(".")[2] in trace.methods and _loaded(trace, name):
            return why
    return None


def proven(world: World, edit: Edit, changed: Changed) -> bool:
    """Whether a statement surely keeps what the old code gave: plain data, by a call or operator of
    its own and not through others.
    """
    item = edit.new[-1]
    values = [world.look(edit.module, item.scope, name) for name in item.names]
    if item.kind not in {"value", "import"} or not values or not all(map(is_data, values)):
        return False
    if edit.detail in {"metadata", HELD}:
        return True
    if whole(world.versions[edit.module], item, changed.replaced) is not None:
        return True
    trace = Trace.of(world, edit.module, item)
    return (
        any(name in changed.full or name in changed.made for name in trace.direct)
        or _used(trace, _Methods(changed), definition=False) is not None
    )


def is_data(value: object, depth: int = 4) -> bool:
    """Whether a value is plain data through and through."""
    if type(value) in {tuple, list, set, frozenset}:
        parts = list(cast("list[object]", value))
        return depth > 0 and all(is_data(part, depth - 1) for part in parts)
    if type(value) is dict:
        held = cast("dict[object, object]", value)
        return depth > 0 and all(is_data(part, depth - 1) for part in [*held, *held.values()])
    return type(value) in _DATA


def _used(trace: Trace, methods: _Methods, *, definition: bool) -> str | None:
    """What the statement itself used: a method of an object it names or makes."""
    changed = methods.changed
    for name, why in methods.of(trace.held):
        method = name[1].rpartition(".")[2]
        used = method in trace.used or (method in trace.loads and _loaded(trace, name))
        if used and (not definition or name in changed.outer or name not in changed.full):
            return why
    return None


def _loaded(trace: Trace, name: Name) -> bool:
    """Whether what changes runs, or is the value, when the attribute is loaded."""
    cls = trace.world.classes[name[0], name[1].rpartition(".")[0]]
    space = reach.class_dict(cls)
    method = name[1].rpartition(".")[2]
    return method not in space or runs_on_load(space[method])


def _handed(trace: Trace, methods: _Methods) -> str | None:
    """A special method that changes, of an object which code that is not followed was given."""
    for name, why in methods.of(trace.given):
        if name[1].rpartition(".")[2].startswith("__"):
            return why
    return None


def _holds_object(world: World, module: str, item: Item) -> bool:
    """Whether the statement bound objects of the patch's classes: their state is their own."""
    values = [world.look(module, item.scope, name) for name in item.names]
    return bool(values) and all(value is MISSING or world.kinds(value) for value in values)
