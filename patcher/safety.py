"""Every edit gets one row of the published table, with its reason and the remedy, from the text
alone.

What the text cannot know (live instances, closures, a metaclass) becomes a condition of a row A,
which the plan checks in the process before anything is touched.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher.attributes import Unfit
from zdpatch.patcher.decorators import (
    is_abstract,
    own_decorators,
    registering,
    unknown_decorator,
)
from zdpatch.patcher.edits import POSTPONED, Edit, ModuleVersions
from zdpatch.patcher.effects import class_effects, values_of
from zdpatch.patcher.facets import defaults
from zdpatch.patcher.function_rows import CREATION, changed_function, changed_inner, definition
from zdpatch.patcher.held import HELD
from zdpatch.patcher.layout import LAYOUT, slot_names
from zdpatch.patcher.purity import is_pure, makes_state, only_tables
from zdpatch.patcher.rows import IDENTITY, MIGRATE, REPLACE, Decision, Need
from zdpatch.patcher.statements import raising_handlers_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline


def decide(edit: Edit, versions: Mapping[str, ModuleVersions]) -> Decision:
    """The row of `edit`, from the text of both versions."""
    each = versions[edit.module]
    side = each.base if edit.kind == "removed" else each.new
    imports: Mapping[str, str] = side.outline.origins if side else {}
    judge = _Judge(edit, imports, side.outline if side else None)
    return getattr(judge, edit.kind)()  # type: ignore[no-any-return]


class _Judge:
    """One method a kind of edit."""

    def __init__(self, edit: Edit, imports: Mapping[str, str], outline: Outline | None) -> None:
        self.edit = edit
        # the same, with what the tree defines: for values only
        self.own = imports if outline is None else outline.own_origins
        self.definitions = outline.own_definitions if outline is not None else frozenset[str]()
        self.imports = imports
        self.in_class = bool(edit.new or edit.old) and bool(edit.scope) and not edit.of_function

    def say(self, row: str, reason: str, remedy: str = "", *needs: Need) -> Decision:
        return Decision(self.edit, row, reason, remedy, needs)

    # ------------------------------------------------------------ functions

    def function(self) -> Decision:
        return changed_function(self.edit, self.imports, in_class=self.in_class)

    def nested(self) -> Decision:
        return changed_inner(self.edit)

    # ------------------------------------------------------------ definitions that come and go

    def added(self) -> Decision:
        item = self.edit.new[-1]
        match item.kind:
            case "function":
                return self._added_function(item)
            case "class":
                return self._added_class(item)
            case "import":
                return self.say("A", "new import", "", *self._class_needs())
            case _:
                return self._added_value()

    def _class_needs(self) -> tuple[Need, ...]:
        return ("plain class",) if self.in_class else ()

    def _added_function(self, item: Item) -> Decision:
        node = definition(item)
        own = own_decorators(node, self.imports, self.definitions)
        foreign = [each for each in node.decorator_list if each not in own]
        if bad := unknown_decorator(foreign, self.imports):
            return self.say(
                "R", f"decorator {bad!r} may register the new function somewhere", REPLACE
            )
        for value in defaults(node).values():
            if not is_pure(value, self.imports, fresh=True):
                return self.say(
                    "M", "a default of the new function has effects when evaluated", MIGRATE
                )
        if self.in_class and item.name in CREATION:
            return self.say("R", f"{item.name} did not run for classes that exist", REPLACE)
        if self.in_class and item.name == "__new__":
            return self.say("R", "CPython does not give a class its old __new__ back", REPLACE)
        if self.in_class and is_abstract(node):
            return self.say(
                "Q", "abstract methods changed: live subclasses may lack the new one", REPLACE
            )
        needs: tuple[Need, ...] = (*self._class_needs(),)
        if own:
            needs = (*needs, "kept by its decorators")
        if self.in_class and item.name in IDENTITY:
            needs = (*needs, "no instances")
        return self.say("A", "new method" if self.in_class else "new function", "", *needs)

    def _added_class(self, item: Item) -> Decision:
        node = item.node
        assert isinstance(node, ast.ClassDef)
        if bad := unknown_decorator(node.decorator_list, self.imports):
            return self.say("R", f"decorator {bad!r} may register the new class somewhere", REPLACE)
        if why := class_effects(item, self.imports):
            return self.say("R", f"the body of the new class {why}", REPLACE)
        return self.say("A", "new class", "", *self._class_needs())

    def _added_value(self) -> Decision:
        name = self.edit.new[-1].name
        for item in self.edit.new:
            if not all(is_pure(value, self.own, fresh=True) for value in values_of(item.node)):
                return self._effect("new statement")
        if self.in_class and name == "__slots__":
            return self.say("R", "__slots__ decides the layout of instances", REPLACE)
        return self.say("A", "new name", "", *self._class_needs(), *self._identity_needs())

    def _identity_needs(self) -> tuple[Need, ...]:
        name = (self.edit.new or self.edit.old)[-1].name
        return ("no instances",) if self.in_class and name in IDENTITY else ()

    def removed(self) -> Decision:
        item = self.edit.old[-1]
        if item.kind == "class":
            return self.say(
                "A",
                "class removed",
                "replace the worker, or keep the class",
                "no instances",
                "no subclasses",
                "not held",
            )
        if self.in_class and item.name == "__slots__":
            return self.say("R", "__slots__ decides the layout of instances", REPLACE)
        needs = self._class_needs()
        if self.in_class and item.kind == "function":
            if is_abstract(definition(item)):
                return self.say("Q", "abstract methods changed", REPLACE)
            if item.name in {*CREATION, "__new__"}:
                return self.say("R", f"{item.name} ran already for what exists", REPLACE)
        if self.in_class and item.name in IDENTITY:
            needs = (*needs, "no instances")
        if item.kind == "function" and (bad := registering(item, self.imports)):
            reason = f"function removed; its decorator {bad!r} may have registered it"
            return self.say("A", reason, REPLACE, *needs, "not held")
        star = item.kind == "star"
        what = "a star import takes it no more" if star else f"{item.kind} removed"
        return self.say("A", f"{what}; who holds it keeps it", "", *needs)

    def rebound(self) -> Decision:
        if accessors := _accessors(self.edit):
            reason = f"{accessors} of the property comes or goes: it would be another object"
            return self.say("Q", reason, REPLACE)
        kinds = sorted({item.kind for item in (*self.edit.old, *self.edit.new)})
        reason = (
            "the name stands for another kind of object, "
            f"or is defined another number of times ({', '.join(kinds)})"
        )
        return self.say("R", reason, REPLACE)

    # ------------------------------------------------------------ values

    def value(self) -> Decision:
        name = self.edit.new[-1].name
        if name == "__doc__":
            return self.say("A", "docstring")
        if self.in_class and name == "__slots__":
            return self._slots()
        both = (*self.edit.old, *self.edit.new)
        values = [value for item in both for value in values_of(item.node)]
        if all(item.kind in {"import", "star"} for item in both):
            return self.say("A", self._why("import"), "", *self._class_needs())
        if not all(is_pure(value, self.own, fresh=True) for value in values):
            return self._effect("changed statement")
        if name not in {"__all__", "__match_args__"} and (what := self._made_anew(values)):
            return self._other_table(what, values)
        return self.say(
            "A", self._why("constant"), "", *self._class_needs(), *self._identity_needs()
        )

    def _slots(self) -> Decision:
        """A slot that nobody names any more stays in the layout, where it does no harm."""
        before, after = (slot_names(items) for items in (self.edit.old, self.edit.new))
        if before is None or after is None or after - before or (before - after) & LAYOUT:
            return self.say("R", "__slots__ decides the layout of instances", REPLACE)
        gone = ", ".join(sorted(before - after))
        reason = f"the slot {gone} stays in the layout" if gone else "the same slots"
        return self.say("A", f"__slots__ changed; {reason}", REPLACE, "plain class")

    def _made_anew(self, values: list[ast.expr]) -> str:
        """What the values are when evaluating them again gives another object; "" for constants."""
        if not all(is_pure(value, self.own) for value in values):
            return "an expression that makes a new object"
        return "table" if any(makes_state(value, self.imports) for value in values) else ""

    def _other_table(self, what: str, values: list[ast.expr]) -> Decision:
        reason = "who holds the old object, or a copy, would not see the new one"
        if not self._bare_tables(values):
            return self.say("M", f"{self._why(what)}: {reason}", MIGRATE)
        needs = (*self._class_needs(), *self._identity_needs())
        return self.say("A", f"{self._why(what)}: {reason}", MIGRATE, "not shared", *needs)

    def _bare_tables(self, values: list[ast.expr]) -> bool:
        """Whether each statement gives one name a table that can be made, and compared, again."""
        items = (*self.edit.old, *self.edit.new)
        plain = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Import, ast.ImportFrom)
        single = all(isinstance(item.node, plain) and len(item.names) == 1 for item in items)
        return (
            single
            and not self.edit.of_function
            and all(only_tables(value, self.imports) for value in values)
        )

    def _why(self, what: str) -> str:
        return (
            f"{what} depends on {self.edit.cause}, which changed"
            if self.edit.cause
            else f"{what} changed"
        )

    def _effect(self, what: str) -> Decision:
        because = f" (it depends on {self.edit.cause}, which changed)" if self.edit.cause else ""
        return self.say("M", f"{what} may have effects when it runs{because}", MIGRATE)

    def fields(self) -> Decision:
        if not self.in_class:
            return self.say("A", "annotation only")
        if self.edit.detail == POSTPONED:
            return self.say("A", "the same annotation, as text or as an object")
        return self.say("A", "annotation of a class attribute", REPLACE, "plain class")

    # ------------------------------------------------------------ statements

    def header(self) -> Decision:
        reason = (
            f"it depends on {self.edit.cause}, which changed"
            if self.edit.cause
            else "bases, keywords, decorators or type parameters changed"
        )
        return self.say(
            "R", f"class statement: {reason}; a second class object is never made", REPLACE
        )

    def effect(self) -> Decision:
        edit = self.edit
        items = edit.new or edit.old
        if items[-1].kind == "star":
            return self.say("R", edit.detail or "a star import changed", REPLACE)
        if all(self._is_branch(item) for item in (*edit.old, *edit.new)):
            reason = "a branch changed, and only the process can tell which one it took"
            return self.say("A", reason, MIGRATE, "branch known")
        if edit.old and edit.new:
            if self._handlers_alone():
                return self.say("A", "handlers changed that did not run: each raises")
            return self._effect("changed statement")
        if edit.old:
            return self.say("M", "a statement is gone whose effect is already there", MIGRATE)
        return self._effect("new or changed statement")

    def _handlers_alone(self) -> bool:
        pairs = zip(self.edit.old, self.edit.new, strict=False)
        alike = len(self.edit.old) == len(self.edit.new)
        return alike and all(raising_handlers_apart(old.node, new.node) for old, new in pairs)

    def _is_branch(self, item: Item) -> bool:
        """Whether the process may show which way a statement went (see `taken`)."""
        if item.scope or not isinstance(item.node, ast.If):
            return False
        return is_pure(item.node.test, self.imports)

    def stale(self) -> Decision:
        verb = {"call": "used", HELD: "used", "metadata": "looked at"}.get(self.edit.detail, "read")
        reason = f"this statement {verb} {self.edit.cause} when it ran; its effect is the old one"
        return self.say("R", reason, REPLACE)

    def kept(self) -> Decision:
        """What was read of a data file is kept for later."""
        return self.say("A", self.edit.detail, REPLACE, "nothing kept")

    def unfit(self) -> Decision:
        """Code reads what only new code sets, or sets otherwise, on what may be older."""
        if isinstance(self.edit, Unfit) and self.edit.holder.kind == "unknown":
            return self.say("M", self.edit.detail, MIGRATE)
        return self.say("A", self.edit.detail, MIGRATE, "objects fit")


def _accessors(edit: Edit) -> str:
    """What a property has on one side alone; "" for anything but a property on both sides."""
    sides = [
        {item.role for item in items if item.kind == "function"} for items in (edit.old, edit.new)
    ]
    roles = sorted(role for role in sides[0] ^ sides[1] if role)
    ends = (".setter", ".getter", ".deleter")
    return ", ".join(roles) if roles and all(role.endswith(ends) for role in roles) else ""
