"""All steps of a commit happen at one instant, of which no thread sees the middle, or none happens.

This is the only writer to live objects. One C loop, which the interpreter does not interrupt, first
compares every slot with what is expected, by identity, and then writes. Replaced values stay alive
in the `Undo`, so that nothing dies, and no finalizer runs, inside the loop. A Python audit hook
would run inside it: its absence is the first thing the loop asks.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import deque
from itertools import chain
from operator import is_
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from zdpatch.patcher import reach
from zdpatch.patcher.errors import BugError, ProcessError
from zdpatch.patcher.slots import (
    MISSING,
    Call,
    Step,
    call,
    check,
    current,
    differing,
    needs_no_audit,
    reader,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Still: TypeAlias = Callable[[], Iterable["Guard"]]

__all__ = [
    "MISSING",
    "Guard",
    "Step",
    "Undo",
    "audited",
    "came_true",
    "check",
    "commit",
    "current",
    "prepare",
]

_audit = cast("Callable[[object], None]", sys.audit)
_true_or_raise = {True: None}.__getitem__
_ACCESS: Final[dict[str, tuple[Any, Any]]] = {
    "class": (type.__setattr__, type.__delattr__),
    "item": (dict.__dict__["__setitem__"], dict.__dict__["__delitem__"]),
    "list": (list.__dict__["__setitem__"], list.__dict__["__delitem__"]),
}
Guard: TypeAlias = tuple[Call, object]
"""A call, C all through, and the very object that it must give."""
_HALF: Final = "The process may be half changed: replace it now."


def audited() -> bool:
    """Whether an audit hook is installed: it would run in the middle of a commit.

    Exact, not a guess: `sys.audit` looks at its arguments only when there is a hook, and calls
    no hook when the event is not text. Hooks of C programs count too.
    """
    try:
        _audit(None)
    except TypeError:
        return True
    return False


def commit(steps: Sequence[Step], still: Still | None = None) -> Undo:
    """Check and write all steps; see `prepare` and `Undo.commit` for what they raise."""
    undo = prepare(steps)
    undo.commit(still)
    return undo


def came_true(steps: Sequence[Step], flip_us: float) -> Undo:
    """What takes `steps` back which came true by several flips, as if it had been one."""
    undo = Undo(tuple(steps))
    undo.committed, undo.flip_us = True, flip_us
    return undo


def prepare(steps: Sequence[Step]) -> Undo:
    """Check the steps and make everything ready, without touching anything. Raises as `check`."""
    check(steps)
    return Undo(tuple(steps))


def distinct(steps: Iterable[Step]) -> list[Step]:
    """Each slot once, by the first step that names it: what several edits say is written once."""
    slots: dict[tuple[int, object], Step] = {}
    for step in steps:
        slots.setdefault((id(step.target), step.name), step)
    return list(slots.values())


def inverse(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that take `steps` back, last first."""
    return tuple(
        Step(s.kind, s.target, s.name, s.expected, s.value, s.what) for s in reversed(steps)
    )


class Undo:
    """Steps that are written together, and can be taken back together, exactly.

    Taking back puts the very objects there that were there before, or removes the names that were
    absent; only the place of a name in the order of its dict is not kept. `steps` are the steps
    as committed; `flip_us` says how long the commit took, in microseconds. `committed` is part of
    the commit itself, so it is right even when Ctrl-C comes as the commit returns.
    """

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.flip_us = 0.0
        self.committed = False
        self._inverse = inverse(steps)

    def commit(self, still: Still | None = None) -> None:
        """Write every step in one instant, or none. `still`, called when all is ready, says what
        must hold in that instant; what it raises ends the commit with nothing changed.

        Raises `ProcessError`: ZDP-203 when a slot does not hold what is expected, ZDP-214 when
        there is an audit hook; `BugError` when a step failed, and all of them were taken back.
        """
        if self.committed:
            raise BugError("ZDP-901", "these steps were committed already")
        self.flip_us = self._flip(self.steps, "ZDP-203", still, committed=True)

    def conflicts(self) -> list[str]:
        """Slots that somebody changed after the commit, in words; empty: it can be reverted."""
        return differing(self._inverse)

    def revert(self) -> float:
        """Put back what was there, in one instant; returns how long it took, in microseconds.

        Raises `ProcessError` with nothing changed: ZDP-209 when there are conflicts, ZDP-214 when
        there is an audit hook.
        """
        if not self.committed:
            raise BugError("ZDP-901", "these steps are not committed")
        return self._flip(self._inverse, "ZDP-209", None, committed=False)

    def _flip(
        self, steps: Sequence[Step], conflict: str, still: Still | None, *, committed: bool
    ) -> float:
        mark = functools.partial(setattr, self, "committed", committed)
        unmark = functools.partial(setattr, self, "committed", not committed)
        return _flip(steps, conflict, mark, unmark, still)


def _flip(
    steps: Sequence[Step], conflict: str, mark: Call, unmark: Call, still: Still | None
) -> float:
    """The one C loop. No line of Python runs between the first comparison and the last write."""
    collecting = gc.isenabled()
    guards = [functools.partial(gc.disable)] if collecting else []
    if any(map(needs_no_audit, steps)):
        guards.append(_guard())
    readers = [reader(step) for step in steps]
    expected = [step.expected for step in steps]
    writers = [*(_writer(step, step.value) for step in steps), mark]
    # What is needed to take it back is made before it is needed.
    takers = [*(_writer(step, step.expected) for step in steps), unmark]
    for each, value in () if still is None else still():
        readers.append(each)
        expected.append(value)
    compared = map(_true_or_raise, map(is_, map(call, readers), expected))
    # Collection goes on again inside the loop: Ctrl-C as the loop ends cannot leave it off.
    ending = [functools.partial(gc.enable)] if collecting else []
    loop = chain(map(call, guards), compared, map(call, writers), map(call, ending))
    done: deque[object] = deque()  # grows by one for each that succeeded, also when one fails
    started = perf_counter_ns()
    try:
        done.extend(loop)
    except BaseException as error:
        written = len(done) - len(guards) - len(readers)
        if written < 0:
            raise _explain(steps, len(done) < len(guards), conflict, error) from error
        _take_back(steps, takers, written)
        if not isinstance(error, Exception):
            raise  # somebody interrupted us as the loop was done
        cause = f"{steps[written].what if written < len(steps) else 'the last step'}: {error}"
        raise BugError("ZDP-901", cause) from error
    finally:
        took = (perf_counter_ns() - started) / 1000
        if collecting:
            gc.enable()
    return took


def _guard() -> Call:
    return functools.partial(_audit, None)


def _explain(
    steps: Sequence[Step], in_guard: bool, conflict: str, error: BaseException
) -> BaseException:
    """The error to raise when the loop ended before its first write."""
    if not isinstance(error, Exception):
        return error
    if in_guard:
        return ProcessError(
            "ZDP-214", "an audit hook is installed: other threads could see the patch half applied"
        )
    found = differing(steps) or ["a value was changed for an instant"]
    return ProcessError(conflict, "; ".join(found))


def _take_back(steps: Sequence[Step], inverse: Sequence[Call], written: int) -> None:
    """Undo the first `written` steps, and the one that failed if it wrote before it failed."""
    failed = steps[written : written + 1]
    if any(current(step) is step.value and step.value is not step.expected for step in failed):
        written += 1
    try:
        deque(map(call, list(reversed(inverse[:written]))), maxlen=0)
    except Exception as error:
        raise BugError("ZDP-901", f"undo of a failed commit: {error}", state=_HALF) from error
    left = differing(steps)
    if left:
        raise BugError("ZDP-901", "undo of a failed commit: " + "; ".join(left), state=_HALF)


def _writer(step: Step, value: object) -> Call:
    """A call, C all through, which puts `value` into the slot, or empties it."""
    target, name = cast("Any", step.target), cast("Any", step.name)
    setter, deleter = _ACCESS.get(step.kind, (setattr, delattr))
    if step.kind == "member":
        return functools.partial(cast("Any", reach.member(target, name)).__set__, target, value)
    if value is MISSING:
        return functools.partial(deleter, target, name)
    return functools.partial(setter, target, name, value)
