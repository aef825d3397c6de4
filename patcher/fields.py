"""What a module or class says of its annotated names follows the new source: its `__annotations__`,
and the fields that a dataclass made of them.
"""

from __future__ import annotations

import ast
import dataclasses
from types import FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.consumers import watched_class
from zdpatch.patcher.edits import POSTPONED, Edit
from zdpatch.patcher.names import mangled
from zdpatch.patcher.swap import MISSING, Step
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.slots import Kind
    from zdpatch.patcher.stage import Stage

_TABLE: Final = "__annotations__"


class Fields:
    """Collects the steps for annotations of names. `refuse(edit, row, reason)` is called for what
    turns out impossible.
    """

    def __init__(self, stage: Stage, refuse: Callable[[Edit, str, str], None]) -> None:
        self.stage = stage
        self.refuse = refuse
        self.steps: list[Step] = []
        self.notices: list[str] = []
        self._made: dict[int, dict[str, object]] = {}
        self._owners: dict[int, tuple[Edit, object, dict[str, object]]] = {}

    def add(self, edit: Edit, taken: Inventory) -> None:
        """The entry of an annotated name in the table of its module or class."""
        owner = self._owner(edit, taken)
        if edit.detail == POSTPONED and owner is not None and (why := _remade(owner)):
            notice = f"{edit.module}:{edit.scope}: {why}, which keeps what it took from annotations"
            self.notices += [notice] if notice not in self.notices else []
            return
        name = mangled(edit.scope, edit.qualname.rpartition(".")[2])
        try:
            value = self.stage.annotation(edit, name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of the patch may raise anything
            self.refuse(edit, "X", f"its annotation raises {type(error).__name__}: {error}")
            return
        space = taken.namespace if owner is None else dict(reach.class_dict(owner))
        table, target = space.get(_TABLE), taken.namespace if owner is None else owner
        if table is not None and type(table) is not dict:
            return
        known = cast("dict[str, object]", table or {})
        present = known.get(name, MISSING)
        if present is value or same(present, value):
            return
        if table is None:
            made = self._table(edit, taken, owner)
            made[name] = value
            self._owners[id(made)] = edit, target, made
            return
        self._owners[id(known)] = edit, target, known
        self.steps.append(Step("item", known, name, value, present, f"{edit.path} (annotation)"))
        if owner is not None and MISSING not in (present, value):
            self.steps += _of_dataclass(owner, edit.path, name, present, value)

    def finish(self) -> None:
        """Put tables in the order of the source where steps by name would not."""
        for edit, target, table in self._owners.values():
            own = [step for step in self.steps if step.target is table]
            after = dict(table)
            for step in own:
                after[str(step.name)] = step.value
            after = {name: value for name, value in after.items() if value is not MISSING}
            order = [name for name in self._order(edit) if name in after]
            if order == list(after) or len(order) != len(after):
                continue
            ordered = {name: after[name] for name in order}
            if id(table) in map(id, self._made.values()):
                table.clear()
                table.update(ordered)
                continue
            kind: Kind = "class" if edit.scope else "item"
            what = f"{edit.module}:{edit.scope}.{_TABLE}"
            self.steps = [step for step in self.steps if step.target is not table]
            self.steps.append(Step(kind, target, _TABLE, ordered, table, what))

    def _order(self, edit: Edit) -> list[str]:
        new = self.stage.versions[edit.module].new
        assert new is not None
        items = new.outline.scopes.get(edit.scope, ())
        found = (i.names for i in items if isinstance(i.node, ast.AnnAssign))
        return list(dict.fromkeys(mangled(edit.scope, name) for names in found for name in names))

    def _owner(self, edit: Edit, taken: Inventory) -> type | None:
        group = taken.classes.get(edit.scope, []) if edit.scope else []
        return group[0] if group else None

    def _table(self, edit: Edit, taken: Inventory, owner: type | None) -> dict[str, object]:
        """The table of a module or class that had none."""
        target: object = taken.namespace if owner is None else owner
        if id(target) not in self._made:
            self._made[id(target)] = {}
            made, what = self._made[id(target)], f"{edit.module}:{edit.scope}.{_TABLE}"
            step = Step("item" if owner is None else "class", target, _TABLE, made, MISSING, what)
            self.steps.append(step)
        return self._made[id(target)]


def annotated(edit: Edit) -> bool:
    """Whether the edit is of a name that either side annotates."""
    return any(isinstance(item.node, ast.AnnAssign) for item in (*edit.old, *edit.new))


def _remade(cls: type) -> str:
    """What turned the annotations of a class body into something else; "" when they are as they
    stood there.
    """
    why = watched_class(cls, values=True)
    return "" if why.endswith(".__init_subclass__") or why.startswith("an Enum") else why


def _of_dataclass(
    cls: type, path: str, name: str, present: object, value: object
) -> Iterator[Step]:
    """The field a dataclass made, and the generated `__init__` of it and of what inherits it."""
    fields = reach.class_dict(cls).get("__dataclass_fields__")
    made = cast("dict[str, object]", fields).get(name) if type(fields) is dict else None
    if type(made) is not dataclasses.Field:
        return
    field = cast("dataclasses.Field[object]", made)
    if field.type is present:
        yield Step("member", field, "type", value, present, f"{path} (field)")
    for each in reach.family(cls):
        init = reach.class_dict(each).get("__init__")
        if type(init) is FunctionType and init.__annotations__.get(name, MISSING) is present:
            what = f"{path} (annotation of __init__)"
            yield Step("item", init.__annotations__, name, value, present, what)
