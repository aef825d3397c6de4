"""What a bundle's hooks carry over is named beforehand; of these names alone the process asks no
more than that the hooks give what new code needs.

A name that a hook gives a value has a `Promise` for it while the patch is planned: nothing can be
computed from that, so whatever reads the name must be carried over as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.attributes import Unfit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.rows import Decision
    from zdpatch.patcher.slots import Step

_GIVEN: Final = "a hook of the bundle gives its value"
_DONE: Final = "a hook of the bundle does what it does"


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """The value of a name that a hook will give, when the patch goes in."""

    path: str


@dataclass(frozen=True, slots=True)
class Need:
    """Objects of the class at `path` have the attributes `names` when its hooks are done."""

    path: str
    names: frozenset[str]


def is_promised(edit: Edit, migrates: Collection[str]) -> bool:
    """Whether a hook gives the value that an edit is about."""
    last = (edit.new or edit.old)[-1]
    plain = edit.kind in {"value", "added"} and last.kind == "value" and not edit.of_function
    return plain and edit.path in migrates


def eased(decision: Decision, migrates: Collection[str]) -> Decision:
    """The decision for an edit when hooks carry over what `migrates` names."""
    edit = decision.edit
    if decision.row in {"A", "M"} and is_promised(edit, migrates):
        return replace(decision, row="A", reason=_GIVEN, needs=())
    if decision.row == "M" and edit.kind == "effect" and edit.shown in migrates:
        return replace(decision, row="A", reason=_DONE, needs=())
    return decision


def need_of(edit: Edit, upgrades: Collection[str]) -> Need | None:
    """What hooks owe the objects that an edit is about; None when they do not carry them over."""
    if not isinstance(edit, Unfit) or edit.holder.kind != "instances":
        return None
    path = f"{edit.holder.module}:{edit.holder.path}"
    return Need(path, edit.lacking) if path in upgrades else None


def unkept(steps: Iterable[Step]) -> str:
    """Which promise nobody kept; "" when all were."""
    for step in steps:
        if type(step.value) is Promise:
            return f"no hook gives a value for {step.value.path}"
    return ""
