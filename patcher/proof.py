"""That a process has a patch already is proved edit by edit, from what lives; what cannot be
proved is not so.

Equal code alone proves little: a default, a class attribute or a constant leaves no trace in it.
Other differences prove nothing against it: a release has the fix and more.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, inventory
from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    BODY,
    DOCSTRING,
    METADATA,
    POSTPONED,
    SIGNATURES,
    ModuleVersions,
    version,
)
from zdpatch.patcher.evaluate import live_import
from zdpatch.patcher.facets import changed_defaults
from zdpatch.patcher.metadata import default_values
from zdpatch.patcher.newcomers import Newcomers
from zdpatch.patcher.remade import remade
from zdpatch.patcher.situation import Situation
from zdpatch.patcher.slots import MISSING
from zdpatch.patcher.stage import Stage
from zdpatch.patcher.structure import unexplained
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FunctionType

    from zdpatch.patcher.drift import Drift
    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.names import FunctionNode

_VALUES: Final = frozenset({"value", "added", "removed"})
_OF_FUNCTION: Final = METADATA | {BODY, POSTPONED}


def says_the_new(each: ModuleVersions, source: bytes) -> bool:
    """Whether `source` has at every definition path that the patch changes what the new source has,
    wherever else they differ.
    """
    assert each.new is not None
    try:
        other = version(each.name, source, each.change.path, package=each.change.package)
    except SyntaxError:
        return False
    change = replace(each.change, base=source)
    missing = diff(ModuleVersions(change, other, each.new))
    wanted = {_place(edit) for edit in diff(_from_nothing(each))}
    names = {name for place in wanted for name in place.split(".")}
    if any(names & _words(edit) for edit in missing):
        return False
    return not any(_overlap(_place(edit), place) for edit in missing for place in wanted)


def _place(edit: Edit) -> str:
    """The path of an edit; all statements of a module that bind no name are one place."""
    return ":" if edit.kind in {"effect", "star"} else edit.qualname


def _words(edit: Edit) -> set[str]:
    """What statements that bind no name speak of: one may delete, or wrap, what another made."""
    if _place(edit) != ":":
        return set()
    items = (*edit.old, *edit.new)
    return {word for item in items for word in re.findall(r"\w+", ast.unparse(item.node))}


def _overlap(one: str, two: str) -> bool:
    return one == two or one.startswith(f"{two}.") or two.startswith(f"{one}.")


def _from_nothing(each: ModuleVersions) -> ModuleVersions:
    """A module that is new, as one that was empty."""
    if each.base is not None:
        return each
    change = replace(each.change, base=b"")
    empty = version(each.name, b"", each.change.path, package=each.change.package)
    return ModuleVersions(change, empty, each.new)


@dataclass(frozen=True)
class Proof:
    """Of the loaded modules of a patch: `edits` is what it changes."""

    versions: Mapping[str, ModuleVersions]
    taken: Mapping[str, Inventory]
    stage: Stage
    edits: list[Edit]

    @classmethod
    def of(cls, loaded: Iterable[ModuleVersions]) -> Proof:
        """Of modules that are loaded and which the new source has."""
        versions = {each.name: _from_nothing(each) for each in loaded}
        taken = {name: inventory.take(sys.modules[name], heap=False) for name in versions}
        stage = Stage(
            versions,
            {name: each.module for name, each in taken.items()},
            Situation.classes(taken),
            {name: each.change.path for name, each in versions.items()},
            Newcomers({}, {}, {}, {}),
        )
        edits = [edit for each in versions.values() for edit in diff(each)]
        stage.expect(edit for edit in edits if edit.kind in _VALUES)
        return cls(versions, taken, stage, edits)

    def holds(self) -> bool:
        """Whether every edit is in; what raises when it is made again proves nothing."""
        if any(_overlap(one.path, edit.path) for one in self._drift() for edit in self.edits):
            return False  # something else is bound there than the new source binds
        try:
            return all(self._is_in(edit) for edit in self.edits)
        except (Exception, SystemExit):  # noqa: BLE001 - code of the patch may raise anything
            return False

    def _drift(self) -> Iterator[Drift]:
        for name, taken in self.taken.items():
            new = self.versions[name].new
            yield from unexplained(taken, new) if new is not None else ()

    def _is_in(self, edit: Edit) -> bool:
        if edit.kind == "nested":
            return self._runs(edit, edit.qualname.partition(".<locals>")[0])
        if edit.kind == "function":
            known = edit.facets <= _OF_FUNCTION and self._runs(edit, edit.qualname)
            return known and self._says(edit)
        if edit.kind in _VALUES:
            return self._is_bound(edit)
        # what a new module does besides is not held against it: it was loaded as it is
        return self.versions[edit.module].change.base == b"" and edit.kind == "effect"

    def _runs(self, edit: Edit, path: str) -> bool:
        """Whether all that lives of a function runs the new code."""
        new = self.versions[edit.module].new
        expected = {codes.digest(code) for code in new.flat.get(path, ())} if new else set[bytes]()
        live = self.taken[edit.module].functions.get(path, [])
        return bool(live) and all(codes.digest(each.code) in expected for each in live)

    # ------------------------------------------------------------ names

    def _is_bound(self, edit: Edit) -> bool:
        present = self.stage.present(edit)
        if not edit.new:
            return present is MISSING
        item = edit.new[-1]
        if item.kind in {"function", "class"}:
            return False  # its decorators, defaults, bases and body cannot all be told from it
        if item.kind == "import":
            return present is not MISSING and present is live_import(item)
        value = self.stage.value((edit.module, edit.qualname))
        return value is not None and same(present, value.new)

    # ------------------------------------------------------------ metadata

    def _says(self, edit: Edit) -> bool:
        """Whether all live functions of an edit have the metadata of the new source."""
        if not edit.facets & METADATA:
            return True
        live = self.taken[edit.module].functions.get(edit.qualname, [])
        # a slot gives the function itself, not a method
        return all(self._agrees(edit, each.function) for each in live)  # pyright: ignore[reportArgumentType]

    def _agrees(self, edit: Edit, function: FunctionType) -> bool:
        params = getattr(function, "__type_params__", ())
        made = remade(self.stage, edit, params, new=True)
        if DOCSTRING in edit.facets and made.__doc__ != function.__doc__:
            return False
        if ANNOTATIONS in edit.facets and not same(made.__annotations__, function.__annotations__):
            return False
        return not edit.facets & SIGNATURES or self._defaults_agree(edit, made, function)

    def _defaults_agree(self, edit: Edit, made: FunctionType, function: FunctionType) -> bool:
        node = cast("FunctionNode", edit.new[-1].node)
        fresh, present = default_values(node, made), default_values(node, function)
        if fresh is None or present is None:
            return False
        return all(same(present[name], fresh[name]) for name in changed_defaults(edit))
