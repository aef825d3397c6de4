"""What one process has of patches, and what can be told of them; nothing here changes any."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from zdpatch.patcher import stacked
from zdpatch.patcher.accounts import left_of, taken_away
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.drain import in_flight
from zdpatch.patcher.running import Running, running
from zdpatch.patcher.served import with_data
from zdpatch.patcher.set_back import set_back
from zdpatch.patcher.source import is_patched
from zdpatch.patcher.standing import standing
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.upkeep import Damage, damaged, mend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from zdpatch.patcher.active import Active
    from zdpatch.patcher.departures import Departure
    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.left import Left
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.shared import Given
    from zdpatch.patcher.slots import Step
    from zdpatch.patcher.source import Patch

# Of an undo: the code it took away by path, its steps, and the tables that the patch had brought.
_Past: TypeAlias = "tuple[dict[str, tuple[CodeType, ...]], tuple[Step, ...], tuple[Given, ...]]"

_REMEMBERED = 8  # undos of which `left` can tell what is left


class Patches:
    """Those of this interpreter. Safe to ask from several threads."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        """`shelf` keeps data files that patches change; without one such patches are refused."""
        self.shelf = shelf
        self._lock = threading.RLock()
        self._active: dict[str, Active] = {}
        self._left: list[Departure] = []
        self._past: dict[str, _Past] = {}

    def active(self) -> tuple[str, ...]:
        """Ids of active patches, in order of application."""
        return tuple(self._active)

    def set_back(self) -> dict[str, list[str]]:
        """What somebody has changed since of what patches had set, by id of the patch."""
        with self._lock:
            return set_back(self._active)

    def damaged(self) -> list[Damage]:
        """Data files that patches serve and somebody has changed since."""
        with self._lock:
            return [*damaged(self._plans().values(), self.shelf)]

    def mend(self) -> list[Damage]:
        """Put those back; the ones that were changed, each with why it still is."""
        with self._lock:
            return [*mend(self._plans().values(), self.shelf)]

    def below(self, patch: Patch) -> tuple[str, ...]:
        """Ids of active patches older than `patch` that change a module which it changes, the
        oldest first.
        """
        plans = list(self._plans().values())
        names = [plan.patch.id for plan in plans]
        older = plans[: names.index(patch.id)] if patch.id in names else plans
        return tuple(plan.patch.id for plan in stacked.below(patch, older))

    def outstanding(self, patch_id: str) -> dict[str, int]:
        """Frames, generators and coroutines that still run code which the patch replaced,
        by path.
        """
        active = self._active.get(patch_id)
        counts: dict[str, int] = {}
        for each in in_flight(active.plan) if active else []:
            counts[each.path] = counts.get(each.path, 0) + 1
        return counts

    def left(self, patch_id: str) -> Left:
        """What is left of the code which a patch, or its undo, took away; by a scan of the heap."""
        with self._lock:
            active = self._active.get(patch_id)
            if active is None:
                gone, past, tables = self._past.get(patch_id, ({}, (), ()))
                waiting = [step.what for each in self._left for step in each.steps]
                return left_of(gone, past, waiting=waiting, tables=tables)
            steps = [step for undo in active.undos for step in undo.steps]
            leaving = active.leaving.steps if active.leaving is not None else ()
            return left_of(
                {**taken_away(steps), **active.plan.watched},
                steps,
                runs=active.plan.runs,
                waiting=(step.what for step in leaving),
            )

    def running(self, name: str, offered: bytes | None = None, since: float = 0.0) -> Running:
        """The source of what runs here as module `name`, if one is found that explains all of it.

        `offered` is compared as well. Files that changed after `since` (unix seconds) are in doubt.
        Raises nothing for what a source holds.
        """
        with self._lock:
            return running(name, offered, self._sources(name), self._known(), since)

    def _sources(self, name: str) -> list[bytes]:
        """What active patches made of a module, the last one first."""
        changes = (c for each in self._active.values() for c in each.plan.patch.changes)
        return [c.new for c in changes if c.name == name and c.new is not None][::-1]

    def standing(self, patch: Patch, adoption: Adoption = NOTHING, since: float = 0.0) -> str:
        """How this process stands to a patch: "base", "absorbed" or "superseded". Files that
        changed after `since` (unix seconds) tell nothing.
        """
        with self._lock:
            active = {change.name: self._sources(change.name) for change in patch.changes}
            found = standing(patch, self._known(), adoption, active, since)
            return with_data(found, patch, self.shelf)

    # ------------------------------------------------------------ for those who change it

    def _plans(self) -> dict[str, Plan]:
        return {name: each.plan for name, each in self._active.items()}

    def _known(self) -> tuple[CodeType, ...]:
        return tuple(code for plan in self._plans().values() for code in plan.explained)

    def _remember(self, patch_id: str, steps: Sequence[Step], tables: tuple[Given, ...]) -> None:
        """Keep what an undo took away, of the last few, so that what is left of it can be told: the
        code of the patch; what its names meant and had been there before is nobody's.

        What it put back is not kept: code that runs again would have a holder nobody can explain.
        """
        away = (s if s.value is MISSING else replace(s, value=None) for s in steps)
        made = {
            path: tuple(code for code in group if is_patched(code.co_filename, patch_id))
            for path, group in taken_away(steps).items()
        }
        self._past[patch_id] = (made, tuple(away), tables)
        while len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]
