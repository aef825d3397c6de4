"""A plan that was made is used again while nothing it was made from has changed: who applies what
was planned just now, or plans it once more, waits for a look at copies of modules and at the heap.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.collecting import take_apart
from zdpatch.patcher.errors import Refused
from zdpatch.patcher.shared import filled
from zdpatch.patcher.slots import differing
from zdpatch.patcher.twins import refuse_twins

if TYPE_CHECKING:
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.planner import Planner
    from zdpatch.patcher.source import Patch

_LIVES_S = 60.0


@dataclass(frozen=True, eq=False)
class LastPlan:
    """A plan, and the state of the process that it was made in (see `world`), `at` in monotonic
    seconds. `planner` can look at the heap again, where the plan depends on it.
    """

    plan: Plan
    world: tuple[object, ...]
    at: float
    planner: Planner | None

    @classmethod
    def of(
        cls, plan: Plan, active: tuple[str, ...], planner: Planner | None, at: float | None
    ) -> LastPlan:
        """A plan made now, or at an earlier time. `active`: ids of the patches that are in."""
        now = time.monotonic()
        made = cls(plan, world(plan, active), now if at is None else at, planner)
        if plan.heap_scan:
            return made
        made.let_go()
        return replace(made, planner=None)

    @property
    def old(self) -> bool:
        """Whether nobody may want it any more."""
        return time.monotonic() - self.at >= _LIVES_S

    def still_true(self, patch: Patch, active: tuple[str, ...]) -> bool:
        """Whether it is for `patch`, and nothing it was made from has changed, the heap aside."""
        return (
            self.plan.patch == patch
            and not patch.data  # files are looked at each time
            and not self.old
            and self.world == world(self.plan, active)
            and not differing(self.plan.steps)
            and not filled(self.plan.tables)
        )

    def again(self) -> Plan | None:
        """The plan, with what the heap has now; None when only a new one can tell."""
        with suppress(Refused):  # a new one will say all that stands against it
            refuse_twins(self.plan.patch)
            return self.plan if self.planner is None else self.planner.again()
        return None

    def let_go(self) -> None:
        """Of what only this plan led to, bit by bit."""
        if self.planner is not None:
            take_apart(self.planner)


def world(plan: Plan, active: tuple[str, ...]) -> tuple[object, ...]:
    """What a plan depends on besides its steps and the heap: which modules and patches there are,
    and what the namespaces bind. Where the heap was not asked, also how many functions hold each of
    them (a reload makes more).
    """
    loaded = (sys.modules.get(change.name) for change in plan.patch.changes)
    spaces = [reach.namespace(m) for m in loaded if reach.is_a(m, ModuleType)]  # type: ignore[arg-type]
    bound = tuple(tuple(map(id, list(space.values()))) for space in spaces)
    holders = () if plan.heap_scan else tuple(sys.getrefcount(space) for space in spaces)
    return frozenset(sys.modules), active, bound, holders
