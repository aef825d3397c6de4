"""Inner functions live as long as the calls that made them: brought to new code, and back, by what
they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher import inventory
from zdpatch.patcher.slots import Step
from zdpatch.patcher.source import is_patched

if TYPE_CHECKING:
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.plan import Plan


def taken_of(plan: Plan) -> list[Inventory]:
    """What is live of the modules whose inner functions the plan renews, by one heap scan."""
    modules = list({id(module): module for module, _, _ in plan.renewed}.values())
    return inventory.take_all(modules) if modules else []


def closure_steps(plan: Plan, taken: list[Inventory], *, back: bool) -> list[Step]:
    """Steps that bring closures from old to new code, or back."""
    pairs = ((new, old) if back else (old, new) for _, old, new in plan.renewed)
    # By identity: another definition of the same path may have equal code, and stays as it is.
    wanted = {id(was): becomes for was, becomes in pairs}
    return [
        Step("function", each.function, "__code__", wanted[id(each.code)], each.code, each.where)
        for one in taken
        for group in one.functions.values()
        for each in group
        if id(each.code) in wanted
    ]


def born(plan: Plan, taken: list[Inventory]) -> dict[str, int]:
    """Live functions, made on trial, with code of the patch that its undo could not take back."""
    found: dict[str, int] = {}
    for one in taken:
        for group in one.functions.values():
            for each in group:
                new = is_patched(each.code.co_filename, plan.patch.id)
                if new and "<locals>" in each.qualname:
                    path = f"{one.name}:{each.qualname}"
                    found[path] = found.get(path, 0) + 1
    return found
