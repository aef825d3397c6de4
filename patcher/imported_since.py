"""Modules that were imported with the patched source go back to the base in place, or are named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.patcher import overlay
from zdpatch.patcher.errors import ProcessError, Refused
from zdpatch.patcher.planner import make_plan
from zdpatch.patcher.source import Patch
from zdpatch.patcher.steps import leaving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.slots import Step


def imported_since(
    plan: Plan, known: tuple[CodeType, ...]
) -> tuple[list[Step], Sequence[Callable[[], object]]]:
    """Steps that bring the modules of a plan which were imported after it back to the base; and
    what empties their caches. `known`: as for `make_plan`. Raises ProcessError ZDP-209.
    """
    since = [
        change
        for change in plan.patch.changes
        if change.name in plan.deferred and overlay.served(change.name)
    ]
    gone = [step for change in since if change.base is None for step in leaving(change.name)]
    changes = tuple(
        replace(change, base=change.new, new=change.base)
        for change in since
        if change.base is not None
    )
    if not changes:
        return gone, ()
    try:
        back = make_plan(Patch(f"{plan.patch.id}~", changes), known, undo=True)
    except Refused as error:
        names = ", ".join(change.name for change in changes)
        cause = f"{names} was imported with the patched source and cannot go back: {error.cause}"
        raise ProcessError("ZDP-209", cause, next="replace the worker") from error
    return [*gone, *back.steps], back.caches
