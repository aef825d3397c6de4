"""What a statement of a patch finds under a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.carried import carried
from zdpatch.patcher.names import mangled
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.stage import Stage


@dataclass(frozen=True, eq=False, slots=True)
class Finding:
    """What statements of `edit` find under names: in `own` first, then what is staged of a class
    and its `namespace`, then in the module. `before`: chains of attributes that the old text reads
    too; `later`: names which a class binds after them.

    No closures: two that call each other would hold the namespaces, whose holders are counted.
    """

    stage: Stage
    edit: Edit
    own: Mapping[str, object]
    staged: Mapping[str, object]
    namespace: Mapping[str, object]
    globals_: Mapping[str, object]
    before: Collection[str]
    later: Collection[str]

    def _first(self, name: str) -> object:
        return self.own[name] if name in self.own else self.stage.find(self.edit.module, name)

    def outside(self, name: str) -> object:
        """Past the class."""
        value = self._first(name)
        return self.globals_.get(name, MISSING) if value is MISSING else value

    def lookup(self, name: str) -> object:
        """In the class too, if they are in one."""
        value = self._first(name)
        if value is MISSING and name in self.before:
            return carried(name, self.lookup, self.stage.versions)
        if value is not MISSING or name in self.later:
            return self.outside(name)
        name = mangled(self.edit.scope, name)
        return self.staged.get(name, self.namespace.get(name, self.globals_.get(name, MISSING)))
