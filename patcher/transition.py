"""A patch that goes in, or out, consistently: dispatchers in by one flip, then it waits until the
version that leaves has left, then the plain code in by one flip, as if it had been one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher.blockers import Blocker, Look
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.explained import Holders
from zdpatch.patcher.swap import Undo, commit, inverse, prepare
from zdpatch.patcher.versions import NEW, OLD, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from zdpatch.patcher.consistent import Arrangement
    from zdpatch.patcher.slots import Step
    from zdpatch.patcher.swap import Guard


class Transition:
    """Brings one arrangement in, or takes it back. `flip_us`: microseconds of the last flip."""

    def __init__(self, arranged: Arrangement) -> None:
        self.arranged = arranged
        self.group = Group(
            arranged.changes,
            arranged.beside,
            walk=not arranged.together,
            alone=arranged.alone,
        )
        self.dispatchers = tuple(member.code for member in self.group.members)
        self.flip_us = 0.0
        self._standing: dict[int, FrameType] | None = None
        self._entry: Undo | None = None
        self._last: Look | None = None

    @property
    def entered(self) -> bool:
        """Whether the dispatchers are in."""
        return self._entry is not None and self._entry.committed

    @property
    def side_by_side(self) -> bool:
        """Whether new code runs before old code has left."""
        return not self.arranged.together

    @property
    def turned(self) -> bool:
        """Whether it is on its way back."""
        return self._standing is not None

    def begin(self) -> None:
        """Dispatchers in. Raises as `commit`, with nothing changed."""
        self._entry = prepare([*self.arranged.first, *self.group.steps_in()])
        self._entry.commit()
        self.flip_us = self._entry.flip_us
        self.group.start(NEW if self.side_by_side else OLD)

    def turn(self) -> None:
        """What begins from now on runs old code again; what began on new code ends on it."""
        self.group.turn()
        # the frames are held: another one at the same place would not be told apart
        self._standing = {key: frame for key, (frame, _) in Look(self.group, NEW).inside.items()}

    def blockers(self) -> list[Blocker]:
        """What may still run the version that leaves; nothing: `finish` may be called."""
        found = self._calls()[0]
        return found or (self._holders() if self.side_by_side else [])

    def _calls(self) -> tuple[list[Blocker], Look]:
        look = Look(self.group, self.group.leaving)
        found = look.blockers
        if not self.side_by_side:
            found = [*found, *(each for _, each in look.inside.values())]
        elif self._standing is not None:
            kept = {key: f for key, f in self._standing.items() if key in look.inside}
            self._standing = kept
            found = [*found, *(look.inside[key][1] for key in kept)]
        return found, look

    def _holders(self) -> list[Blocker]:
        """Other functions with the code that leaves, and references that nobody explains."""
        members = self.group.members
        versions = [member.versions[self.group.leaving] for member in members]
        watched = [version.__code__ for version in versions]
        known = {id(version) for version in versions}
        ours = {id(function) for function in (member.change.function for member in members)}
        found = Holders(watched)
        blockers: list[Blocker] = []
        for function in found.functions:
            if id(function) not in known | ours:
                code = function.__code__
                path = f"{function.__module__}:{code.co_qualname}"
                blockers.append(Blocker("function", "", path, code.co_firstlineno))
        for member, count in zip(members, found.unexplained, strict=True):
            if count:
                blockers.append(Blocker("reference", f"{count}", member.change.path))
        return blockers

    def finish(self, *, force: bool = False) -> None:
        """The plain new code in. Raises ProcessError ZDP-205 with nothing changed while there are
        blockers; with `force` not.
        """
        steps = [*self.group.steps_out(NEW), *self.arranged.last]
        if force:
            self._flip(steps)
        elif self.side_by_side:
            self.check()
            self._flip(steps)
        else:
            self._flip(steps, self._nobody_inside)

    def check(self) -> None:
        """Raises ProcessError ZDP-205 while there are blockers."""
        if found := self.blockers():
            raise _not_left(found)

    def _nobody_inside(self) -> list[Guard]:
        """What must hold at the flip. The look is kept, because it refers to code itself."""
        self._last = None
        found, self._last = self._calls()
        if found:
            raise _not_left(found)
        return self._last.still

    def abort(self, steps: Sequence[Step] = ()) -> None:
        """The old code in, at once; calls in flight may see new, then old. `steps` go with it."""
        self._flip([*self.group.steps_out(OLD), *inverse(self.arranged.first), *steps])

    def _flip(self, steps: Sequence[Step], still: Callable[[], list[Guard]] | None = None) -> None:
        self.flip_us = commit(steps, still).flip_us
        self.group.close()
        self._entry = self._last = None


def _not_left(found: list[Blocker]) -> ProcessError:
    more = f" ({len(found)} in all)" if found[1:] else ""
    return ProcessError("ZDP-205", f"{found[0]} has not left{more}")
