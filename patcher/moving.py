"""An engine that brings a patch in, or takes it out, consistently: what has begun ends on the code
it began with, and what begins meanwhile runs the other. One patch at a time is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from zdpatch.patcher import dispatching, overlay
from zdpatch.patcher.active import Active, finder
from zdpatch.patcher.callers import callers
from zdpatch.patcher.consistent import arrange
from zdpatch.patcher.engine import Applied, Engine, Reverted
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.headroom import Headroom
from zdpatch.patcher.imported_since import imported_since
from zdpatch.patcher.left import most
from zdpatch.patcher.migrate import unlimited
from zdpatch.patcher.renewals import born, taken_of
from zdpatch.patcher.served import still_held
from zdpatch.patcher.shared import brought, given
from zdpatch.patcher.swap import came_true
from zdpatch.patcher.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zdpatch.patcher.blockers import Blocker
    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.migrate import Limited
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.slots import Step


class Foreseen(msgspec.Struct, frozen=True):
    """What a consistent apply would do: `group` and `together` as in `Entered`. `callers`: by path,
    who calls functions of the group and does not belong to it. Outside of any request those may
    see old code with one call, and new code with the next.
    """

    group: list[str]
    together: list[str]
    callers: dict[str, list[str]]


class Entered(msgspec.Struct, frozen=True):
    """The dispatchers of a patch are in, to bring it in or, with `leaves`, out.

    `group` are the paths of its functions; `together` says why they flip in one instant in which
    nobody is inside, and is empty when both versions run side by side.
    """

    patch: str
    leaves: bool
    flip_us: float
    group: list[str]
    together: list[str]


@dataclass(eq=False)
class _Moving:
    """A patch on its way in, or with `leaves` on its way out."""

    active: Active
    steps: list[Step]
    transition: Transition
    leaves: bool = False
    caches: Sequence[Callable[[], object]] = ()


class MovingEngine(Engine):
    """As `Engine`, which does at one instant what this one can also do by and by."""

    def __init__(self, shelf: Shelf | None = None, limited: Limited = unlimited) -> None:
        super().__init__(shelf, limited)
        self._moving: _Moving | None = None
        self._headroom = Headroom()

    # ------------------------------------------------------------ on the way

    def foresee(self, plan: Plan) -> Foreseen:
        """What `begin` would do with a plan; nothing is touched. Raises Refused and ProcessError
        as it does.
        """
        _check_hooks(plan)
        _check_dispatching()
        arranged = arrange(plan, plan.steps)
        paths = [change.path for change in arranged.changes]
        return Foreseen(paths, list(arranged.together), callers(arranged.changes, arranged.beside))

    def begin(self, plan: Plan) -> Entered:
        """Put dispatchers in the place of the functions of `plan`: what has begun ends on old code,
        and what begins runs new code, or old code until all of it can flip in one instant.

        `finish` brings the patch in when `blockers` has none any more; `turn` and `abort` lead
        back. One patch at a time. Raises Refused and ProcessError with nothing changed.
        """
        with self._lock:
            self._check_new(plan)
            _check_hooks(plan)
            fresh = self._now(plan)  # calls that stay are waited for on the way
            self._let_go()
            steps = list(fresh.steps)
            mine = brought(steps, fresh.modules.values())
            tables = given(steps, mine)
            active = Active(fresh, [], overlay.executions(), None, tables, mine)
            return self._set_off(_Moving(active, steps, _transition(fresh, steps)))

    def begin_revert(self, patch_id: str) -> Entered:
        """As `begin`, to take a patch out. Raises as `revert`, and Refused."""
        with self._lock:
            self._check_still()
            active = self._removable(patch_id)
            _check_hooks(active.plan)
            back, caches = active.way_back(self._known(), taken_of(active.plan))
            transition = _transition(active.plan, back)
            return self._set_off(_Moving(active, back, transition, leaves=True, caches=caches))

    def _set_off(self, moving: _Moving) -> Entered:
        plan, transition = moving.active.plan, moving.transition
        self._moving = moving
        try:
            with finder(plan):
                transition.begin()
        finally:
            if not transition.entered:
                self._moving = None
        self._headroom.give()
        return Entered(
            plan.patch.id,
            moving.leaves,
            transition.flip_us,
            [member.change.path for member in transition.group.members],
            list(transition.arranged.together),
        )

    def moving(self) -> str | None:
        """The id of the patch that is on its way in or out."""
        return None if self._moving is None else self._moving.active.plan.patch.id

    def blockers(self) -> list[Blocker]:
        """What may still run the version that leaves."""
        with self._lock:
            moving = self._on_its_way()
            self._headroom.give_back(last=False)  # it holds what dispatchers before these called
            return moving.transition.blockers()

    # ------------------------------------------------------------ the end of it

    def turn(self) -> None:
        """Go back consistently: what began on the new side ends there, then `finish` goes back."""
        with self._lock:
            moving = self._on_its_way()
            if moving.transition.side_by_side:
                moving.transition.turn()
            else:
                self._back_at_once(moving)

    def finish(self, *, force: bool = False) -> Applied | Reverted | None:
        """The plain code of the side that it goes to, in one flip, and nothing of the dispatchers
        left; None when it was turned back.

        Raises ProcessError ZDP-205 with nothing changed while there are blockers; with `force` not:
        what they run may see one version, then the other.
        """
        with self._lock:
            moving = self._on_its_way()
            self._headroom.give_back(last=False)
            transition, active = moving.transition, moving.active
            if transition.turned:
                if not force:
                    transition.check()
                self._back_at_once(moving)
                return None
            transition.finish(force=force)
            self._stopped()
            if moving.leaves:
                self._went_out(active, moving.steps, moving.caches)
                return self._reverted(active.plan, transition.flip_us)
            active.undos = [came_true(moving.steps, transition.flip_us)]
            return self._arrived(active)

    def _reverted(self, plan: Plan, flip_us: float) -> Reverted:
        lasting = self.left(plan.patch.id).lasting
        made = most(born(plan, taken_of(plan)), *lasting)
        return Reverted(plan.patch.id, flip_us, {**made, **still_held(plan)})

    def abort(self) -> None:
        """Go back in one flip; calls in flight may see new, then old code."""
        with self._lock:
            self._back_at_once(self._on_its_way())

    def _back_at_once(self, moving: _Moving) -> None:
        steps: Sequence[Step] = ()
        caches: Sequence[Callable[[], object]] = ()
        if not moving.leaves:
            plan, before = moving.active.plan, moving.active.before
            steps, caches = imported_since(plan, self._known(), before)
        moving.transition.abort(steps)
        self._stopped()
        for clear in (*moving.active.plan.caches, *caches):
            clear()

    def _stopped(self) -> None:
        if self._moving is not None:
            self._headroom.leave(self._moving.transition.dispatchers)
            self._moving = None
        self._headroom.give_back(last=True)

    def _on_its_way(self) -> _Moving:
        if self._moving is None:
            raise ProcessError("ZDP-213", "no patch is on its way in or out")
        return self._moving

    def _check_still(self) -> None:
        if self._moving is not None:
            name = self._moving.active.plan.patch.id
            way = "out" if self._moving.leaves else "in"
            raise ProcessError("ZDP-204", f"patch {name} is on its way {way}")

    # ------------------------------------------------------------ afterwards

    def set_back(self) -> dict[str, list[str]]:
        """As `Engine.set_back`; on its way nobody has set back what dispatchers stand for."""
        return super().set_back() if self._moving is None else {}

    @property
    def waits(self) -> bool:
        """As `Engine.waits`; also while calls that are over soon stand in dispatchers."""
        return super().waits or (self._headroom.given and self._moving is None)

    def settle(self) -> None:
        """As `Engine.settle`; and puts the limit of recursion back."""
        with self._lock:
            super().settle()
            if self._moving is None:
                self._stopped()


def _transition(plan: Plan, steps: Sequence[Step]) -> Transition:
    _check_dispatching()
    return Transition(arrange(plan, steps))


def _check_hooks(plan: Plan) -> None:
    """State has one shape at a time. Raises ProcessError ZDP-213."""
    if plan.patch.hooks is not None:
        raise ProcessError(
            "ZDP-213",
            "a patch with hooks goes in and out at one instant, with the state they carry over",
            next="the same command without --consistent",
        )


def _check_dispatching() -> None:
    if failed := dispatching.failed():
        raise ProcessError("ZDP-210", "; ".join(failed), next="apply the patch at one instant")
