"""Edits are decided as they are found; what those that are allowed give to names is evaluated once,
on the stage.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import reach
from zdpatch.patcher.binders import reader_between, stays
from zdpatch.patcher.calls import Changed
from zdpatch.patcher.consumers import registers
from zdpatch.patcher.edits import DOCSTRING
from zdpatch.patcher.errors import Refused
from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.foreseen import dependencies, foreseen
from zdpatch.patcher.named import Names
from zdpatch.patcher.names import dotted
from zdpatch.patcher.placement import ill_placed
from zdpatch.patcher.promises import Need, eased, is_promised, need_of
from zdpatch.patcher.remade import remade
from zdpatch.patcher.resolving import resolver
from zdpatch.patcher.rows import Decision
from zdpatch.patcher.safety import decide
from zdpatch.patcher.source import NO_HOOKS
from zdpatch.patcher.stage import Stage, Value
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.undoing import undone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from zdpatch.patcher.conditions import Conditions
    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.errors import Verdict
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.situation import Situation
    from zdpatch.patcher.source import Hooks
    from zdpatch.patcher.spread import Name


class Decisions:
    """The decisions of one plan so far. `edits`: all that were found; `changed`: names with another
    value, each with the path to blame; `arrived`: those which had none; `extra`: verdicts on
    what no edit says; `carried`: what `hooks` owe objects.

    `versions`, `inventories` and `stage` are those of the plan, which grow.
    """

    def __init__(  # noqa: PLR0913 - the parts of a plan
        self,
        situation: Situation,
        versions: Mapping[str, ModuleVersions],
        inventories: Mapping[str, Inventory],
        stage: Stage,
        *,
        undo: bool = False,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self.undo = undo
        self.hooks = hooks
        self.migrates = hooks.migrates
        self.carried: list[Need] = []
        self.situation = situation
        self.versions = versions
        self.inventories = inventories
        self.stage = stage
        self.all: list[Decision] = []
        self.extra: list[Verdict] = []
        self.edits: list[Edit] = []
        self.changed: dict[Name, str] = {}
        self.arrived: set[Name] = set()
        self._unmet: set[int] = set()
        self._names = Names()

    @property
    def refused(self) -> bool:
        """Whether any edit cannot go in."""
        return any(each.row != "A" for each in self.all)

    def changes(self, but: Collection[Edit] = ()) -> Changed:
        """What changes, for those who look for its users; without some edits."""
        left = {id(edit) for edit in but}
        edits = [edit for edit in self.edits if id(edit) not in left]
        return Changed.of(edits, self.versions, self.changed, self.arrived, self._names)

    def take(self, edits: list[Edit]) -> None:
        """Decide new edits, then evaluate the values of those that are allowed."""
        decided = [decide(edit, self.versions) for edit in edits]
        if self.undo:
            decided = [undone(each) for each in decided]
        if self.migrates:
            decided = [eased(each, self.migrates) for each in decided]
        self.edits += edits
        self.all += decided
        allowed = [each.edit for each in decided if each.row == "A"]
        self.stage.expect(allowed)
        if self.refused:
            return  # it will be refused: nothing of the new source is run
        self._foresee(allowed)
        for edit in allowed:
            if is_promised(edit, self.migrates):
                self._promised(edit)
            elif edit.kind in {"value", "added", "removed"}:
                self._evaluate(edit)
            elif edit.kind == "function" and DOCSTRING in edit.facets:
                self._document(edit)

    def _foresee(self, allowed: list[Edit]) -> None:
        """Announce what may change because of what changes: who reads it may be evaluated first."""
        given = {"value", "added", "removed"}
        names = {(e.module, e.qualname): e.path for e in allowed if e.kind in given}
        live = {name: each for name, each in self.versions.items() if name in self.inventories}
        found = foreseen(live, names | self.changed, self.edits) if names else {}
        self.stage.prospects = {
            name: edit
            for name, edit in found.items()
            if name not in self.stage.made and decide(edit, self.versions).row == "A"
        }

    def check_order(self) -> None:
        """Decide against what was evaluated before something that it reads was known to change."""
        made, values = self.stage.made, self.stage.values
        for edit in [e for e in self.edits if e.kind in {"value", "added"}]:
            own = made.get((edit.module, edit.qualname))
            for name in dependencies(edit, self.versions) if own is not None else ():
                if own is not None and made.get(name, -1) > own and values[name].changed:
                    why = f"it was evaluated before {':'.join(name)}, which it reads"
                    self.against(edit, "M", why)
                    break

    def _document(self, edit: Edit) -> None:
        """A docstring is a value that import-time code may have read by `f.__doc__`."""
        try:
            old, new = (remade(self.stage, edit, new=side).__doc__ for side in (False, True))
        except Exception:  # noqa: BLE001 - making its defaults may raise anything; steps tell
            return
        name = (edit.module, f"{edit.qualname}.__doc__")
        self.stage.put(name, Value(old, new))
        self.changed[name] = edit.path

    def _evaluate(self, edit: Edit) -> None:
        name = (edit.module, edit.qualname)
        if misplaced := ill_placed(edit, self.versions[edit.module]):
            self.against(edit, *misplaced)
            return
        if watched := self._watched_bases(edit):
            self.against(edit, "R", watched)
            return
        if self._bound_elsewhere(edit):
            return
        try:
            registered = self.stage.decorating.registers(edit)
            value = None if registered else self.stage.value(name)
        except Unevaluable as error:
            self.against(edit, "M", f"{edit.kind} cannot be evaluated again: {error}")
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - statements of the patch may raise anything
            code = "ZDP-207" if edit.new[-1].kind == "import" else "ZDP-208"
            self.against(edit, "X", f"evaluating it raises {type(error).__name__}: {error}", code)
            return
        if registered:
            self.against(edit, "R", registered)
        if value is None or not value.changed:
            return
        if value.old is MISSING:
            self.arrived.add(name)
        if value.new is not MISSING:
            self._spread(edit, name)
        if why := self.situation.conflict(edit, value, self.stage):
            remedy = "replace the worker, or put the live value back first"
            self.against(edit, "X", why, remedy=remedy)

    def _promised(self, edit: Edit) -> None:
        """A hook gives the name its value; what that is nobody knows before."""
        name = (edit.module, edit.qualname)
        value = self.stage.value(name)
        if value is not None and value.old is MISSING:
            self.arrived.add(name)
        self._spread(edit, name)

    def _bound_elsewhere(self, edit: Edit) -> bool:
        """True when another statement decides what the name is, or makes the edit impossible."""
        each = self.versions[edit.module]
        if edit.kind == "removed" and edit.old[-1].kind == "star":
            return False
        if edit.kind == "removed":
            answer = stays(edit, each, self.stage)
            if isinstance(answer, str):
                self.against(edit, "R", answer)
            elif answer:
                self.stage.keep(edit)
            return answer is not False
        if reader := reader_between(edit, each):
            self.against(edit, "M", f"line {reader.line} read what an earlier statement gave it")
            return True
        return False

    def _spread(self, edit: Edit, name: Name) -> None:
        """Note a changed name, and the same attribute as classes that inherit it have it."""
        cause = edit.cause or edit.path
        self.changed[name] = cause
        cls = self.stage.classes.get((edit.module, edit.scope)) if edit.scope else None
        pending: list[type] = [] if cls is None else list(type.__subclasses__(cls))
        attribute = edit.qualname.rpartition(".")[2]
        while pending:
            derived = pending.pop()
            if attribute not in reach.class_dict(derived):
                owner = str(reach.class_dict(derived).get("__module__"))
                alias = (owner, f"{reach.qualname(derived)}.{attribute}")
                self.changed[alias], self.stage.aliases[alias] = cause, name
                pending += type.__subclasses__(derived)

    def _watched_bases(self, edit: Edit) -> str:
        """Why making a new class would be noticed by its bases; a plan must have no effect."""
        node = edit.new[-1].node if edit.new else None
        if edit.kind != "added" or not isinstance(node, ast.ClassDef):
            return ""
        resolve = resolver(self.inventories[edit.module].module)
        for base in [
            *node.bases,
            *(word.value for word in node.keywords if word.arg == "metaclass"),
        ]:
            origin = base.value if isinstance(base, ast.Subscript) else base
            value = resolve(dotted(origin) or "")
            if reach.is_a(value, type) and (why := registers(cast("type", value))):
                return f"the new class would be seen by {why}"
        return ""

    def against(
        self, edit: Edit, row: str, reason: str, code: str = "ZDP-202", remedy: str = ""
    ) -> None:
        source = "mend the source: it cannot be imported" if code != "ZDP-202" else ""
        remedy = remedy or source or "replace the worker"
        self.all.append(Decision(edit, row, reason, remedy, (), code))

    def check_needs(self, conditions: Conditions) -> None:
        """Decide against what is allowed only under conditions that do not hold here."""
        self.carried.clear()
        for each in [each for each in self.all if each.row == "A" and each.needs]:
            if (need := need_of(each.edit, self.hooks.upgrades)) is not None:
                self.carried.append(need)
                continue
            for why in conditions.unmet(each):
                self._unmet.add(id(each.edit))
                remedy = each.remedy or "replace the worker"
                self.against(each.edit, each.otherwise, f"{each.reason}; {why}", remedy=remedy)

    def refuse(self) -> None:
        """Raise Refused with every verdict when anything stands against the patch."""
        bad = self._standing()
        if not bad and not self.extra:
            return
        bad_edits = {id(each.edit) for each in bad}
        kept = [each for each in self.all if each.row == "A" and id(each.edit) not in bad_edits]
        verdicts = (*self.extra, *(each.verdict for each in [*bad, *kept]))
        first = verdicts[0]
        cause = f"{first.path} (line {first.line}): {first.reason}"
        others = len(bad) + len(self.extra) - 1
        if others:
            cause += f"; and {others} more"
        code = bad[0].code if bad and not self.extra else "ZDP-202"
        raise Refused(code, cause, verdicts)

    def _standing(self) -> list[Decision]:
        """One refusal an edit: where a need is not met, that, and not what follows from it."""
        found: dict[int, Decision] = {}
        for each in self.all:
            key = id(each.edit)
            if each.row != "A" and (key not in found or key in self._unmet):
                found[key] = each
        return list(found.values())
