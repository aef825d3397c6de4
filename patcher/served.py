"""Changed data files get a folder before anything is touched; what keeps to old ones is named."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zdpatch.patcher import folders, overlay, reach
from zdpatch.patcher.datafiles import root_of
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.folders import FOLDERS, Move
from zdpatch.patcher.pathkeepers import Wanted, count, foreign_reader, keepers, tls_contexts
from zdpatch.patcher.slots import MISSING, Step
from zdpatch.patcher.source import DataChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.caches import Answers
    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import Patch
    from zdpatch.patcher.standing import Standing

_REPLACE = "replace the worker"
_CERTIFICATES = (".pem", ".crt", ".cer", ".ca-bundle")


@dataclass(frozen=True, eq=False)
class Served:
    """How the data files of a patch get into this process. `moves`: one for each package."""

    patch: Patch
    moves: tuple[Move, ...] = ()
    notices: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, patch: Patch, shelf: Shelf | None) -> Served:
        """Look at the files that are served now, and make the folders.

        Raises Refused: ZDP-201 when a file is not the base's, ZDP-211 for what cannot be served.
        """
        served = cls(patch)
        moves = [served._move(root, group, shelf) for root, group in by_package(patch).items()]
        return cls(patch, tuple(moves), served.notices)

    @property
    def folders(self) -> Mapping[str, str]:
        """Where the files of each package will be."""
        return {**FOLDERS, **{move.package: move.new for move in self.moves}}

    def _move(self, root: str, group: list[DataChange], shelf: Shelf | None) -> Move:
        now, shelf = _place(root, group, shelf)
        try:
            for each in group:
                present = shelf.read(file_in(now, root, each))
                if present not in (each.base, each.new):
                    raise _drifted(each.path)
                if present == each.new:
                    self.notices.append(f"{each.path} is on disk as the patch wants it already")
                if each.base is not None and sys.modules.get(root) is not None:
                    self.notices.append(f"what others made of {each.path} before stays with them")
            files = {file_in("", root, each)[1:]: each.new for each in group}
            also = {shelf.real(now), folders.real_folder(root)} - {now, ""}
            return Move(root, now, shelf.fill(now, files), tuple(sorted(also)))
        except OSError as error:
            raise _unusable(group, now, error) from error

    def steps(self) -> Iterator[Step]:
        """What serves the new files."""
        for move in self.moves:
            old = FOLDERS.get(move.package, MISSING)
            what = f"files of {move.package}"
            yield Step("item", FOLDERS, move.package, move.new, old, what)
            yield from folders.redirect(move)

    def against(self, answers: Answers) -> Iterator[Verdict]:
        """Who holds a path to the old files, or what was in them; caches aside that are emptied."""
        if not self.moves:
            return
        forgotten = {id(each) for each in answers.held()}
        for move, group in zip(self.moves, by_package(self.patch).values(), strict=True):
            for path, why in keepers(Wanted.of(move, group), forgotten):
                yield Verdict(path, 1, "data file", "R", why, _REPLACE)
        known = {change.name for change in self.patch.changes}
        for move, group in zip(self.moves, by_package(self.patch).values(), strict=True):
            imported = sys.modules.get(move.package) is not None  # else nobody has asked for any
            if imported and (why := foreign_reader(move.package, _names(group), known)):
                yield Verdict(group[0].path, 1, "data file", "R", why, _REPLACE)
        for each in self.patch.data:
            if each.path.endswith(_CERTIFICATES) and each.base and (number := tls_contexts()):
                why = f"{number} TLS contexts live, which may have loaded it"
                yield Verdict(each.path, 1, "data file", "R", why, _REPLACE)
            folder = each.path.rpartition("/")[0].replace("/", ".")
            module = sys.modules.get(folder)
            if module is not None and "__file__" not in reach.namespace(module):
                why = f"it is served as a resource of {folder}, which is no regular package"
                yield Verdict(each.path, 1, "data file", "R", why, _REPLACE)

    def verdicts(self) -> Iterator[Verdict]:
        """What is done with each file."""
        for each in self.patch.data:
            state = "added" if each.base is None else "removed" if each.new is None else "changed"
            reason = f"data file {state}; who asks for it gets the patch's, in a folder of its own"
            yield Verdict(each.path, 1, "data file", "A", reason)


def serve(patch: Patch, shelf: Shelf, *, new: bool) -> None:
    """Let a process that has imported nothing of a patch find one side of its data files."""
    for root, group in by_package(patch).items():
        now, shelf = _place(root, group, shelf)
        files = {file_in("", root, each)[1:]: each.new if new else each.base for each in group}
        try:
            FOLDERS[root] = shelf.fill(now, files)
        except OSError as error:
            raise _unusable(group, now, error) from error


def with_data(standing: Standing, patch: Patch, shelf: Shelf | None) -> Standing:
    """How a process stands to a patch whose modules stand like that, by its data files too."""
    if not patch.data or standing == "superseded" or shelf is None:
        return standing
    wanted: list[tuple[DataChange, bytes | None]] = []
    try:
        for root, group in by_package(patch).items():
            now, shelf = _place(root, group, shelf)
            wanted += [(each, shelf.read(file_in(now, root, each))) for each in group]
    except (Refused, OSError):
        return "superseded"
    if all(present == each.new for each, present in wanted):
        follows = all(change.base == change.new for change in patch.changes)
        return "absorbed" if follows else standing
    at_base = all(present in (each.base, each.new) for each, present in wanted)
    changed = standing == "absorbed" and any(c.base != c.new for c in patch.changes)
    return "base" if at_base and not changed else "superseded"


def still_held(plan: Plan) -> dict[str, int]:
    """How many objects hold something of data files that were taken out, by path."""
    found: dict[str, int] = {}
    for move, group in zip(plan.moves, by_package(plan.patch).values(), strict=True):
        back = Move(move.package, move.new, move.old)
        taken = [DataChange(each.path, each.new, each.base) for each in group]
        found |= count(Wanted.of(back, taken))
    return found


def by_package(patch: Patch) -> dict[str, list[DataChange]]:
    """The data files of a patch by the package that holds them, "" for those in none."""
    packages = {change.name for change in patch.changes if change.package}
    groups: dict[str, list[DataChange]] = {}
    for each in patch.data:
        root = root_of(each.path, packages).replace("/", ".")
        groups.setdefault(root, []).append(each)
    return groups


def _place(root: str, group: list[DataChange], shelf: Shelf | None) -> tuple[str, Shelf]:
    """Where the files of a package are served from now. Raises Refused ZDP-211."""
    if not root or shelf is None:
        raise _refused(group[0].path, "it is in no package of this process")
    if not (now := FOLDERS.get(root) or _lies(root)):
        raise _refused(group[0].path, f"the package {root} is not a folder of files here")
    return now, shelf


def _names(group: list[DataChange]) -> set[str]:
    return {each.path.rpartition("/")[2] for each in group if each.base is not None}


def file_in(folder: str, root: str, each: DataChange) -> str:
    return f"{folder}/{each.path[len(root) + 1 :]}"


def _lies(root: str) -> str:
    """The folder of a package, loaded or not."""
    if sys.modules.get(root) is not None:
        return folders.real_folder(root)
    located = overlay.locate(root)
    origin = located.origin if located is not None else None
    in_folder = origin is not None and origin.endswith(("/__init__.py", "/__init__.pyc"))
    return origin.rpartition("/")[0] if origin is not None and in_folder else ""


def _unusable(group: list[DataChange], folder: str, error: OSError) -> Refused:
    return _refused(group[0].path, f"{error.strerror or error}: {error.filename or folder}")


def _refused(path: str, why: str) -> Refused:
    verdict = Verdict(path, 1, "data file", "R", why, _REPLACE)
    return Refused("ZDP-211", f"{path} cannot be served: {why}", (verdict,), next=_REPLACE)


def _drifted(path: str) -> Refused:
    why = "the file that this process would read is not the base of the patch"
    verdict = Verdict(path, 1, "drift", "X", why, "build the patch from what is deployed")
    return Refused("ZDP-201", f"{path}: {why}", (verdict,))
