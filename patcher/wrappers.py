"""A wrapper copied what its function said when it was made; the copy follows where it is still the
very object.

`functools.update_wrapper`, `staticmethod`, `classmethod` and `cached_property` copy into the dict
of the wrapper, `property` into a slot. Who wraps whom is read without running anyone's code.
"""

from __future__ import annotations

from functools import cached_property
from gc import get_referents
from types import FunctionType, GetSetDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.slots import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LONGEST_CHAIN: Final = 20
_WRAPPED: Final = "__wrapped__"


class Wrappers:
    """The wrappers which namespaces hold, by the function inside.

    `modules` and `classes`: those of the patch. The classes derived from them are looked at too,
    and functions and caches in the namespaces of all other modules.
    """

    def __init__(self, modules: Iterable[ModuleType], classes: Iterable[type]) -> None:
        self._layers: dict[int, dict[int, object]] = {}
        for value in _held_by_modules(list(modules)):
            self._add(value)
        for value in _held_by_classes(classes):
            self._add(value)

    def of(self, function: FunctionType) -> list[object]:
        """What wraps `function`, directly or not."""
        return list(self._layers.get(id(function), {}).values())

    def _add(self, value: object) -> None:
        chain: list[object] = []
        each: object = value
        while each is not None and len(chain) < _LONGEST_CHAIN:
            if type(each) is FunctionType and chain:
                self._layers.setdefault(id(each), {}).update((id(layer), layer) for layer in chain)
            chain.append(each)
            each = _inside(each)


def _held_by_modules(own: list[ModuleType]) -> Iterator[object]:
    for _, module in reach.modules():
        everything = any(module is each for each in own)
        for _, value in reach.items(reach.namespace(module)):
            made = type(value) is FunctionType and value.__closure__ is not None
            if made or everything or reach.is_a(value, reach.CACHED):
                yield value


def _held_by_classes(classes: Iterable[type]) -> Iterator[object]:
    for cls in reach.family(*classes):
        yield from (value for _, value in reach.items(reach.class_dict(cls)))


def _inside(value: object) -> object:
    """What a wrapper wraps; None when it is not one."""
    if type(value) is FunctionType:
        held = [cast("dict[str, object]", d) for d in get_referents(value) if type(d) is dict]
        # reading `__dict__` would make one where there is none
        has = any(_WRAPPED in d for d in held if d is not value.__globals__)
        return value.__dict__.get(_WRAPPED) if has else None
    if (inner := reach.inner(value)) is not None:
        return inner
    return own_dict(value).get("func" if reach.is_a(value, cached_property) else _WRAPPED)


def own_dict(value: object) -> dict[str, object]:
    """The dict of an instance, read past whatever its class defines; an empty one when it has
    none.
    """
    if reach.is_a(value, *_WITHOUT):
        return {}
    for cls in _mro(type(value)):
        found = reach.class_dict(cls).get("__dict__")
        if found is not None:
            if type(found) is not GetSetDescriptorType:
                return {}
            held: Any = found.__get__(value)
            return held if type(held) is dict else {}  # pyright: ignore[reportUnknownVariableType]
    return {}


_WITHOUT: Final = (str, bytes, int, float, dict, list, tuple, set, type, FunctionType, ModuleType)
_mro = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)


def slot(layer: object, name: str, value: object, what: str) -> Step | None:
    """The step that sets what a wrapper has of its own under `name`; None when it has nothing."""
    if type(layer) is FunctionType:
        return Step("function", layer, name, value, getattr(layer, name), what)
    held = own_dict(layer)
    if name in held:
        return Step("item", held, name, value, held[name], what)
    member = reach.member(layer, name) if reach.is_a(layer, property) else None
    return Step("member", layer, name, value, member.__get__(layer), what) if member else None
