"""Who calls functions of a group by name and does not belong to it: outside of any request such a
caller may see old code with one call and new code with the next.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import inventory, reach

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from zdpatch.patcher.versions import Change


def callers(changes: Iterable[Change], beside: Iterable[CodeType]) -> dict[str, list[str]]:
    """For the path of each function that is called so, the paths of who calls it; not those of
    `beside`, which come with the patch.

    Looks at every function that is alive. A method counts as called by who says its name in a
    module that knows its class, or its class's module.
    """
    wanted: dict[str, list[Change]] = {}
    own = {id(code) for code in beside}
    for change in changes:
        wanted.setdefault(change.old.co_name, []).append(change)
        own.add(id(change.function.__code__))
    found: dict[str, set[str]] = {}
    for function in inventory.every_function():
        if id(function.__code__) in own:
            continue
        said = wanted.keys() & {*function.__code__.co_names}
        for change in (each for name in said for each in wanted[name]):
            if _knows(function, change):
                path = f"{function.__module__}:{function.__code__.co_qualname}"
                found.setdefault(change.path, set()).add(path)
    return {path: sorted(names) for path, names in sorted(found.items())}


def _knows(function: FunctionType, change: Change) -> bool:
    """Whether the name that a function says may mean the one that changes."""
    space, home = function.__globals__, change.live().__globals__
    if space is home:
        return True
    read = [space.get(name) for name in function.__code__.co_names]
    if any(value is change.function for value in read):
        return True
    modules = (value for value in read if reach.is_a(value, ModuleType))
    if any(reach.namespace(each) is home for each in modules):  # type: ignore[arg-type]
        return True
    owner = change.old.co_qualname.partition(".")[0]
    known = home.get(owner) if "." in change.old.co_qualname else None
    return known is not None and any(value is known for value in space.values())
