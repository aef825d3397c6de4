"""What a patch had set, and somebody has changed since: a hot reloader, a mock that ends, settings.

A slot that holds again what it held before the patch was set back. What a program may set by itself
(a constant, an entry of a table) is no news while it holds something else.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.slots import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.active import Active
    from zdpatch.patcher.slots import Step

# What a function does; nobody sets these but to change that.
_DOES: Final = frozenset({"__code__", "__defaults__", "__kwdefaults__"})


def set_back(patches: Mapping[str, Active]) -> dict[str, list[str]]:
    """By id of a patch, in words, what of it is not in any more. `patches`: in the order in which
    they came; what a later one has changed is not set back by that.
    """
    later = set[tuple[int, object]]()
    found: dict[str, list[str]] = {}
    for patch_id, active in reversed(list(patches.items())):
        steps = [step for undo in active.undos for step in undo.steps]
        slots = [step.what for step in steps if _slot(step) not in later and _is_back(step)]
        later.update(map(_slot, steps))
        names = [path for path in _old(active) if f"{path}.__code__" not in slots]
        if slots or names:
            words = [f"{path} (another function, with old code)" for path in names]
            found[patch_id] = sorted({*slots, *words})
    return found


def _slot(step: Step) -> tuple[int, object]:
    return id(step.target), step.name


def _is_back(step: Step) -> bool:
    now = current(step)
    if now is step.value:
        return False
    return now is step.expected or (step.kind == "function" and step.name in _DOES)


def _old(active: Active) -> Iterator[str]:
    """Definitions whose name leads to a function that runs code which the patch replaced."""
    for path, group in active.plan.watched.items():
        replaced = set(map(id, group))
        if any(id(function.__code__) in replaced for function in _named(path)):
            yield path


def _named(path: str) -> list[FunctionType]:
    """The functions that "module:qualname" leads to now, by namespaces alone."""
    module, _, qualname = path.partition(":")
    place: object = sys.modules.get(module)
    for name in qualname.split("."):
        if isinstance(place, ModuleType):
            place = reach.namespace(place).get(name)
        elif isinstance(place, type):
            place = reach.class_dict(place).get(name)
        else:
            return []
    return reach.inner_functions(place)
