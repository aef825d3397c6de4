"""A value that import-time code computed by way of a method, an operator, a property or an
initialiser which changes is stale; an object that was made so is like any that lived before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.calls import Changed, whole
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.spread import Name, was_there
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import Trace, runs_on_load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.outline import Item
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
    for each in [versions[only]] if only else versions.values():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            if item.kind not in {"value", "effect", "function", "class", "import"}:
                continue
            cause = _cause(world, each.name, item, changed)
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="call"
                )


def _cause(world: World, module: str, item: Item, changed: Changed) -> str | None:
    trace = Trace.of(world, module, item)
    definition = item.kind in {"function", "class"}
    if (cause := _used(trace, changed, definition=definition)) is not None:
        return cause
    if definition or _holds_object(world, module, item):
        return None
    cause = _handed(trace, changed) if item.names else None
    return cause or _reached(trace, item, changed)


def _reached(trace: Trace, item: Item, changed: Changed) -> str | None:
    """What the statement came to through others."""
    for name in trace.functions:
        known = changed.full if name not in changed.made else changed.made
        if name in known and name not in changed.values and (item.names or known is changed.full):
            return known[name]
    for name in trace.reads & changed.values.keys():
        return changed.values[name]
    for (owner_module, path), why in changed.methods.items():
        owner, _, method = path.rpartition(".")
        reached = method in trace.methods and (owner_module, owner) in trace.kinds
        if reached and _loaded(trace, (owner_module, path)):
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
    if edit.detail == "metadata":
        return True
    if whole(world.versions[edit.module], item, changed.replaced) is not None:
        return True
    trace = Trace.of(world, edit.module, item)
    return (
        any(name in changed.full or name in changed.made for name in trace.direct)
        or _used(trace, changed, definition=False) is not None
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


def _used(trace: Trace, changed: Changed, *, definition: bool) -> str | None:
    """What the statement itself used: a method of an object it names or makes."""
    for (module, path), why in changed.methods.items():
        owner, _, method = path.rpartition(".")
        name: Name = (module, path)
        used = (module, owner) in trace.held and (
            method in trace.used or (method in trace.loads and _loaded(trace, name))
        )
        if used and (not definition or name in changed.outer or name not in changed.full):
            return why
    return None


def _loaded(trace: Trace, name: Name) -> bool:
    """Whether what changes runs, or is the value, when the attribute is loaded."""
    cls = trace.world.classes[name[0], name[1].rpartition(".")[0]]
    space = reach.class_dict(cls)
    method = name[1].rpartition(".")[2]
    return method not in space or runs_on_load(space[method])


def _handed(trace: Trace, changed: Changed) -> str | None:
    """A special method that changes, of an object which code that is not followed was given."""
    for (module, path), why in changed.methods.items():
        owner, _, method = path.rpartition(".")
        if (module, owner) in trace.given and method.startswith("__"):
            return why
    return None


def _holds_object(world: World, module: str, item: Item) -> bool:
    """Whether the statement bound objects of the patch's classes: their state is their own."""
    values = [world.look(module, item.scope, name) for name in item.names]
    return bool(values) and all(value is MISSING or world.kinds(value) for value in values)
