"""A function and a class are at home where they are defined, whatever other names they have."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.fitness import resolved
from zdpatch.patcher.slots import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FunctionType

    from zdpatch.patcher.slots import Step


# A class may have an attribute of this name for its objects.
_module = cast("Callable[[type], object]", type.__dict__["__module__"].__get__)


def path_of(function: FunctionType) -> str:
    """Where a function is defined."""
    return f"{function.__globals__.get('__name__')}:{function.__code__.co_qualname}"


def at_home(functions: Mapping[int, FunctionType]) -> Counter[int]:
    """How often each of some functions, by id, has a name where it is defined; and where it goes on
    to be there, in modules that took it from there by its name.
    """
    found, stays = Counter[int](), {key for key, each in functions.items() if _stays(each)}
    modules = [reach.namespace(module) for _, module in reach.modules()] if functions else []
    classes = inventory.every_class() if functions else []
    for space in (*modules, *map(reach.class_dict, classes)):
        for name, value in reach.items(space):
            key = id(value)
            if (each := functions.get(key)) is None:
                continue
            own = each.__globals__
            here = space is own or space.get("__module__") == own.get("__name__")
            found[key] += here or (key in stays and name == each.__code__.co_name)
    return found


def _stays(function: FunctionType) -> bool:
    found = resolved(str(function.__globals__.get("__name__")), function.__code__.co_qualname)
    return function is found or any(function is each for each in reach.inner_functions(found))


def is_elsewhere(step: Step) -> bool:
    """Whether a name that went was only another one for what a module, or a class, still has."""
    if step.value is not MISSING or step.kind != "item":
        return False
    if reach.is_a(step.expected, type):
        cls = cast("type", step.expected)
        return _has(str(_module(cls)), reach.qualname(cls), step)
    functions = reach.inner_functions(step.expected)
    homes = ((str(f.__globals__.get("__name__")), f.__code__.co_qualname) for f in functions)
    return bool(functions) and all(_has(module, qualname, step) for module, qualname in homes)


def _has(module: str, qualname: str, step: Step) -> bool:
    """Whether that leads to what the step took away, and is not the name which goes."""
    home = sys.modules.get(module)
    going = home is None or (reach.namespace(home) is step.target and qualname == step.name)
    found = None if going else resolved(module, qualname)
    inner = (step.expected, *reach.inner_functions(step.expected))
    return found is not None and any(found is each for each in inner)
