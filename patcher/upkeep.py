"""What patches serve is what they carry, also when somebody has damaged or removed it since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.served import by_package, file_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.folders import Move, Shelf
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import DataChange


@dataclass(frozen=True, slots=True)
class Damage:
    """A data file of a patch (by id) that is not as it says; `why` it could not be mended."""

    patch: str
    path: str
    why: str = ""


def damaged(plans: Iterable[Plan], shelf: Shelf | None) -> Iterator[Damage]:
    """The served files of active patches, in the order of these, that are not as they should be."""
    for plan, move, wanted in _served(plans):
        for file, each in wanted.items():
            if shelf is not None and not shelf.holds(f"{move.new}/{file}", each.new):
                yield Damage(plan.patch.id, each.path)


def mend(plans: Iterable[Plan], shelf: Shelf | None) -> Iterator[Damage]:
    """Put back what is damaged: each file that was, and why it still is."""
    for plan, move, wanted in _served(plans):
        if shelf is None:
            continue
        files = {file: each.new for file, each in wanted.items()}
        wrong = [f for f, content in files.items() if not shelf.holds(f"{move.new}/{f}", content)]
        why = ""
        try:
            if wrong:
                shelf.mend(move.new, move.old, files)
        except OSError as error:
            why = f"{error.strerror or error}: {error.filename or move.new}"
        for file in wrong:
            yield Damage(plan.patch.id, wanted[file].path, why)


def _served(plans: Iterable[Plan]) -> Iterator[tuple[Plan, Move, dict[str, DataChange]]]:
    """Each folder that is served, or was below one that is, and what patches have changed in it by
    path below the folder: a later patch took over what those before it had changed.
    """
    so_far: dict[str, dict[str, DataChange]] = {}
    for plan in plans:
        for move, group in zip(plan.moves, by_package(plan.patch).values(), strict=True):
            files = {file_in("", move.package, each)[1:]: each for each in group}
            so_far[move.package] = {**so_far.get(move.package, {}), **files}
            yield plan, move, so_far[move.package]
