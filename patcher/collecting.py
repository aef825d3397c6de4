"""While a plan is made, no full collection of garbage begins for what it makes.

A plan makes some hundred thousand objects and lets go of them again. Counted like those of the
program they would begin full collections, each of which stops all threads while it looks at every
object of the process. What is young is collected as ever.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_Thresholds = tuple[int, int, int]
_RARER: Final = 1_000
_MOST: Final = 2**30
_begun: list[tuple[_Thresholds, _Thresholds]] = []  # ours, and those that were there before


@contextmanager
def no_full_collection() -> Generator[None]:
    """Within the block. A program that sets its thresholds meanwhile keeps what it has set."""
    before = gc.get_threshold()
    # a number that nobody else sets tells whether they are still ours
    ours = (before[0], before[1], min(_MOST, before[2] * _RARER) + 1)
    _begun.append((ours, before))
    gc.set_threshold(*ours)
    try:
        yield
    finally:
        _end()


def after_fork() -> None:
    """In a forked child, where the thread that was in such a block does not exist."""
    while _begun:
        _end()


def _end() -> None:
    ours, before = _begun.pop()
    if gc.get_threshold() == ours:
        gc.set_threshold(*before)
