"""All ways by which a statement that has run may have got something from what changes.

Each way is a module; here they are put together, and what a changed default does not reach is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.calls import stale_calls
from zdpatch.patcher.computed import stale_computed
from zdpatch.patcher.decorated import stale_decorated
from zdpatch.patcher.indirect import as_methods, holders_of, stale_indirect
from zdpatch.patcher.left_out import Takers, only_defaults
from zdpatch.patcher.looks import stale_metadata
from zdpatch.patcher.snapshots import stale_snapshots

if TYPE_CHECKING:
    from zdpatch.patcher.calls import Changed, Resolve
    from zdpatch.patcher.decisions import Decisions
    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.texts import Texts
    from zdpatch.patcher.tracing import World


@dataclass(frozen=True)
class Stale:
    """One search. `method` gives the method that a call on a live object ran, as for
    `stale_calls`.
    """

    decisions: Decisions
    world: World
    texts: Texts
    method: Resolve

    def found(self) -> tuple[list[Edit], Changed]:
        """Edits of kind "stale", and what changes for those who look for its users."""
        decisions = self.decisions
        every, changed = self._by(decisions.changes())
        defaults = only_defaults(decisions.edits) if every else []
        if defaults:
            surely = {edit.path for edit in self._by(decisions.changes(defaults))[0]}
            surely |= {edit.path for edit in self._decorated(changed)}
            takers = Takers(defaults, self.world.versions)
            every = [e for e in every if e.path in surely or takers.take(e.new[-1].node)]
        return every, changed

    def _by(self, changed: Changed) -> tuple[list[Edit], Changed]:
        """Those by way of what changes, and that with methods which are under another name too."""
        edits, live, world = self.decisions.edits, self.world.versions, self.world
        stale = list(stale_calls(live, changed, self.method))
        holders = holders_of(changed, live, world)
        changed = changed.also(as_methods(world, holders))
        more = [*stale_computed(live, changed, world), *stale_metadata(edits, world)]
        more += [*stale_snapshots(edits, world), *self._decorated(changed)]
        for found in (more, stale_indirect(live, holders)):
            known = {e.path for e in [*stale, *edits] if e.kind in {"stale", "value"}}
            stale += [edit for edit in found if edit.path not in known]
        return stale, changed

    def _decorated(self, changed: Changed) -> list[Edit]:
        return list(stale_decorated(changed, self.world, self.texts))
