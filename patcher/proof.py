"""That a process has a patch already is proved edit by edit, from what lives; what cannot be
proved is not so.

Equal code alone proves little: a default, a class attribute or a constant leaves no trace in it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import inventory
from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import ANNOTATIONS, BODY, DOCSTRING, METADATA, POSTPONED, SIGNATURES
from zdpatch.patcher.evaluate import live_import
from zdpatch.patcher.facets import changed_defaults
from zdpatch.patcher.metadata import default_values
from zdpatch.patcher.newcomers import Newcomers
from zdpatch.patcher.remade import remade
from zdpatch.patcher.situation import Situation
from zdpatch.patcher.slots import MISSING
from zdpatch.patcher.stage import Stage
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FunctionType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.names import FunctionNode

_VALUES: Final = frozenset({"value", "added", "removed"})
_OF_FUNCTION: Final = METADATA | {BODY, POSTPONED}


@dataclass(frozen=True)
class Proof:
    """Of the loaded modules of a patch that runs the new code: `edits` is what differs."""

    versions: Mapping[str, ModuleVersions]
    taken: Mapping[str, Inventory]
    stage: Stage
    edits: list[Edit]

    @classmethod
    def of(cls, versions: Iterable[ModuleVersions]) -> Proof:
        """Of what is loaded; the rest is known by its code, with all its constants."""
        loaded = {each.name: each for each in versions if each.name in sys.modules}
        taken = {name: inventory.take(sys.modules[name], heap=False) for name in loaded}
        stage = Stage(
            loaded,
            {name: each.module for name, each in taken.items()},
            Situation.classes(taken),
            {name: each.change.path for name, each in loaded.items()},
            Newcomers({}, {}, {}, {}),
        )
        edits = [edit for each in loaded.values() for edit in diff(each)]
        stage.expect(edit for edit in edits if edit.kind in _VALUES)
        return cls(loaded, taken, stage, edits)

    def holds(self) -> bool:
        """Whether every edit is in; what raises when it is made again proves nothing."""
        try:
            return all(self._is_in(edit) for edit in self.edits)
        except (Exception, SystemExit):  # noqa: BLE001 - code of the patch may raise anything
            return False

    def _is_in(self, edit: Edit) -> bool:
        if edit.kind == "nested":
            return True  # it is part of the code that is compared
        if edit.kind == "function":
            return edit.facets <= _OF_FUNCTION and self._says_the_new(edit)
        return edit.kind in _VALUES and self._is_bound(edit)

    def _is_bound(self, edit: Edit) -> bool:
        present = self.stage.present(edit)
        if not edit.new:
            return present is MISSING
        item = edit.new[-1]
        if item.kind in {"function", "class"}:
            return present is not MISSING
        if item.kind == "import":
            return present is not MISSING and present is live_import(item)
        value = self.stage.value((edit.module, edit.qualname))
        return value is not None and same(present, value.new)

    def _says_the_new(self, edit: Edit) -> bool:
        """Whether all live functions of an edit have the metadata of the new source."""
        if not edit.facets & METADATA:
            return True
        new = self.versions[edit.module].new
        group = [] if new is None else new.flat.get(edit.qualname, [])
        live = inventory.match(self.taken[edit.module], new.code) if new is not None else {}
        ordinal = next((i for i, code in enumerate(group) if code is edit.codes[1]), 0)
        functions = [each.function for each in live.get((edit.qualname, ordinal), [])]
        return bool(functions) and all(self._agrees(edit, each) for each in functions)

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
