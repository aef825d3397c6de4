"""Decorators of the tree run on what is new only when they are known to keep it to themselves."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from zdpatch.patcher import reach
from zdpatch.patcher.decorators import own_decorators
from zdpatch.patcher.evaluate import Find, Unevaluable
from zdpatch.patcher.keeping import Keeping
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.own_calls import OwnCalls
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.edits import Edit, ModuleVersions


@dataclass(frozen=True)
class Decorating:
    """Of one patch: its modules, what it gives names (`find`), and the live modules."""

    versions: Mapping[str, ModuleVersions]
    find: Find
    live: Mapping[str, ModuleType]

    @cached_property
    def _keeping(self) -> Keeping:
        new = OwnCalls(self.versions, self.find, new=True)
        base = OwnCalls(self.versions, lambda _module, _name: MISSING, new=False)
        return Keeping(new.outline, base.outline)

    def registers(self, edit: Edit) -> str:
        """Why a decorator of a new function is not known to keep it to itself; "" when all are.

        Raises what making the decorator raises.
        """
        node = edit.new[-1].node if edit.new else None
        new = self.versions[edit.module].new
        if edit.kind != "added" or not isinstance(node, FunctionNode) or new is None:
            return ""
        outline = new.outline
        for decorator in own_decorators(node, outline.origins, outline.own_definitions):
            if not self._keeping.keeps(self._named(edit.module, dotted(decorator) or "")):
                shown = ast.unparse(decorator)
                return f"decorator {shown!r} may register the new function somewhere"
        return ""

    def tell_name(self, value: object, cls: type, name: str, *, made: bool) -> None:
        """Call `__set_name__`, as a class statement does and `type.__setattr__` does not. `made`:
        a decorator has just made the value, which nobody else holds.

        Raises Unevaluable for one that is not known.
        """
        owner = next((e for e in mro(type(value)) if "__set_name__" in reach.class_dict(e)), None)
        known = owner is cached_property or owner is property  # of a property from 3.13 on
        if owner is not None and (known or (made and self._keeping.keeps(type(value)))):
            tell = cast("Any", reach.class_dict(owner)["__set_name__"])
            tell(value, cls, name)
        elif owner is not None:
            raise Unevaluable(f"{reach.qualname(owner)}.__set_name__ would be called")

    def _named(self, module: str, name: str) -> object:
        """What a dotted name of a module stands for now; MISSING off the way through modules."""
        found = self.find(module, name)
        root, *rest = name.split(".")
        value = self.find(module, root)
        value = vars(self.live[module]).get(root, MISSING) if value is MISSING else value
        for attribute in rest:
            if type(value) is not ModuleType:
                return found
            value = reach.namespace(value).get(attribute, MISSING)
        return value if found is MISSING else found
