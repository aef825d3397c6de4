"""A patch that is decided is judged by what is alive in the process, and becomes a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher import codes
from zdpatch.patcher.compared import kept
from zdpatch.patcher.conditions import Conditions
from zdpatch.patcher.defaults_of_fields import unused_defaults
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.identity import disturbed, suspects
from zdpatch.patcher.leftovers import leftovers
from zdpatch.patcher.owned import states
from zdpatch.patcher.plan import Plan
from zdpatch.patcher.reaching import Reaching
from zdpatch.patcher.refilled import filled_from, made_before, refilled
from zdpatch.patcher.replaced import restored, touches, wrapped
from zdpatch.patcher.rows import MIGRATE
from zdpatch.patcher.shared import replaced_tables
from zdpatch.patcher.steps import Builder
from zdpatch.patcher.swap import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.decisions import Decisions
    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.scan import Looks
    from zdpatch.patcher.situation import Situation
    from zdpatch.patcher.source import Patch
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Stage


@dataclass(eq=False)
class Decided:
    """What the texts of a patch, and the values in the process, come to so far. `rebinds`: names
    elsewhere that hold a changed value; `told`, and `said` by module and line, is for people;
    `looks` counts those at the heap.

    `versions` and `inventories` have the modules around the patch that took a changed value, too.
    """

    patch: Patch
    situation: Situation
    versions: dict[str, ModuleVersions]
    inventories: dict[str, Inventory]
    stage: Stage
    decisions: Decisions
    undo: bool
    rebinds: list[tuple[Name, Binding]]
    told: list[str]
    said: dict[tuple[str, int], str]
    looks: Looks

    def live(self) -> dict[str, ModuleVersions]:
        """The versions of loaded modules."""
        return {name: each for name, each in self.versions.items() if name in self.inventories}


class Judgement:
    """One look at what is alive."""

    def __init__(self, decided: Decided) -> None:
        self.decided = decided
        self.situation, self.decisions = decided.situation, decided.decisions
        self.versions, self.inventories = decided.versions, decided.inventories
        self.stage = decided.stage
        self._told, self._restores = [*decided.told], list[Step]()
        self._conditions = Conditions(
            decided.versions,
            decided.inventories,
            decided.decisions.edits,
            decided.situation.removed,
            decided.stage.values,
        )

    def plan(self) -> Plan:
        """The plan. Raises Refused with every verdict when anything stands against it."""
        self._check_removed()
        self.situation.check_drift(self.inventories)
        self.decisions.check_needs(self._conditions)
        self._check_identity()
        self._check_states()
        self._check_adopted()
        self.decisions.refuse()
        self._tell_made_before()
        return self._build()

    def _check_adopted(self) -> None:
        """What is left alone must not be what the patch changes; what is put back must be there."""
        for path, found in self.situation.adopted.items():
            module = path.partition(":")[0]
            taken, base = self.inventories[module], self.versions[module].base
            assert base is not None
            touching = [edit for edit in self.decisions.edits if touches(edit, path)]
            if path in self.situation.adoption.replace:
                step = restored(found, taken, base)
                if isinstance(step, Step):
                    self._restores.append(step)
                    self._told.append(f"{path} is put back: {found.what}")
                else:
                    verdict = Verdict(path, found.line, "drift", "X", step, "replace the worker")
                    self.decisions.extra.append(verdict)
            elif touching and not wrapped(found, taken, base):
                why = f"{found.what}; the patch changes it, so it cannot be left alone"
                self.decisions.against(
                    touching[0], "X", f"{why} (--replace {path} puts the base's back)"
                )
            else:
                more = "; what it wraps is patched" if touching else ""
                self._told.append(f"{path} is left alone: {found.what}{more}")
        for path in sorted(self.situation.adoption.paths - self.situation.adopted.keys()):
            self._told.append(f"{path} was not replaced here, or the patch has no such module")

    def _check_removed(self) -> None:
        """A module goes only when nothing outside of it holds it, or what it defines."""
        for name in self.situation.removed:
            for path, why in self._conditions.removed_in_use(name, self.situation.removed):
                verdict = Verdict(path, 1, "removed module", "X", why, "replace the worker")
                self.decisions.extra.append(verdict)

    def _reaching(self) -> Reaching:
        """Whether live functions come to something that changes."""
        changed = self.decisions.changes()
        names = {**changed.full, **changed.made, **changed.methods}
        for name in unused_defaults(self.decisions.edits, self.stage.classes):
            names.pop(name, None)
        spaces = {name: each.namespace for name, each in self.inventories.items()}
        return Reaching(names, spaces, self.stage.classes)

    def _check_identity(self) -> None:
        """Hashes, equality and order of live objects stay what they are."""
        if self.decisions.refused or self.decided.undo:
            return
        touched = {(edit.module, edit.scope) for edit in self.decisions.edits}
        owners = [cls for name, cls in self.stage.classes.items() if name in touched]
        reaching = self._reaching()
        found = suspects(reaching, owners)
        self._conditions.heap_scan |= bool(found)
        for path, why in disturbed(reaching, found) if found else ():
            edit = next(
                (e for e in self.decisions.edits if path in {e.path, e.cause}),
                self.decisions.edits[0],
            )
            self.decisions.against(edit, "R", why)

    def _check_states(self) -> None:
        """What lives as the value of a constant is still what code compares it with."""
        if self.decisions.refused or self.decided.undo:
            return
        changed = self.decisions.changed
        found = kept(changed, self.decided.live())
        self._conditions.heap_scan |= any(each.owner[1] for each in found)
        for name, why in states(found, self.inventories, self.stage.values):
            edits = self.decisions.edits
            edit = next((e for e in edits if changed[name] in {e.path, e.cause}), edits[0])
            self.decisions.against(edit, "M", why, remedy=MIGRATE)

    def _tell_made_before(self) -> None:
        """Objects that live keep what an initialiser gave them which changes."""
        makers = filled_from(self.decisions.changed, self.decided.live())
        makers |= refilled(self.decisions.edits, self.decided.live())
        self._conditions.heap_scan |= bool(makers)
        self._told += made_before(makers, self.inventories)

    # ------------------------------------------------------------ building

    def _build(self) -> Plan:
        builder = Builder(self.situation, self.versions, self.inventories, self.stage)
        builder.build(self.decisions.edits, self.decided.rebinds)
        served = self.situation.served
        builder.refusals += served.against(builder.answers)
        if builder.refusals:
            first = builder.refusals[0]
            cause = f"{first.path} (line {first.line}): {first.reason}"
            raise Refused("ZDP-202", cause, tuple(builder.refusals))
        heap = self._conditions.heap_scan or builder.copies.scanned
        heap = heap or any(each.heap for each in self.inventories.values())
        heap = heap or bool(self.decided.patch.data)
        heap = heap or any(codes.kind(c) != "function" for g in builder.watched.values() for c in g)
        return Plan(
            self.decided.patch,
            (*self._restores, *builder.steps, *served.steps()),
            (*(each.verdict for each in self.decisions.all), *served.verdicts()),
            builder.functions,
            heap,
            tuple(self._notices(builder, heap=heap)),
            tuple(self._deferred()),
            tuple(builder.caches),
            builder.watched,
            tuple(builder.renewed),
            tuple(builder.explained),
            self.situation.linecache(),
            self.stage.newcomers.modules,
            self.situation.adoption,
            served.moves,
            replaced_tables(builder.steps),
            looks=self.decided.looks,
            cached=tuple(builder.cached),
            carried=tuple(self.decisions.carried),
        )

    def _deferred(self) -> list[str]:
        waiting = [
            name for name in self.situation.added if name not in self.stage.newcomers.modules
        ]
        return [*self.situation.deferred, *waiting]

    def _notices(self, builder: Builder, *, heap: bool) -> Iterator[str]:
        if builder.functions > 1:
            yield (
                f"{builder.functions} functions flip at one instant; "
                "calls in flight may see old, then new"
            )
        if heap:
            yield (
                "the heap is scanned for objects, closures and suspended calls, now and when this "
                "is applied, which stops all threads for a moment"
            )
        for name in self._deferred():
            yield f"{name} is not imported here yet; it will be imported patched"
        if (hooks := self.decided.patch.hooks) is not None:
            names = ", ".join(sorted(hooks.paths)) or "nothing by name"
            yield f"hooks of the bundle run when it goes in, and carry over: {names}"
        yield from self._told
        yield from self.situation.served.notices
        yield from self.decided.said.values()
        yield from self._conditions.told
        yield from self._conditions.consumed.readers.told()
        yield from leftovers(self.decided.live().values())
        yield from builder.notices
