"""Allowed edits become steps on live objects: one slot each, with the value it has and the value it
gets.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING

from zdpatch.patcher import codes, copies, inventory, overlay, reach
from zdpatch.patcher.abstract import implemented
from zdpatch.patcher.caches import Answers, changes_kinds, forget_kinds
from zdpatch.patcher.compiler import fitted
from zdpatch.patcher.defaults_of_fields import FieldDefaults
from zdpatch.patcher.edits import ANNOTATIONS, BODY, DEFAULTS, Edit, ModuleVersions
from zdpatch.patcher.errors import Verdict
from zdpatch.patcher.fields import Fields, annotated
from zdpatch.patcher.inventory import LiveFunction
from zdpatch.patcher.metadata import Metadata
from zdpatch.patcher.names import mangled
from zdpatch.patcher.swap import MISSING, Step, distinct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, ModuleType

    from zdpatch.patcher.inventory import Binding, Inventory
    from zdpatch.patcher.situation import Situation
    from zdpatch.patcher.slots import Kind
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Stage


class Refusals(list[Verdict]):
    """What turned out impossible. Those who find it get no more than this: they would keep the
    builder alive, and all that it looked at, until garbage is collected.
    """

    def add(self, edit: Edit, row: str, reason: str) -> None:
        """Say why an edit cannot go in."""
        verdict = Verdict(edit.path, edit.line, edit.kind, row, reason, "replace the worker")
        self.append(verdict)


class Builder:
    """Collects the steps of one plan. What turns out impossible is added to `refusals`."""

    def __init__(
        self,
        situation: Situation,
        versions: dict[str, ModuleVersions],
        inventories: dict[str, Inventory],
        stage: Stage,
    ) -> None:
        self.situation = situation
        self.versions = versions
        self.inventories = inventories
        self.stage = stage
        self.steps: list[Step] = []
        self.refusals = Refusals()
        self.notices: list[str] = []
        self.metadata = Metadata(stage, inventories.values(), self.refusals.add)
        self.fields = Fields(stage, self.refusals.add)
        self.defaults = FieldDefaults(self.refusals.add)
        self.functions = 0
        self.caches: list[Callable[[], object]] = []
        self.watched: dict[str, tuple[CodeType, ...]] = {}
        self.renewed: list[tuple[ModuleType, CodeType, CodeType]] = []
        self.explained: list[CodeType] = []
        self._matches: dict[str, dict[tuple[str, int], list[LiveFunction]]] = {}
        self._unclear: dict[str, frozenset[str]] = {}
        self._found: dict[int, list[LiveFunction]] = {}
        self.copies = copies.Copies()
        self.answers = Answers({}, {}, {})
        self.cached: list[str] = []

    def build(self, edits: Iterable[Edit], rebinds: Iterable[tuple[Name, Binding]]) -> None:
        """Add the steps of the allowed edits, and of names elsewhere that hold a changed value."""
        merged = _merged(edits)
        self._find_live(merged)
        for edit in merged:
            self._add(edit)
        for name, binding in rebinds:
            space, value = reach.namespace(binding.module), self.stage.values[name]
            what = f"{binding.module.__name__}:{binding.name}"
            if not any(step.target is space and step.name == binding.name for step in self.steps):
                self.steps.append(Step("item", space, binding.name, value.new, value.old, what))
        self.fields.finish()
        self._modules()
        self._abstract(merged)
        self.steps += self.defaults.steps()
        self.steps = distinct([*self.steps, *self.metadata.steps, *self.fields.steps])
        self.notices += [*self.metadata.notices, *self.fields.notices]
        self._answers(edits)
        if changes_kinds(edits):
            self.caches.append(forget_kinds)

    def _answers(self, edits: Iterable[Edit]) -> None:
        """What caches answer is forgotten, and told."""
        changed = {name: ":".join(name) for name in self._changed(edits)}
        parts = (self.inventories, self.stage.classes, self.defaults.classes)
        self.answers = Answers.of(changed, *parts)
        self.caches.append(self.answers.forget)
        self.cached = self.answers.told(self.situation.caches) if changed else []
        if self.cached:
            self.notices.append(f"caches that are emptied: {', '.join(self.cached)}")

    def _changed(self, edits: Iterable[Edit]) -> Iterator[Name]:
        yield from (name for name, value in self.stage.values.items() if value.changed)
        for edit in edits:
            if edit.kind in {"function", "nested"} and edit.facets & {BODY, DEFAULTS}:
                yield edit.module, edit.qualname

    def _add(self, edit: Edit) -> None:
        if edit.kind in {"function", "nested"}:
            self._function(edit)
        elif edit.kind in {"value", "added", "removed"}:
            self._name(edit)
        if edit.kind in {"value", "added", "removed", "fields"} and annotated(edit):
            self.fields.add(edit, self.inventories[edit.module])

    # ------------------------------------------------------------ functions

    def _live(self, edit: Edit) -> list[LiveFunction]:
        """Live functions that run the old code of the edit."""
        base = self.versions[edit.module].base
        old = edit.codes[0]
        if base is None or old is None:
            return []
        if edit.module not in self._matches:
            taken = self.inventories[edit.module]
            self._matches[edit.module] = inventory.match(taken, base.code)
            self._unclear[edit.module] = frozenset(inventory.ambiguous(taken, base.code))
        if edit.qualname in self._unclear[edit.module]:
            self.refusals.add(edit, "R", "several definitions of this path run equal code here")
            return []
        group = base.flat.get(edit.qualname, [])
        ordinal = next((i for i, code in enumerate(group) if code is old), None)
        return self._matches[edit.module].get((edit.qualname, ordinal or 0), [])

    def _find_live(self, edits: Iterable[Edit]) -> None:
        """The live functions of every edit, and the copies of them elsewhere."""
        functions = [edit for edit in edits if edit.kind in {"function", "nested"}]
        self._found = {id(edit): self._live(edit) for edit in functions}
        names = {edit.module for edit in functions}
        known = [f for n in names for g in self.inventories[n].functions.values() for f in g]
        self.copies = copies.find(known, [f for live in self._found.values() for f in live])
        for edit in functions:
            self._found[id(edit)] += self._copied(edit, self._found[id(edit)])

    def _copied(self, edit: Edit, live: list[LiveFunction]) -> list[LiveFunction]:
        """Copies of an edit's functions that run with other globals."""
        found: list[LiveFunction] = []
        changed = {n for m, n in self.stage.values if m == edit.module}
        for code in {id(f.code): f.code for f in live}.values():
            for other in self.copies.derived.get(id(code), ()):
                self.refusals.add(
                    edit, "R", f"{copies.told(other)} runs code made from its old code"
                )
            for other in self.copies.same.get(id(code), ()):
                missing = copies.lacking(other, code, edit.codes[1] or code, changed)
                if missing:
                    why = f"{copies.told(other)} is a copy of it with globals of its own"
                    self.refusals.add(
                        edit, "R", f"{why}, where {', '.join(missing)} is not the new one"
                    )
                found.append(LiveFunction(other, code.co_qualname, "<copy>"))
            if held := self.copies.held.get(id(code)):
                self.notices.append(
                    f"{edit.path}: {held} containers keep its code object, which is the old one"
                )
        return found

    def _function(self, edit: Edit) -> None:
        live = self._found[id(edit)]
        if not live:
            return
        old, new = edit.codes
        if BODY in edit.facets and new is not None:
            if edit.kind == "nested" and not edit.facets <= {BODY, ANNOTATIONS}:
                return  # allowed because no closure of it is alive
            self.functions += 1
            old_codes = {id(f.code): f.code for f in live}.values()
            self.watched[edit.path] = tuple(old_codes)
            for each in old_codes:
                for path, inner in codes.expressions(each, new).items():
                    key = f"{edit.module}:{path}"
                    self.watched[key] = (*self.watched.get(key, ()), *inner)
            self._swap_code(edit, live, new)
        if edit.kind == "function":
            self.metadata.add(edit, live)
        if edit.kind == "nested" and BODY in edit.facets and old is not None and new is not None:
            module = self.inventories[edit.module].module
            for code in {id(f.code): f.code for f in live}.values():
                self.renewed.append((module, code, new))

    def _swap_code(self, edit: Edit, live: Iterable[LiveFunction], new: CodeType) -> None:
        for each in live:
            code = codes.like_live(new, each.code)
            if code.co_freevars != each.code.co_freevars:
                # a slot gives the function itself, not a method
                known = self.stage.hidden(edit, each.function)  # pyright: ignore[reportArgumentType]
                adapted = fitted(self.versions[edit.module], edit, each.code.co_freevars, known)
                if adapted is None:
                    held, wanted = each.code.co_freevars, code.co_freevars
                    self.refusals.add(
                        edit,
                        "R",
                        f"the live function closes over {held}, the new code over {wanted}",
                    )
                    return
                code = codes.like_live(adapted, each.code)
                self.explained.append(code)
            what = f"{edit.path}.__code__"
            self.steps.append(Step("function", each.function, "__code__", code, each.code, what))

    def _namespace(self, edit: Edit) -> dict[str, object]:
        taken = self.inventories[edit.module]
        if edit.kind != "nested" and edit.scope:
            group = taken.classes.get(edit.scope, [])
            return dict(reach.class_dict(group[0])) if group else {}
        return taken.namespace

    # ------------------------------------------------------------ names

    def _name(self, edit: Edit) -> None:
        value = self.stage.values.get((edit.module, edit.qualname))
        if value is None or edit.module not in self.inventories:
            return
        present = self.stage.present(edit)
        if present is value.new or (edit.kind == "value" and not value.changed):
            return
        name, what = edit.qualname.rpartition(".")[2], edit.path
        if edit.of_function:
            owner, table = self.stage.attributes(edit)
            plain = type(owner) is FunctionType
            target: object = owner if plain else table
            kind: Kind = "function" if plain else "item"
            self.steps.append(Step(kind, target, name, value.new, present, what))
        elif edit.scope:
            cls = self.stage.classes[edit.module, edit.scope]
            new = None if name == "__doc__" and value.new is MISSING else value.new
            self.steps.append(Step("class", cls, mangled(edit.scope, name), new, present, what))
            self.defaults.add(edit, cls, new)
            if name == "__eq__":
                self._implicit_hash(edit, cls)
        else:
            space = self.inventories[edit.module].namespace
            self.steps.append(Step("item", space, name, value.new, present, what))

    def _implicit_hash(self, edit: Edit, cls: type) -> None:
        """A class statement that binds `__eq__` and not `__hash__` sets it to None (CPython
        `type_new_set_hash`, Objects/typeobject.c).
        """
        new = self.versions[edit.module].new
        assert new is not None
        own = {name for item in new.outline.scopes.get(edit.scope, ()) for name in item.names}
        present = reach.class_dict(cls).get("__hash__", MISSING)
        if "__hash__" not in own and (present is None or present is MISSING):
            value = None if "__eq__" in own else MISSING
            if value is not present:
                what = f"{edit.module}:{edit.scope}.__hash__"
                self.steps.append(Step("class", cls, "__hash__", value, present, what))

    def _abstract(self, edits: Iterable[Edit]) -> None:
        """What is abstract in classes that gain a method."""
        added: dict[Name, list[str]] = {}
        for edit in edits:
            if edit.kind == "added" and edit.scope and not edit.of_function:
                added.setdefault((edit.module, edit.scope), []).append(edit.new[-1].name)
        for scope, names in added.items():
            self.steps += implemented(self.stage.classes[scope], names, ":".join(scope))

    # ------------------------------------------------------------ modules

    def _modules(self) -> None:
        """Steps for modules which are added, removed, or imported later.

        A new module that no statement of the patch imports waits until somebody does, as in a
        process that had it from the start.
        """
        for entry in self.situation.entries():
            self.steps += self._back(entry.name)
            self._overlay(entry.name, entry)
        for name, module in self.stage.newcomers.modules.items():
            self._arrive(name, module)
        for name in self.situation.removed:
            self._overlay(name, overlay.REMOVED)
            self.steps += leaving(name, None)

    def _overlay(self, name: str, value: object) -> None:
        table = overlay.TABLE
        expected = table.get(name, MISSING)
        self.steps.append(Step("item", table, name, value, expected, f"source of {name}"))

    def _back(self, name: str) -> Iterator[Step]:
        """A module that an earlier patch removed can be found again."""
        if name not in self.stage.newcomers.modules and overlay.forbidden(name):
            yield Step("item", sys.modules, name, MISSING, None, f"sys.modules[{name!r}]")

    def _arrive(self, name: str, module: ModuleType) -> None:
        """A module that was made for the patch takes its place, also as its package's attribute."""
        present = None if overlay.forbidden(name) else MISSING
        self.steps.append(
            Step("item", sys.modules, name, module, present, f"sys.modules[{name!r}]")
        )
        parent, _, last = name.rpartition(".")
        if (space := _loaded(parent)) is None:
            return
        taken = any(step.target is space and step.name == last for step in self.steps)
        if not taken and last not in space:
            self.steps.append(Step("item", space, last, module, MISSING, f"{parent}.{last}"))


def leaving(name: str, after: object = MISSING) -> list[Step]:
    """Steps after which a module is not to be found any more, loaded or not.

    With `after` None the import system itself knows that it is not there: `find_spec` says so, and
    an import fails at once. Otherwise it is only forgotten, and imported again when asked for.
    """
    module = sys.modules.get(name, MISSING)
    if module is after:
        return []
    steps = [Step("item", sys.modules, name, after, module, f"sys.modules[{name!r}]")]
    parent, _, last = name.rpartition(".")
    if (space := _loaded(parent)) is not None and space.get(last, MISSING) is module is not MISSING:
        steps.append(Step("item", space, last, MISSING, module, f"{parent}.{last}"))
    return steps


def as_imported(step: Step) -> Step:
    """A step of an undo, where it forbids a module again that was imported since: it goes."""
    free = step.target is sys.modules and step.value is None and step.expected is MISSING
    present = sys.modules.get(str(step.name), MISSING)
    gone = free and present is not MISSING and overlay.served(str(step.name))
    return replace(step, expected=present) if gone else step


def _loaded(name: str) -> dict[str, object] | None:
    """The namespace of a loaded module."""
    module = sys.modules.get(name)
    return reach.namespace(module) if module is not None else None


def _merged(edits: Iterable[Edit]) -> list[Edit]:
    """One edit a function: what its text changed, and what it reads that changed."""
    found: dict[tuple[object, ...], Edit] = {}
    for edit in edits:
        own = edit.kind == "function"
        key = (
            (edit.module, edit.qualname, id(edit.codes[0]))
            if own and edit.codes[0]
            else (id(edit),)
        )
        if key in found:
            was = found[key]
            edit = replace(was, facets=was.facets | edit.facets, stale=was.stale | edit.stale)  # noqa: PLW2901 - the merged one takes its place
        found[key] = edit
    return list(found.values())
