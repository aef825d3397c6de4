"""A cache round a function holds answers of the old code: it is emptied with the flip.

That is so for a function which changes, and for one which names what changes, directly or through
others. Caches are looked for in the namespaces of modules, and of the classes of a patch.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import codes, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zdpatch.patcher.spread import Name

_CACHED: Final = type(functools.lru_cache(len))
_LONGEST_CHAIN: Final = 20


def stale_caches(classes: Iterable[type], changed: Iterable[Name]) -> list[Callable[[], object]]:
    """`cache_clear` of every cache that may hold an old answer, in any module and in `classes`.

    `changed`: (module, qualname) of the names with a new value, of the functions with new code,
    and of the functions which reach one of these.
    """
    names = {qualname.rpartition(".")[2] for _, qualname in changed}
    if not names:
        return []
    spaces: list[Mapping[str, object]] = [reach.namespace(module) for _, module in reach.modules()]
    spaces += [reach.class_dict(cls) for cls in classes]
    return [
        cast("Any", wrapper).cache_clear
        for wrapper in _wrappers(spaces)
        for code in _wrapped(wrapper)
        if code.co_name in names or _named(code) & names
    ]


def _wrappers(spaces: Iterable[Mapping[str, object]]) -> Iterator[object]:
    seen: set[int] = set()
    for space in spaces:
        for _, value in reach.items(space):
            inner: object = value
            if reach.is_a(value, staticmethod, classmethod):
                inner = cast("staticmethod[..., object]", value).__func__
            if type(inner) is _CACHED and id(inner) not in seen:
                seen.add(id(inner))
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
