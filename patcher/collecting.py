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
    from collections.abc import Generator, Sequence

# What the middle and the third threshold are meanwhile: primes far from numbers that people write,
# so that what a program makes of them (twice as much, some more) is known again, and far below the
# largest.
_OURS: Final = (13_577_549, 14_630_797)
_NEAR: Final = 1_000
_PARTS: Final = 16
_LARGEST: Final = 2**31 - 1
_WHOLE: Final = frozenset({str, bytes, int, set, frozenset})
_PARTED: Final = frozenset({ast.Module, ast.ClassDef})
_open = 0  # blocks that have not ended
_before: tuple[int, ...] = (0, 0)  # those thresholds as the program has them


@contextmanager
def no_full_collection() -> Generator[None]:
    """Within the block. What a program sets of its thresholds meanwhile stays, and means what it
    would have meant.
    """
    _begin()
    try:
        yield
    finally:
        _end()


def left_behind() -> bool:
    """Whether the program has put back, after a block, what it had read within: see `put_back`."""
    older = gc.get_threshold()[1:]
    return not _open and _meant(older) != older


def put_back() -> None:
    """Set what the program would have, had it never read a threshold of ours."""
    if left_behind():
        young, *older = gc.get_threshold()
        gc.set_threshold(young, *_meant(older))


def after_fork() -> None:
    """In a forked child, where the thread that was in such a block does not exist."""
    global _open  # noqa: PLW0603 - a process has one collector
    _open = 0
    put_back()


def _begin() -> None:
    global _open, _before  # noqa: PLW0603 - a process has one collector
    young, *older = gc.get_threshold()
    _before = _meant(older)
    _open += 1
    gc.set_threshold(young, *map(max, _before, _OURS))


def _end() -> None:
    global _open  # noqa: PLW0603 - a process has one collector
    _open = max(0, _open - 1)
    put_back()


def _meant(older: Sequence[int]) -> tuple[int, ...]:
    """What thresholds would be, had the program not seen ours."""
    return tuple(map(_computed, older, _OURS, _before))


def _computed(threshold: int, ours: int, before: int) -> int:
    """What a threshold that was computed from ours would be of the program's own; else itself."""
    times, rest = divmod(threshold, ours)
    if times and not rest:
        return min(before * times, _LARGEST)
    if abs(threshold - ours) <= _NEAR:
        return max(0, before + threshold - ours)
    part = next((n for n in range(2, _PARTS) if threshold == ours // n), 0)
    return max(1, before // part) if part else threshold


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
