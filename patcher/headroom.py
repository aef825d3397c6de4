"""A dispatcher takes one frame more for each call, so while there are some, a program may recurse
twice as deeply; then the limit is again what it was.

Calls from Python to Python take no room on the stack of C.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zdpatch.patcher.inflight import in_flight

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType


class Headroom:
    """The limit of recursion, raised while there are dispatchers, or calls that stand in one."""

    def __init__(self) -> None:
        self._dispatchers: list[CodeType] = []
        self._before = 0

    @property
    def given(self) -> bool:
        """Whether the limit is raised."""
        return bool(self._before)

    def give(self) -> None:
        """Raise the limit."""
        if not self._before:
            self._before = sys.getrecursionlimit()
            sys.setrecursionlimit(2 * self._before)

    def leave(self, dispatchers: Iterable[CodeType]) -> None:
        """These are in the place of no function any more."""
        self._dispatchers += dispatchers

    def give_back(self, *, last: bool) -> None:
        """Let go of dispatchers in which no call stands. When it is the last of all, put the limit
        back, unless somebody has set another.
        """
        held = {id(code) for code in self._dispatchers if in_flight([code])}
        self._dispatchers = [code for code in self._dispatchers if id(code) in held]
        if not last or held or not self._before:
            return
        if sys.getrecursionlimit() == 2 * self._before:
            try:
                sys.setrecursionlimit(self._before)
            except RecursionError:  # this very call stands deeper than that
                return
        self._before = 0
