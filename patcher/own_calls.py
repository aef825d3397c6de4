"""Calls of the tree's own functions in a statement, put in as the values that they give on one side
of the patch.
"""

from __future__ import annotations

import ast
import copy
import sys
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import inventory
from zdpatch.patcher.again import Again
from zdpatch.patcher.computed import is_data
from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.importers import source_of
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.plain import immutable
from zdpatch.patcher.purity import OWN, origin
from zdpatch.patcher.reach import namespace
from zdpatch.patcher.spread import split
from zdpatch.patcher.statements import bound_names
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.texts import Texts
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.evaluate import Find
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

_NAME: Final = "zdpatch_own_"
_HOPS: Final = 8  # imports that hand a name on


@dataclass(eq=False)
class OwnCalls:
    """The functions of one side of a patch, and of loaded modules around it."""

    versions: Mapping[str, ModuleVersions]
    find: Find
    new: bool
    module: str = ""
    line: int = 0  # of the statement, in `module`
    _around: dict[str, Outline | None] = field(default_factory=dict[str, "Outline | None"])

    def put_in(
        self, items: Iterable[Item], module: str, *, keep: bool
    ) -> tuple[tuple[Item, ...], dict[str, object]]:
        """The statements with names instead of calls, and the values of these names. With `keep`
        they must be immutable: the statement gives a value that others may hold already.

        Raises Unevaluable for a call that is not known to be pure.
        """
        outline = self.outline(module)
        values: dict[str, object] = {}
        if outline is None:
            return tuple(items), values
        found: list[Item] = []
        for item in items:
            if item.kind == "value":
                self.module, self.line = module, item.line
                calls = _Calls(self, outline, values, keep=keep, item=item)
                node = calls.visit(copy.deepcopy(item.node))
                found.append(replace(item, node=cast("ast.stmt", node)))
            else:
                found.append(item)
        return (tuple(found), values) if values else (tuple(items), values)

    def outline(self, module: str) -> Outline | None:
        """The text of a module on this side; None where it is not known to be what runs."""
        each = self.versions.get(module)
        if each is not None:
            side = each.new if self.new else each.base
            return None if side is None else side.outline
        if module not in self._around:
            loaded = sys.modules.get(module)
            real = loaded if isinstance(loaded, ModuleType) else None
            known = None if real is None else as_loaded(real)
            side = None if known is None else known.new
            self._around[module] = None if side is None else side.outline
        return self._around[module]

    def function(
        self, module: str, name: str, hops: int = _HOPS
    ) -> tuple[Outline, FunctionNode] | None:
        """The one definition that a dotted name stands for; None when it is something else."""
        outline = self.outline(module)
        root = name.partition(".")[0]
        binders = outline.binders("", root) if outline is not None else []
        stars = outline is None or any(root in e.names for e in outline.items if e.kind == "effect")
        if outline is None or len(binders) != 1 or stars or not hops:
            return None
        if module == self.module and binders[0].line > self.line:
            return None
        node = binders[0].node
        if isinstance(node, FunctionNode):
            return (outline, node) if name == root else None
        if binders[0].kind == "import":
            full = origin(name, outline.imports)
            for owner, rest in split(full, {*sys.modules, *self.versions}):
                if "." not in rest:
                    return self.function(owner, rest, hops - 1)
        return None

    def lookup(self, module: str, name: str) -> object:
        """What a plain name of a module is bound to on this side.

        Raises Unevaluable when more than one statement binds it: which counts is not known.
        """
        outline = self.outline(module)
        items = outline.items if outline is not None else ()
        binders = [item for item in items if name in item.names]
        late = module == self.module and any(item.line > self.line for item in binders)
        if len(binders) > 1 or late:
            raise Unevaluable(f"{name} is bound several times, or only further down")
        value = self.find(module, name)
        if value is MISSING:
            value = self.find("", f"{module}.{name}")
        loaded = sys.modules.get(module)
        if value is MISSING and isinstance(loaded, ModuleType):
            value = namespace(loaded).get(name, MISSING)
            if is_data(value):
                self._check_kept(module, name, value)
        return value

    def _check_kept(self, module: str, name: str, value: object, hops: int = _HOPS) -> None:
        """Raise Unevaluable for plain data which the program may have changed since the import."""
        outline = self.outline(module)
        binders = outline.binders("", name) if outline is not None else []
        if outline is None or not binders:
            if not immutable(value):
                raise Unevaluable(f"{name} may have changed since the import")
            return
        if any(name in _global_names(item) for item in outline.items):
            raise Unevaluable(f"{name} is bound by functions too")
        if binders[0].kind == "import" and hops:
            full = binders[0].source
            for owner, rest in split(full, {*sys.modules, *self.versions}):
                if "." not in rest:
                    self._check_kept(owner, rest, value, hops - 1)
                    return
        try:
            said = ast.literal_eval(cast("ast.expr", getattr(binders[0].node, "value", None)))
        except (ValueError, TypeError):
            said = MISSING
        known = said is not MISSING and isinstance(binders[0].node, ast.Assign | ast.AnnAssign)
        one = len(binders) == 1 and len(binders[0].names) == 1
        if (known and one and not same(said, value)) or not ((known and one) or immutable(value)):
            raise Unevaluable(f"{name} may have changed since the import")


def as_loaded(module: ModuleType) -> ModuleVersions | None:
    """A loaded module with the source that is verified to be what runs; None without one."""
    source, name = source_of(module), str(namespace(module).get("__name__"))
    each = None if source is None else Texts().as_it_is(name, module, source)
    if each is None or each.base is None:
        return None
    return None if inventory.drift(inventory.take(module, heap=False), each.base.code) else each


def _global_names(item: Item) -> set[str]:
    """Names of the module that functions in a statement may bind."""
    parts = ast.walk(item.node) if item.kind in {"function", "class"} else ()
    return {name for part in parts if isinstance(part, ast.Global) for name in part.names}


class _Calls(ast.NodeTransformer):
    """Puts names in place of calls; what is only called later stays."""

    def __init__(
        self,
        calls: OwnCalls,
        outline: Outline,
        values: dict[str, object],
        *,
        keep: bool,
        item: Item,
    ) -> None:
        self.calls = calls
        self.outline = outline
        self.values = values
        self.keep = keep
        self.origins = outline.own_origins
        self.item = item
        above = outline.scopes.get(item.scope, ()) if item.scope else ()
        self.hidden = {name for each in above for name in (*each.names, *bound_names(each.node))}

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = dotted(node.func)
        if name is None or not origin(name, self.origins).startswith(OWN):
            return cast("ast.expr", self.generic_visit(node))
        self._check(node, name)
        found = Again(self.calls.function, self.calls.lookup).call(self.outline, node)
        if not is_data(found) or (self.keep and not immutable(found)):
            raise Unevaluable(f"{name} gives an object that has state")
        key = f"{_NAME}{len(self.values)}"
        self.values[key] = found
        return ast.copy_location(ast.Name(key, ast.Load()), node)

    def _check(self, node: ast.Call, name: str) -> None:
        """Raise Unevaluable for a call that may run otherwise than once, on the module's names."""
        statement = self.item.node
        simple = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
        inside = (ast.comprehension, ast.NamedExpr, ast.IfExp, ast.BoolOp)
        if not simple or any(isinstance(part, inside) for part in ast.walk(statement)):
            raise Unevaluable(f"{name} may be called more than once, or not at all")
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        if used := names & self.hidden:
            raise Unevaluable(f"{min(used)} is a name of the class")
