"""A plan is made without touching anything: every edit decided, every new object made, every target
found and checked.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from zdpatch.patcher import inventory, reach
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.attributes import unfit
from zdpatch.patcher.broken import failing, failing_outside
from zdpatch.patcher.collecting import no_full_collection, take_apart
from zdpatch.patcher.computed import proven
from zdpatch.patcher.datafiles import data_edits
from zdpatch.patcher.decisions import Decisions
from zdpatch.patcher.diff import diff
from zdpatch.patcher.errors import Refused
from zdpatch.patcher.judging import Decided, Judgement
from zdpatch.patcher.neighbours import Known, neighbours
from zdpatch.patcher.newcomers import Newcomers
from zdpatch.patcher.scan import Looks, counted
from zdpatch.patcher.situation import Situation
from zdpatch.patcher.source import NO_HOOKS
from zdpatch.patcher.spread import Name, going, learn, stale_reads
from zdpatch.patcher.stage import Stage
from zdpatch.patcher.stale import Stale
from zdpatch.patcher.stars import follow, moved
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.texts import Texts
from zdpatch.patcher.tracing import World
from zdpatch.patcher.unmoved import unmoved

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from types import CodeType, ModuleType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import Patch


def make_plan(  # noqa: PLR0913 - what, and what is known of the process and of the operator's wish
    patch: Patch,
    known: Iterable[CodeType] = (),
    made: Mapping[str, ModuleType] | None = None,
    adoption: Adoption = NOTHING,
    *,
    shelf: Shelf | None = None,
    undo: bool = False,
) -> Plan:
    """Decide `patch` for this process. Raises Refused with every verdict when anything stands
    against it.

    `known` are code objects of active patches that no source explains (see `inventory.drift`);
    `made` are modules of the patch that an earlier plan of it has executed. `adoption` is what the
    operator says of things that were replaced at run time. `shelf` keeps changed data files.
    `undo`: `patch` takes another one back out of modules imported with it (see `undoing`).
    """
    planner = Planner.of(patch, known, made, adoption, shelf=shelf, undo=undo)
    plan = planner.make()
    take_apart(planner)
    return plan


class Planner:
    """Decides one patch; and once it has, judges the process again without reading a text again."""

    @classmethod
    def of(  # noqa: PLR0913 - as `make_plan`
        cls,
        patch: Patch,
        known: Iterable[CodeType] = (),
        made: Mapping[str, ModuleType] | None = None,
        adoption: Adoption = NOTHING,
        *,
        shelf: Shelf | None = None,
        undo: bool = False,
    ) -> Planner:
        """As `make_plan`; nothing but the situation has been looked at."""
        looks = Looks()
        with _readable(), counted(looks):
            planner = cls(patch, tuple(known), made or {}, adoption, shelf, undo=undo)
        planner.looks = looks
        return planner

    def __init__(  # noqa: PLR0913 - as `make_plan`
        self,
        patch: Patch,
        known: tuple[CodeType, ...],
        made: Mapping[str, ModuleType],
        adoption: Adoption,
        shelf: Shelf | None,
        *,
        undo: bool,
    ) -> None:
        self.patch = patch
        self.undo = undo
        self.executed = made
        self.situation = Situation.of(patch, known, adoption, shelf)
        self.versions: dict[str, ModuleVersions] = dict(self.situation.versions)
        self.inventories: dict[str, Inventory] = dict(self.situation.inventories)
        self.texts = Texts()
        self.looks = Looks()
        self.told: list[str] = []
        self.said: dict[tuple[str, int], str] = {}
        self.rebinds: list[tuple[Name, Binding]] = []
        self.stage = self._stage()
        self.decisions = Decisions(
            self.situation,
            self.versions,
            self.inventories,
            self.stage,
            undo=undo,
            hooks=patch.hooks or NO_HOOKS,
        )
        self.edits = self.decisions.edits  # grows

    def make(self) -> Plan:
        """The plan. Raises Refused. What was read is let go of unless the heap has a say in it
        and the process may have to be judged again.
        """
        again = False
        with _readable(), counted(self.looks):
            try:
                self._decide()
                plan = self._judge()
                again = plan.heap_scan
            finally:
                if not again:
                    take_apart(self)
            return plan

    def again(self) -> Plan | None:
        """The plan once more, of what the heap has now: the objects, closures and suspended calls.

        The caller has seen that the rest is as it was: the modules and what they bind, the patches,
        and what the steps of the plan replace. None when it is not, in a way that only shows here.
        Raises Refused.
        """
        heap = bool(self.situation.adoption.replace)
        fresh = {n: inventory.take(t.module, heap=heap) for n, t in self.inventories.items()}
        before, now = self.stage.classes, self.situation.classes(fresh)
        if before.keys() != now.keys() or any(before[name] is not now[name] for name in now):
            return None
        self.inventories.update(fresh)
        self.situation.inventories = {name: fresh[name] for name in self.situation.inventories}
        self.looks = Looks()
        with _readable(), counted(self.looks):
            return self._judge()

    def _decide(self) -> None:
        """What the text says, and the values in the process."""
        for name, each in self._live().items():
            for side in (each.base, each.new):
                if side is not None:
                    learn(side.outline, self.inventories[name].namespace)
        fresh = [edit for each in self.situation.live_versions() for edit in diff(each)]
        fresh += unfit(self.versions)
        fresh += data_edits(self.patch.data, self.versions, fresh, self.inventories)
        while fresh:
            self.decisions.take(fresh)
            self._widen()
            fresh = [
                edit
                for edit in stale_reads(self._live(), self.decisions.changed, self.edits)
                if not self._unmoved(edit) and not self._arrives(edit)
            ]
            fresh += self._taken_by_stars()
        self.decisions.check_order()
        self._check_calls()
        if not self.undo:
            self._check_gone()

    def _judge(self) -> Plan:
        """What is alive."""
        decided = Decided(
            self.patch,
            self.situation,
            self.versions,
            self.inventories,
            self.stage,
            self.decisions,
            self.undo,
            self.rebinds,
            self.told,
            self.said,
            self.looks,
        )
        return Judgement(decided).plan()

    def _arrives(self, edit: Edit) -> bool:
        """True for a name that is new where a star import takes it from."""
        item = edit.new[-1]
        return item.kind == "star" and (item.source, edit.qualname) in self.decisions.arrived

    def _taken_by_stars(self) -> list[Edit]:
        """Edits, not made yet, of names that come and go by star imports."""
        sources = moved(self.edits, self.stage.values)
        known = {(edit.path, edit.kind) for edit in self.edits}
        found = (edit for each in self._live().values() for edit in follow(each, sources))
        return [edit for edit in found if (edit.path, edit.kind) not in known]

    def _live(self) -> dict[str, ModuleVersions]:
        return {name: each for name, each in self.versions.items() if name in self.inventories}

    def _stage(self) -> Stage:
        situation = self.situation
        return Stage(
            self.versions,
            {name: each.module for name, each in self.inventories.items()},
            situation.classes(self.inventories),
            situation.filenames,
            Newcomers(self.versions, situation.specs, situation.filenames, self.executed),
            promises=(self.patch.hooks or NO_HOOKS).migrates,
        )

    def _widen(self) -> None:
        """Bring in modules outside the patch that took a changed value when they were imported."""
        changed = self.decisions.changes()
        found = neighbours(changed, self._known(), moved(self.edits, self.stage.values))
        for name, holder in found.doubts:
            edit = next((e for e in self.edits if (e.module, e.qualname) == name), None)
            if edit is not None and (name in self.decisions.changed or edit.kind == "removed"):
                self.decisions.against(
                    edit, "X", f"{holder} depends on it, and its source is not what runs"
                )
        self.rebinds += [
            each
            for each in found.rebinds
            if not any(
                each[1].module is r[1].module and each[1].name == r[1].name for r in self.rebinds
            )
        ]
        for each, taken in found.modules:
            self.versions[each.name] = each
            self.inventories[each.name] = taken
        if found.modules:
            self.stage.live = {name: each.module for name, each in self.inventories.items()}
            self.stage.classes = self.situation.classes(self.inventories)
            self.stage.filenames = {
                **self.stage.filenames,
                **{each.name: each.change.path for each, _ in found.modules},
            }

    def _known(self) -> Known:
        return Known(
            self.versions,
            self.inventories,
            self.stage.classes,
            self.stage.values,
            self.edits,
            self.texts,
        )

    def _unmoved(self, edit: Edit) -> bool:
        """True for an unchanged statement that only showed what has another value now, or tested it
        with the same outcome.
        """
        if edit.kind != "stale" or edit.detail:
            return False
        lines = unmoved(edit, self.stage, self.decisions.changed)
        for line in lines or ():
            self.said[edit.module, line] = f"{edit.shown} (line {line}) showed the old {edit.cause}"
        return lines is not None

    def _method(self, module: str, call: str) -> Name | None:
        """The method that `a.go()` ran for an object `a` of the module: where its class has it."""
        root, _, name = call.partition(".")
        value = self.inventories[module].namespace.get(root)
        for cls in type.mro(type(value)) if "." not in name else ():
            if name in reach.class_dict(cls):
                return str(reach.class_dict(cls).get("__module__")), f"{reach.qualname(cls)}.{name}"
        return None

    def _check_calls(self) -> None:
        """What a module of the patch made by calling what changes is stale, and so is plain data
        that any other module computed by it; what others made besides is their state, and is told.
        """
        own = {change.name for change in self.patch.changes}
        spaces = {name: each.namespace for name, each in self.inventories.items()}
        world = World(self._live(), spaces, self.stage.classes)
        stale, changed = Stale(self.decisions, world, self.texts, self._method).found()
        against = [e for e in stale if e.module in own or proven(world, e, changed)]
        self.decisions.take(against)
        self.told = [
            f"{edit.shown} (line {edit.line}) keeps what it got from the old {edit.cause}"
            for edit in stale
            if edit not in against
        ]

    def _check_gone(self) -> None:
        """A statement that still reads a name which goes cannot run: the new source is broken."""
        removed = [e for e in self.edits if e.kind == "removed" and not self._kept(e)]
        names = going(removed, self.situation.removed, self.versions)
        for edit in failing(names, self.versions):
            why = f"it reads {edit.cause}, which is removed: the new source cannot be imported"
            self.decisions.against(edit, "X", why, "ZDP-208")
        for edit, own in failing_outside(names, self.versions, self.texts):
            why = f"it reads {edit.cause}, which is removed: it cannot be imported any more"
            if own:
                remedy = "keep the name, or put this module into the patch"
                self.decisions.against(edit, "X", why, remedy=remedy)
            else:
                self.told.append(f"{edit.shown} (line {edit.line}): {why}")

    def _kept(self, edit: Edit) -> bool:
        value = self.stage.values.get((edit.module, edit.qualname))
        return value is not None and value.new is not MISSING


@contextmanager
def _readable() -> Generator[None]:
    """Refuses what is nested more deeply than can be walked."""
    try:
        with no_full_collection():
            yield
    except RecursionError as error:
        raise Refused("ZDP-206", "the source is nested too deeply to be looked at") from error
