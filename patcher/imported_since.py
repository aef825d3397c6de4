"""Modules that were imported, or reloaded, with the patched source go back to the base in place, or
are named.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.patcher import overlay
from zdpatch.patcher.errors import ProcessError, Refused
from zdpatch.patcher.planner import make_plan
from zdpatch.patcher.slots import current, differing
from zdpatch.patcher.source import Patch
from zdpatch.patcher.steps import leaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import CodeType

    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.slots import Step


def imported_since(
    plan: Plan, known: tuple[CodeType, ...], before: Mapping[str, int]
) -> tuple[list[Step], Sequence[Callable[[], object]]]:
    """Steps that bring the modules of a plan which were executed after it back to the base; and
    what empties their caches. `known`: as for `make_plan`; `before`: what `overlay.executions` said
    as the plan went in. Raises ProcessError ZDP-209.
    """
    now = overlay.executions()
    since = [
        change
        for change in plan.patch.changes
        if now.get(change.name, 0) > before.get(change.name, 0) and _here(change.name)
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
        back = make_plan(
            Patch(f"{plan.patch.id}~", changes, hooks=plan.patch.hooks), known, undo=True
        )
    except Refused as error:
        names = ", ".join(change.name for change in changes)
        raise ProcessError(
            "ZDP-209",
            f"{names} was imported or reloaded with the patched source and cannot go back: "
            f"{error.cause}",
            next="replace the worker",
        ) from error
    return [*gone, *back.steps], back.caches


def _here(name: str) -> bool:
    """Whether a module is loaded or can be: not one that a patch removed again."""
    return sys.modules.get(name) is not None or overlay.locate(name) is not None


def led_back(own: Iterable[Step], others: Iterable[Step]) -> list[Step]:
    """The steps of an undo but for those whose slot holds something else now, and which `others`
    lead back: a reload has set it anew. Raises ProcessError ZDP-209 for a slot they do not.
    """
    known = {(id(step.target), step.name) for step in others}
    kept = [
        step
        for step in own
        if current(step) is step.expected or (id(step.target), step.name) not in known
    ]
    if conflicts := differing(kept):
        raise ProcessError("ZDP-209", "; ".join(conflicts), next="replace the worker")
    return kept
