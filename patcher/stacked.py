"""A patch that meets another one is told which, instead of what that one made of the modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher.errors import ProcessError, Refused
from zdpatch.patcher.importers import imported

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import Patch


def below(patch: Patch, active: Iterable[Plan]) -> list[Plan]:
    """The plans of active patches that change a module which `patch` changes, oldest first."""
    mine = {change.name for change in patch.changes}
    return [plan for plan in active if mine & {change.name for change in plan.patch.changes}]


def same_fix(patch: Patch, others: Iterable[Plan]) -> ProcessError:
    """ZDP-204: the process has all that `patch` would bring."""
    names = ", ".join(plan.patch.id for plan in others)
    return ProcessError(
        "ZDP-204",
        f"the fix is in already: all that {patch.id} changes is as it would leave it;"
        f" active here: {names}",
        next="zdpatch status",
    )


def check_top(patch_id: str, active: Mapping[str, Plan]) -> None:
    """Raise ProcessError ZDP-204 when a later patch stands on this one. `active`: in the order in
    which they came.
    """
    mine = {change.name for change in active[patch_id].patch.changes}
    mine |= {name.rpartition(".")[0] for name in mine if "." in name}
    later = list(active)[list(active).index(patch_id) + 1 :]
    for other in later:
        # a later patch may use what this one added, when it imports from one of the modules
        used = {
            name
            for change in active[other].patch.changes
            for name in (
                change.name,
                *imported(change.name, change.new or b"", package=change.package),
            )
        }
        if mine & used:
            raise ProcessError(
                "ZDP-204",
                f"patch {other} was built on top of {patch_id}",
                next=f"zdpatch rollback {other}",
            )


def in_the_way(patch: Patch, refusal: Refused, others: Iterable[Plan]) -> ProcessError | None:
    """ZDP-204 when everything that `refusal` names was changed by active patches, else None."""
    if refusal.code not in ("ZDP-201", "ZDP-202") or not refusal.verdicts:
        return None
    changed = {verdict.path: plan for plan in others for verdict in plan.verdicts}
    blamed = list(_blamed(refusal, changed))
    if None in blamed:
        return None
    names = list(dict.fromkeys(plan.patch.id for plan in blamed if plan is not None))
    paths = [verdict.path for verdict in refusal.verdicts]
    data = {each.path for plan in others for each in plan.patch.data}
    on_top = "zdpatch build --from agent:SELECTOR"
    if data.intersection(paths):  # an agent tells the source of modules alone
        on_top = f"zdpatch build --from what {names[-1]} was built --to"
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ProcessError(
        "ZDP-204",
        f"{', '.join(names)} changed {', '.join(paths[:3])}{more}, and {patch.id} was built from"
        " what was there before",
        next=f"zdpatch rollback {names[-1]}   or build on top of it: {on_top}",
    )


def _blamed(refusal: Refused, changed: dict[str, Plan]) -> Iterator[Plan | None]:
    """For each verdict the patch that changed what it names, or that which it is part of."""
    for verdict in refusal.verdicts:
        path = verdict.path
        while path not in changed and "." in path.partition(":")[2]:
            path = path.rpartition(".")[0]
        yield changed.get(path)
