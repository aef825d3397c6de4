"""What a plan makes is gone with it, without stopping threads to collect it or to let go of it.

A plan makes some hundred thousand objects and lets go of them again. Collected like those of the
program they would be moved among the old ones, and begin full collections, each of which stops all
threads while it looks at every object of the process: only what is young is collected meanwhile.
Nothing that it keeps leads back to itself, so that it goes by the count of references, and that a
little at a time.
"""

from __future__ import annotations

import ast
import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_Thresholds = tuple[int, int, int]
_RARER: Final = 1_000
_MOST: Final = 2**30
_WHOLE: Final = frozenset({str, bytes, int, set, frozenset})
_PARTED: Final = frozenset({ast.Module, ast.ClassDef})
_begun: list[tuple[_Thresholds, _Thresholds]] = []  # ours, and those that were there before


@contextmanager
def no_full_collection() -> Generator[None]:
    """Within the block. A program that sets its thresholds meanwhile keeps what it has set."""
    before = gc.get_threshold()
    # numbers that nobody else sets tell whether they are still ours
    ours = (before[0], _rarer(before[1]), _rarer(before[2]))
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


def take_apart(owner: object) -> None:
    """Leave an object without attributes, and let go of what only these led to, bit by bit.

    Another thread waits for one statement of a source, not for all that was made of all of them.
    """
    things: list[object] = [*vars(owner).values()]
    vars(owner).clear()
    while things:
        thing = things.pop()
        kind = type(thing)
        if kind in _WHOLE or (issubclass(kind, ast.AST) and kind not in _PARTED):
            continue
        if sys.getrefcount(thing) == 2:  # the variable, and the argument
            things += gc.get_referents(thing)


def _rarer(threshold: int) -> int:
    return min(_MOST, max(1, threshold) * _RARER) + 1


def _end() -> None:
    ours, before = _begun.pop()
    if gc.get_threshold() == ours:
        gc.set_threshold(*before)
