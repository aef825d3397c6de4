"""A plan is what one flip will do, with the inverse of each step, and what people are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from zdpatch.patcher import codes
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.errors import Verdict  # noqa: TC001 - msgspec reads it at run time
from zdpatch.patcher.scan import Looks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType

    from zdpatch.patcher.folders import Move
    from zdpatch.patcher.promises import Need
    from zdpatch.patcher.shared import Given
    from zdpatch.patcher.source import Patch
    from zdpatch.patcher.swap import Step


class PlanSummary(msgspec.Struct, frozen=True):
    """A plan for people and for the wire. `verdicts` are objects of path, line, edit, row, reason,
    remedy. The heap was looked at, `heap_objects`, which stopped all threads for `heap_ms` at a
    time; `heap_scan`: what was seen decides, so an apply has to look at all of it again.
    """

    patch: str
    verdicts: list[Verdict]
    modules: list[str]
    functions: int
    steps: int
    heap_scan: bool
    notices: list[str]
    deferred: list[str]
    heap_objects: int = 0
    heap_ms: float = 0.0


@dataclass(frozen=True, eq=False)
class Plan:
    """What one flip will do. `steps` carry their inverses; `caches` are emptied after the flip.

    `watched` maps a definition path to the old code object whose frames and holders are counted;
    `renewed` pairs old with new code of inner functions, whose closures may be made until the flip.
    `moves` say where the data files of packages are from then on, `drain_s` how long calls of what
    changes were waited for.
    """

    patch: Patch
    steps: tuple[Step, ...]
    verdicts: tuple[Verdict, ...]
    functions: int
    heap_scan: bool
    notices: tuple[str, ...]
    deferred: tuple[str, ...]
    caches: tuple[Callable[[], object], ...]
    watched: Mapping[str, tuple[CodeType, ...]]
    renewed: Sequence[tuple[ModuleType, CodeType, CodeType]]
    explained: tuple[CodeType, ...]
    linecache: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    modules: Mapping[str, ModuleType] = field(default_factory=dict[str, ModuleType])
    adoption: Adoption = NOTHING
    moves: tuple[Move, ...] = ()
    tables: tuple[Given, ...] = ()  # that it replaces, with what is in them
    looks: Looks = field(default_factory=Looks)
    drain_s: float | None = 1.0
    cached: tuple[str, ...] = ()  # functions with a cache that is emptied
    carried: tuple[Need, ...] = ()  # what hooks owe objects

    @property
    def runs(self) -> list[str]:
        """Paths of the definitions that run the patch."""
        each = self.watched.items()
        return [path for path, group in each if any(map(codes.is_function_code, group))]

    def covers(self, other: Plan) -> bool:
        """Whether calls of all that another plan changes are calls of what this one does."""
        mine = {id(code) for group in self.watched.values() for code in group}
        return all(id(code) in mine for group in other.watched.values() for code in group)

    def summary(self) -> PlanSummary:
        return PlanSummary(
            self.patch.id,
            list(self.verdicts),
            [change.name for change in self.patch.changes],
            self.functions,
            len(self.steps),
            self.heap_scan,
            list(self.notices),
            list(self.deferred),
            self.looks.objects,
            round(self.looks.longest_ms, 1),
        )
