"""How many objects of a class are alive: counted where garbage collection sees them, estimated by
the references to the class where it does not. No object is asked anything.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import inventory, reach, scan
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HAVE_GC: Final = 1 << 14  # Py_TPFLAGS_HAVE_GC (Include/object.h)
_DESCRIPTORS: Final = (GetSetDescriptorType, MemberDescriptorType)
_bases = type.__dict__["__bases__"].__get__


@dataclass(frozen=True, slots=True)
class Count:
    """Live objects; `sure` is false where there may be fewer."""

    number: int
    sure: bool = True


class _Unused:
    """A class without an object, to tell which references are those of this look itself."""


def count(classes: Iterable[type]) -> Count:
    """Objects of exactly these classes."""
    clear = not reach.frozen()
    wanted = {id(cls): cls for cls in classes}
    seen = {key for key, cls in wanted.items() if clear and cls.__flags__ & HAVE_GC}
    number = sum(1 for _ in scan.of(seen)) if seen else 0
    unseen = [_Unused, *(cls for key, cls in wanted.items() if key not in seen)]
    del wanted
    base, *others = map(_unexplained, unseen) if len(unseen) > 1 else [0]
    most = sum(max(0, each - base) for each in others)
    return Count(number + most, sure=not most)


def _unexplained(cls: type) -> int:
    """References to a class from what is neither its definition, nor seen by the collector and no
    object of it: each of its objects holds one.
    """
    holders = {id(each): each for each in gc.get_referrers(cls) if type(each) is not cls}
    holders |= {id(each): each for each in _defining(cls)}
    known = sum(1 for held in gc.get_referents(*holders.values()) if held is cls)
    return sys.getrefcount(cls) - known


def _defining(cls: type) -> Iterator[object]:
    """What holds a class because it is defined and named, which may be hidden by `gc.freeze`."""
    for each in reach.family(cls):  # itself among them
        yield from (each, mro(each), _bases(each))
    for binding in inventory.bindings(cls):
        yield reach.namespace(binding.module)
    for _, value in reach.items(reach.class_dict(cls)):
        if type(value) in _DESCRIPTORS:
            yield value
        for function in reach.inner_functions(value):
            yield from function.__closure__ or ()
