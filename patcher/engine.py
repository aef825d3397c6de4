"""One process's patches: planned without effect, applied at one instant, taken back exactly.

The engine does no I/O. Everything it did is in `applied`; whoever owns the engine decides when.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from zdpatch.patcher import collecting, overlay, selftest, stacked
from zdpatch.patcher.active import Active, flip
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.departures import parted
from zdpatch.patcher.drain import drain
from zdpatch.patcher.errors import ProcessError, Refused, ZdpatchError
from zdpatch.patcher.former import holders
from zdpatch.patcher.last_plan import LastPlan
from zdpatch.patcher.left import most
from zdpatch.patcher.migrate import flip_with, hooks_of, not_undone, unlimited
from zdpatch.patcher.patches import Patches
from zdpatch.patcher.planner import Planner, make_plan
from zdpatch.patcher.renewals import born, closure_steps, taken_of
from zdpatch.patcher.served import still_held
from zdpatch.patcher.shared import brought, filled, given
from zdpatch.patcher.swap import Undo, commit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.migrate import Limited, Migration
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.slots import Step
    from zdpatch.patcher.source import Patch


_SETTLE_S = 0.02  # how long an apply or a revert itself waits for calls that began before


class Applied(msgspec.Struct, frozen=True):
    """A patch went in. `flip_us`: microseconds of the flip; `outstanding`: frames on old code by
    path.
    """

    patch: str
    flip_us: float
    functions: int
    steps: int
    outstanding: dict[str, int]
    notices: list[str]


class Reverted(msgspec.Struct, frozen=True):
    """A patch was taken out. `born_on_trial`: what was made by the new code and stays, by path."""

    patch: str
    flip_us: float
    born_on_trial: dict[str, int]


class Engine(Patches):
    """Plans and applies patches to the interpreter it lives in. Safe to call from several
    threads.
    """

    def __init__(self, shelf: Shelf | None = None, limited: Limited = unlimited) -> None:
        """`limited` calls hooks (see `migrate`)."""
        super().__init__(shelf)
        self._limited = limited
        self._made: LastPlan | None = None
        self._failed = tuple(selftest.run())

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that does not exist here."""
        self._lock = threading.RLock()
        collecting.after_fork()

    # ------------------------------------------------------------ planning

    def plan(
        self, patch: Patch, *, drain_s: float | None = 1.0, adoption: Adoption = NOTHING
    ) -> Plan:
        """Decide `patch`; nothing is touched. `adoption`: what is done with what was replaced here.

        Waits up to `drain_s` seconds for frames of functions that change to return: one that does
        not would run old code for ever. None: whoever applies it waits for them. Raises Refused
        (ZDP-2xx, with verdicts) and ProcessError (ZDP-210).
        """
        with self._lock:
            self._check_self()
            self._check_still()
            self._settle_all(drain_s or 0.0)
            made = self._made
            true = made is not None and made.still_true(patch, self.active())
            if made is not None and true and made.plan.adoption == adoption:
                found = made.again()
                if found is not None:
                    return self._keep(found, drain_s, made.planner, made.at)
            planner, found = self._plan_on_top(patch, adoption)
            return self._keep(found, drain_s, planner)

    def _keep(
        self, found: Plan, drain_s: float | None, planner: Planner | None, at: float | None = None
    ) -> Plan:
        """The plan once old calls are over, kept for who plans or applies next. Raises Refused."""
        plan = replace(found, drain_s=drain_s)
        drain(plan, drain_s)
        self._made = None  # what it holds would count as the state of the process
        self._made = LastPlan.of(plan, self.active(), planner, at)
        return plan

    def _let_go(self) -> None:
        """Of the plan made last."""
        made, self._made = self._made, None
        if made is not None:
            made.let_go()

    def _plan_on_top(self, patch: Patch, adoption: Adoption) -> tuple[Planner, Plan]:
        """Of what is there, active patches included. Raises ZDP-204 for one that is in the way."""
        made: Mapping[str, ModuleType] = (
            self._made.plan.modules if self._made and self._made.plan.patch == patch else {}
        )
        self._let_go()
        others = stacked.below(patch, self._plans().values())
        try:
            if others and self.standing(patch, adoption) == "absorbed":
                raise stacked.same_fix(patch, others)
            planner = Planner.of(patch, self._known(), made, adoption, shelf=self.shelf)
            return planner, planner.make()
        except Refused as refusal:
            if found := stacked.in_the_way(patch, refusal, others):
                raise found from refusal
            raise

    def _check_self(self) -> None:
        if self._failed:
            cause = "; ".join(self._failed)
            raise ProcessError(
                "ZDP-210", cause, next="replace the worker: this Python cannot be patched in place"
            )

    def _check_still(self) -> None:
        """Raises ProcessError ZDP-204 while a patch is on its way: none is, with this engine."""

    # ------------------------------------------------------------ applying

    def apply(self, plan: Plan) -> Applied:
        """Flip, when calls of what changes which are running now have returned (see `plan`).

        Raises Refused or ProcessError with the process as it was before.
        """
        with self._lock:
            self._check_new(plan)
            fresh = self._fresh(plan)
            first, leaving = parted(fresh.steps)
            mine, before = brought(first, fresh.modules.values()), overlay.executions()
            tables = given(first, mine)
            migration = hooks_of(fresh, self._limited)
            undo = flip_with(migration, first, partial(flip, fresh))
            return self._arrived(Active(fresh, [undo], before, leaving, tables, mine, migration))

    def _check_new(self, plan: Plan) -> None:
        """Raises ProcessError ZDP-204."""
        self._check_still()
        if plan.patch.id in self._active:
            raise ProcessError("ZDP-204", f"patch {plan.patch.id} is active already")

    def _arrived(self, active: Active) -> Applied:
        """What follows the flip."""
        plan, undo, leaving = active.plan, active.undos[0], active.leaving
        self._active[plan.patch.id] = active
        active.undos += self._catch_up(plan)
        for clear in plan.caches:
            clear()
        if active.migration is not None:
            self._finish(active, active.migration)
        self._let_go()
        notices = [*plan.notices, *holders(plan.steps)]
        if leaving is not None and not active.settle(_SETTLE_S):
            notices.append(f"{leaving.what}: stays until calls that began before are over")
        return Applied(
            plan.patch.id,
            undo.flip_us,
            plan.functions,
            len(plan.steps),
            self.outstanding(plan.patch.id),
            notices,
        )

    def _finish(self, active: Active, migration: Migration) -> None:
        """What hooks do on the new side. Raises Refused ZDP-218 with the process as it was before,
        ProcessError ZDP-307 when it is not.
        """
        name = active.plan.patch.id
        try:
            migration.finish(active.undos)
        except ZdpatchError as error:
            try:
                self._back_out(name)
            except ZdpatchError as failure:
                raise not_undone(name, error, failure) from error
            error.cause = "\n".join([error.cause, *migration.after_undo()])
            raise
        active.undos = migration.lasting(active.undos)

    def _back_out(self, patch_id: str) -> None:
        """As it was, object by object; what new code wrote to since is carried back by hooks."""
        try:
            self._take_back(patch_id, carried=False)
        except ProcessError:
            self._take_back(patch_id)

    def _fresh(self, plan: Plan) -> Plan:
        """The plan if it is true now, or another one of the same patch; without old calls that
        stay. Raises Refused.
        """
        drain(plan, plan.drain_s)  # which takes time: what follows is true at its end
        found = self._now(plan)
        if not plan.covers(found):
            drain(found, plan.drain_s)
        return found

    def _now(self, plan: Plan) -> Plan:
        last = self._made
        mine = last is not None and last.plan is plan
        true = mine and last is not None and last.still_true(plan.patch, self.active())
        if last is not None and true and (again := last.again()) is not None:
            return again
        last = None
        self._let_go()
        known, made = self._known(), plan.modules
        return make_plan(plan.patch, known, made, plan.adoption, shelf=self.shelf)

    def _catch_up(self, plan: Plan) -> list[Undo]:
        """Closures that calls in flight made between the scan and the flip, or still make: bring
        them to the new code.
        """
        steps = closure_steps(plan, taken_of(plan), back=False)
        return [commit(steps)] if steps else []

    # ------------------------------------------------------------ taking back

    def revert(self, patch_id: str) -> Reverted:
        """Put back the very objects that were there, in one flip.

        Raises ProcessError with nothing changed: ZDP-212 when the patch is not active, ZDP-204 when
        a later patch stands on it, ZDP-209 when somebody changed what the patch had set.
        """
        with self._lock:
            self._check_still()
            flip_us, made, held = self._take_back(patch_id)
            # by now nothing but what is remembered holds what the undo took away
            lasting = self.left(patch_id).lasting
            return Reverted(patch_id, flip_us, {**most(made, *lasting), **held})

    def _removable(self, patch_id: str) -> Active:
        """A patch that may be taken out. Raises ProcessError ZDP-212, ZDP-204, ZDP-209."""
        active = self._active.get(patch_id)
        if active is None:
            raise ProcessError("ZDP-212", f"patch {patch_id} is not active in this process")
        stacked.check_top(patch_id, self._plans())
        if conflicts := filled(active.tables):
            raise ProcessError("ZDP-209", "; ".join(conflicts), next="replace the worker")
        return active

    def _take_back(
        self, patch_id: str, *, carried: bool = True
    ) -> tuple[float, dict[str, int], dict[str, int]]:
        """Microseconds of the flip, inner functions that stay on new code, and holders of paths to
        data files. Raises as `revert`.
        """
        active = self._removable(patch_id)
        taken = taken_of(active.plan)
        migration = self._hooks(active) if carried else None
        state = migration.way_back() if migration is not None else []
        back, caches = active.way_back(self._known(), taken, state)
        first, leaving = parted(back)
        undo = commit(first)
        if migration is not None:
            migration.check_back(undo)
            first = list(migration.lasting([undo])[0].steps)
        self._went_out(active, first, caches)
        if leaving is not None and not leaving.settle(_SETTLE_S):
            self._left.append(leaving)
        held = still_held(active.plan)
        if migration is not None:
            held |= dict.fromkeys(migration.after_undo(), 1)
        return undo.flip_us, born(active.plan, taken), held

    def _hooks(self, active: Active) -> Migration | None:
        """Those of a patch that is in, also where there was nothing to carry over as it came."""
        if active.migration is None:
            active.migration = hooks_of(active.plan, self._limited)
            if active.migration is not None:
                active.migration.load()
        return active.migration

    def _went_out(
        self, active: Active, steps: Sequence[Step], caches: Sequence[Callable[[], object]]
    ) -> None:
        """What follows the flip that took a patch out."""
        for clear in (*active.plan.caches, *caches):
            clear()
        del self._active[active.plan.patch.id]
        self._remember(active.plan.patch.id, steps, active.brought)

    # ------------------------------------------------------------ afterwards

    @property
    def waits(self) -> bool:
        """Whether names of removed definitions wait for calls in flight, a plan is kept that nobody
        may want any more, or the program has a collector's threshold of ours; see `settle`.
        """
        kept = self._made is not None and self._made.planner is not None
        kept = kept or collecting.left_behind()
        return kept or bool(self._left) or any(a.leaving for a in self._active.values())

    def settle(self) -> None:
        """Take away names of removed definitions that no call in flight can read any more, a plan
        that has got old, and thresholds of ours.

        The owner asks again later while some wait.
        """
        with self._lock:
            collecting.put_back()
            if self._made is not None and self._made.old:
                self._let_go()
            self._left = [each for each in self._left if not each.settle(0.0)]
            for active in self._active.values():
                active.settle()

    def _settle_all(self, seconds: float) -> None:
        """Before another plan: names that wait would be in its way, so they go in any case."""
        for active in self._active.values():
            if not active.settle(seconds) and active.leaving is not None:
                active.leaving.force(active.undos)
                active.leaving = None
        for each in self._left:
            if not each.settle(seconds):
                each.force()
        self._left.clear()
