"""A cache round a function holds answers of the old code: it is emptied with the flip.

That is so for a function which changes, and for one which names what changes, directly or through
others. Caches are looked for in the namespaces of modules, and of the classes of a patch. What
`abc` and `singledispatch` remember of classes is forgotten when a class gains or loses a method.
"""

from __future__ import annotations

import functools
from abc import ABCMeta
from importlib import import_module
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from zdpatch.patcher import codes, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.spread import Name

_CACHED: Final = type(functools.lru_cache(len))
_LONGEST_CHAIN: Final = 20
_HOOKS: Final = frozenset({"__subclasshook__", "__instancecheck__", "__subclasscheck__"})
# In C, and for one class: what it has remembered, and not what was registered with it.
_reset: Final = cast("Callable[[type], None]", vars(import_module("_abc"))["_reset_caches"])


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


def changes_kinds(edits: Iterable[Edit]) -> bool:
    """Whether the edits may make a class a virtual subclass of another, or no longer one."""
    return any(
        bool(edit.scope)
        and (edit.kind in {"added", "removed"} or edit.qualname.rpartition(".")[2] in _HOOKS)
        for edit in edits
        if edit.kind in {"added", "removed", "function"}
    )


def forget_kinds() -> None:
    """Empty what the abstract base classes of the process, protocols among them, remember about
    which classes derive from them, and what single dispatch made of it.
    """
    for _, module in reach.modules():
        for _, value in reach.items(reach.namespace(module)):
            if type(value) is FunctionType:
                _forget_dispatch(value)
    for cls in _classes():
        if issubclass(type(cls), ABCMeta):
            _reset(cls)
        for _, value in reach.items(reach.class_dict(cls)):
            if type(value) is functools.singledispatchmethod:
                _forget_dispatch(vars(value).get("dispatcher"))


def _classes() -> Iterator[type]:
    seen: set[int] = set()
    pending: list[type] = [object]
    while pending:
        cls = pending.pop()
        if id(cls) not in seen:
            seen.add(id(cls))
            yield cls
            pending += reach.subclasses(cls)


def _forget_dispatch(function: object) -> None:
    """`functools.singledispatch` keeps a WeakKeyDictionary; its dict is emptied in C."""
    if type(function) is not FunctionType:
        return
    clear = vars(function).get("_clear_cache")
    remembered = getattr(clear, "__self__", None)
    if type(remembered) is WeakKeyDictionary:
        cast("dict[object, object]", vars(remembered)["data"]).clear()
