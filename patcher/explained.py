"""Every reference to code that has left is explained, or somebody may still run it.

A function holds its code, a generator that is alive or has ended, a frame that a traceback keeps,
the code around it. What `gc.freeze` hides, and calls that stand in C, show in the count alone.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from itertools import chain
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, reach, scan
from zdpatch.patcher.inflight import suspended_call
from zdpatch.patcher.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# CPython 3.11 keeps the code of a generator twice: beside its frame, too.
_TWICE: Final = sys.version_info < (3, 12)


class Holders:
    """Who refers to each of `watched`. `functions` are those which run one of them; `unexplained`
    counts the references that nobody found explains, by place in `watched`.
    """

    def __init__(self, watched: list[CodeType]) -> None:
        self._known: Counter[int] = Counter()
        self.functions: list[FunctionType] = []
        wanted = {id(code) for code in watched}
        everything = list(scan.objects())  # itself, too: it is cleared in the end
        holders = everything if reach.frozen() else gc.get_referrers(*watched)
        for holder in holders:
            if holder is not everything:
                self._count(gc.get_referents(holder), wanted)
                if type(holder) is FunctionType:
                    self.functions.append(holder)
        self._behind(everything, wanted)
        self._around(everything, wanted)
        # one more is the argument; the list itself is a holder like others
        self.unexplained = [
            max(0, sys.getrefcount(watched[at]) - 1 - self._known[id(watched[at])])
            for at in range(len(watched))
        ]
        everything.clear()

    def _count(self, held: Iterable[object], wanted: Collection[int]) -> None:
        self._known.update(id(each) for each in held if id(each) in wanted)

    def _behind(self, everything: list[object], wanted: Collection[int]) -> None:
        """What generators, and plans, hold beside what they show to collection."""
        for thing in everything:
            if type(thing) is Plan:  # tuples of nothing but code are hidden from collection
                hidden = (each for each in thing.watched.values() if not gc.is_tracked(each))
                self._count(chain.from_iterable(hidden), wanted)
            found = suspended_call(thing)
            if found is not None and id(found[0]) in wanted and (_TWICE or found[1] is None):
                self._known[id(found[0])] += 1

    def _around(self, everything: list[object], wanted: Collection[int]) -> None:
        """The code that an inner function's code is a constant of."""
        around: dict[int, CodeType] = {}
        for thing in everything:
            if type(thing) is FunctionType:
                around |= {id(code): code for code in codes.walk(thing.__code__)}
        for code in around.values():
            self._count((each for each in code.co_consts if type(each) is CodeType), wanted)
