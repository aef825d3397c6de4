"""A cache round a function holds answers of the old code: it is emptied with the flip.

That is so for a function which changes, and for one which reads a changed value or calls a changed
function of its module by name. Caches are looked for in the namespaces of modules and classes.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import codes, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.spread import Name

_CACHED: Final = type(functools.lru_cache(len))
_LONGEST_CHAIN: Final = 20


def stale_caches(
    inventories: Mapping[str, Inventory], changed: Iterable[Name]
) -> list[Callable[[], object]]:
    """`cache_clear` of every cache that may hold an old answer.

    `changed`: (module, qualname) of the names with a new value and the functions with new code.
    """
    names: dict[str, set[str]] = {}
    for module, qualname in changed:
        names.setdefault(module, set()).add(qualname)
    return [
        cast("Any", wrapper).cache_clear
        for module, changed_here in names.items()
        if module in inventories
        for wrapper in _wrappers(inventories[module])
        for code in _wrapped(wrapper)
        if code.co_qualname in changed_here or _named(code) & changed_here
    ]


def _wrappers(taken: Inventory) -> Iterator[object]:
    spaces: list[Mapping[str, object]] = [taken.namespace]
    spaces += [reach.class_dict(cls) for group in taken.classes.values() for cls in group]
    for space in spaces:
        for _, value in reach.items(space):
            inner: object = value
            if reach.is_a(value, staticmethod, classmethod):
                inner = cast("staticmethod[..., object]", value).__func__
            if type(inner) is _CACHED:
                yield inner


def _wrapped(wrapper: object) -> Iterator[CodeType]:
    """The code of the function at the end of a chain of `__wrapped__`."""
    each: object = wrapper
    for _ in range(_LONGEST_CHAIN):
        if type(each) is FunctionType and "__wrapped__" not in vars(each):
            yield each.__code__
            return
        if type(each) not in {FunctionType, _CACHED}:
            return
        each = vars(each).get("__wrapped__")


def _named(code: CodeType) -> set[str]:
    """Names that the code, and the code inside it, may look up in its module."""
    return {name for each in codes.walk(code) for name in each.co_names}
