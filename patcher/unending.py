"""A call that goes round with an iterator which has no end runs its code for ever.

What a suspended call iterates over is on its stack, which `gc.get_referents` tells.
"""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes
from zdpatch.patcher.reach import is_a

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_ENDLESS: Final = (itertools.count, itertools.cycle, type(iter(int, 1)))
# These end with what they go through, and not before.
_THROUGH: Final = (map, filter, enumerate, itertools.chain, itertools.starmap)
_LONG: Final = 1_000_000  # rounds that nobody waits for
_DEPTH: Final = 4


def unending(call: object, code: CodeType, offset: int) -> bool:
    """Whether a suspended call is in a `for`, at `offset` (`f_lasti`), that does not end."""
    return codes.in_for(code, offset) and any(map(_endless, gc.get_referents(call)))


def _endless(iterator: object, depth: int = _DEPTH) -> bool:
    if is_a(iterator, *_ENDLESS):
        return True
    if is_a(iterator, itertools.repeat, type(iter(range(0)))):
        return _rounds(iterator) > _LONG
    if not depth or not is_a(iterator, *_THROUGH):
        return False
    inner = gc.get_referents(iterator)
    inner += gc.get_referents(*(each for each in inner if type(each) is tuple))  # those of a `map`
    return any(_endless(each, depth - 1) for each in inner)


def _rounds(iterator: object) -> float:
    ask: Callable[[object], int] = type(iterator).__dict__["__length_hint__"]
    try:
        return ask(iterator)
    except TypeError:  # of an `itertools.repeat` without a number
        return float("inf")
