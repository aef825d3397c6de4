"""What the names of a source lead to in the process that runs it: through modules and classes
alone, and only where nothing else in the source can have bound them.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.items import DEFINITIONS
from zdpatch.patcher.names import dotted, mangled
from zdpatch.patcher.reach import is_a
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    import ast
    from collections.abc import Mapping

    from zdpatch.patcher.bytecode import Bound
    from zdpatch.patcher.edits import Version
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item

# A class gives these as they are.
_OF_CLASSES: Final = frozenset({FunctionType, MethodDescriptorType, WrapperDescriptorType})
_NOWHERE: Final[dict[str, object]] = {}


def sure(name: str, bound: Bound) -> bool:
    """Whether one statement of a body binds a name, and does so whatever happens."""
    return name in bound.once and name in bound.lines


@dataclass(frozen=True, eq=False)
class Living:
    """One module as it lives, and a source that may be its own."""

    taken: Inventory
    base: Version

    @cached_property
    def module(self) -> Bound:
        """What the body of the module surely binds."""
        return self.base.written.bound(self.base.code)

    def bound(self, scope: str) -> Bound | None:
        """What the body of the module (""), or of the one class of that path, surely binds."""
        if not scope:
            return self.module
        bodies = self.base.written.class_bodies.get(scope, [])
        return self.base.written.bound(bodies[0]) if len(bodies) == 1 else None

    def space(self, scope: str) -> Mapping[str, object]:
        """The names of the module (""), or of the one living class of that path."""
        if not scope:
            return self.taken.namespace
        cls = self.cls(scope)
        return _NOWHERE if cls is None else reach.class_dict(cls)

    def cls(self, path: str) -> type | None:
        """The living class of a path: the one that is bound there, or the only one."""
        found = self.taken.classes.get(path, [])
        if len(found) < 2:
            return found[0] if found else None
        scope, _, name = path.rpartition(".")
        bound = id(self.space(scope).get(mangled(scope, name), MISSING))
        return next((each for each in found if id(each) == bound), None)

    def binder(self, scope: str, name: str, line: int) -> Item | None:
        """The statement that bound a name for one of that line in `scope`, if it is alone."""
        found = (self._earlier(scope, name, line) if scope else []) or self._earlier("", name, line)
        return found[0] if len(found) == 1 else None

    def named(self, node: ast.expr, scope: str, before: Item | None = None) -> object:
        """What a dotted name in the body of the class `scope` (or of the module) leads to; MISSING
        when that is not sure. `before`: read by that statement, before it binds its own name.
        """
        name = dotted(node)
        if name is None:
            return MISSING
        root, *rest = name.split(".")
        value = self._root(root, scope, before, getattr(node, "lineno", 0))
        for attribute in rest:
            value = attribute_of(value, attribute)
        return value

    def _root(self, root: str, scope: str, before: Item | None, line: int) -> object:
        own = self._earlier(scope, root, line) if scope else []
        if any(self.base.outline.binders(each, root) for each in _around(scope)):
            return MISSING
        if own:
            return MISSING if before in own else self._held(mangled(scope, root), scope)
        items, builtin = self._earlier("", root, line), vars(builtins).get(root, MISSING)
        if before is not None and not scope and root == before.name:
            return builtin if len(items) == 1 else MISSING
        if items or (root in self.taken.namespace and not self.base.outline.binders("", root)):
            return self._held(root, "")
        return MISSING if self.base.outline.has_star else builtin

    def _earlier(self, scope: str, root: str, line: int) -> list[Item]:
        """The statements that may have bound a name when the one of that line ran."""
        found = self.base.outline.binders(scope, root)
        return [item for item in found if _ends(item) <= line] if line else found

    def _held(self, name: str, scope: str) -> object:
        bound = self.bound(scope)
        if bound is None or not sure(name, bound):
            return MISSING
        return self.space(scope).get(name, MISSING)


def _ends(item: Item) -> int:
    """The line after which a statement has run; another one of that line may come after it."""
    last = item.node.end_lineno or item.line
    return last + 1 if isinstance(item.node, DEFINITIONS) else last


def attribute_of(value: object, name: str) -> object:
    """An attribute of a module or a class, without asking either; MISSING for what is neither, and
    for what a descriptor would answer.
    """
    if is_a(value, ModuleType):
        return reach.namespace(cast("ModuleType", value)).get(name, MISSING)
    if not is_a(value, type):
        return MISSING
    found: object = reach.class_dict(cast("type", value)).get(name, MISSING)
    if type(found) is staticmethod:
        return cast("object", found.__func__)
    asked = any("__get__" in reach.class_dict(each) for each in type(found).__mro__)
    return MISSING if asked and type(found) not in _OF_CLASSES else found


def _around(scope: str) -> list[str]:
    """The classes around that of `scope`: their names are none of its own, but may be meant."""
    parts = scope.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]
