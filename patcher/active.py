"""A patch that is in: what was committed of it, what is still to go, and the way back."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from zdpatch.patcher import overlay
from zdpatch.patcher.accounts import taken_away
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.folders import Move, redirect
from zdpatch.patcher.imported_since import imported_since, led_back
from zdpatch.patcher.promises import unkept
from zdpatch.patcher.renewals import closure_steps
from zdpatch.patcher.steps import as_imported
from zdpatch.patcher.swap import Undo, commit, distinct, inverse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from types import CodeType

    from zdpatch.patcher.departures import Departure
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.migrate import Migration
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.shared import Given
    from zdpatch.patcher.slots import Step


@dataclass(eq=False)
class Active:
    """A patch that is in; `before` says how often modules had been executed by then (see
    `imported_since`), `leaving` are names which go when the last old call is over, `tables` what it
    put in the place of tables, `brought` every table that only it has.
    """

    plan: Plan
    undos: list[Undo]
    before: dict[str, int]
    leaving: Departure | None = None
    tables: tuple[Given, ...] = ()
    brought: tuple[Given, ...] = ()
    migration: Migration | None = None

    def settle(self, seconds: float = 0.0) -> bool:
        """Whether no name waits any more, after `seconds` at most."""
        if self.leaving is not None and self.leaving.settle(seconds, self.undos):
            self.leaving = None
        return self.leaving is None

    def way_back(
        self,
        explained: Iterable[CodeType],
        taken: list[Inventory],
        state: Sequence[Step] = (),
    ) -> tuple[list[Step], Sequence[Callable[[], object]]]:
        """The inverse of all that was done, and what was born on trial or imported since; and what
        empties caches. `explained`: codes whose presence active patches explain; `state`: what
        hooks carry back. Raises ProcessError ZDP-209.
        """
        away = taken_away(step for undo in self.undos for step in undo.steps)
        known = (*explained, *chain.from_iterable(away.values()))
        since, caches = imported_since(self.plan, known, self.before)
        moves = (Move(each.package, each.new, each.old) for each in self.plan.moves)
        files = [step for move in moves for step in redirect(move)]
        own = led_back(self._inverses(), [*since, *files, *state])
        closures = closure_steps(self.plan, taken, back=True)
        steps = distinct([*state, *own, *closures, *since, *files])
        if why := unkept(steps):
            raise ProcessError("ZDP-209", why, next="replace the worker")
        return steps, caches

    def _inverses(self) -> list[Step]:
        """What takes back all that was committed of a patch, last first."""
        steps = (step for undo in reversed(self.undos) for step in inverse(undo.steps))
        return [as_imported(step) for step in steps]


def flip(plan: Plan, steps: Sequence[Step]) -> Undo:
    """Commit, as `finder` says."""
    with finder(plan):
        return commit(steps)


@contextmanager
def finder(plan: Plan) -> Generator[None]:
    """For a flip: a refusal leaves no finder behind that was not there."""
    present = any(each is overlay.FINDER for each in sys.meta_path)
    overlay.install()
    try:
        yield
    except BaseException:
        if not present:
            overlay.uninstall()
        raise
    for name, source in plan.linecache.items():
        overlay.remember(name, source)
