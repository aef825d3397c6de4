"""A look at the heap begins with a list of all objects, which nothing interrupts: so each is
counted and timed. What follows, and letting go of the list, goes bit by bit, and other threads run
between. Where something is frozen, what hides so is looked for too.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.hidden import with_hidden

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

_BIT: Final = 10_000


@dataclass(eq=False)
class Looks:
    """What looks there were, at how many objects and for how long at most: milliseconds in which no
    other thread runs.
    """

    number: int = 0
    objects: int = 0
    longest_ms: float = 0.0


_here: Final = threading.local()


@contextmanager
def counted(looks: Looks) -> Generator[None]:
    """Those of this thread within the block are counted."""
    before = vars(_here).get("looks")
    _here.looks = looks
    try:
        yield
    finally:
        _here.looks = before


def listed() -> list[object]:
    """All objects that garbage collection knows."""
    begun = time.perf_counter()
    tracked: list[object] = gc.get_objects()
    took = (time.perf_counter() - begun) * 1000
    looks: Looks | None = vars(_here).get("looks")
    if looks is not None:
        looks.number += 1
        looks.objects = max(looks.objects, len(tracked))
        looks.longest_ms = max(looks.longest_ms, took)
    return tracked


def objects() -> Iterator[object]:
    """The same and what `gc.freeze` hides of them, each let go of soon after it was given."""
    for some in _bits():
        yield from some


def of(kinds: Collection[int]) -> Iterator[object]:
    """Those of exactly these types, which are told by `id`: a metaclass is not asked anything."""
    wanted = frozenset(kinds).__contains__
    for some in _bits():
        yield from compress(some, map(wanted, map(id, map(type, some))))


def _bits() -> Iterator[list[object]]:
    tracked = with_hidden(listed()) if reach.frozen() else listed()
    for at in range(0, len(tracked), _BIT):
        some = tracked[at : at + _BIT]
        tracked[at : at + _BIT] = [None] * len(some)
        yield some
