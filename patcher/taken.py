"""A branch counts as taken only when the process still shows that it was: its test gives the same
from names that are what the source says, or its imports are bound, or cannot be had.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.branches import branch_key
from zdpatch.patcher.evaluate import Place, guard, live_import, run
from zdpatch.patcher.names import dotted, uses
from zdpatch.patcher.outline import Item, Outline, outline
from zdpatch.patcher.purity import is_pure
from zdpatch.patcher.reach import namespace
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from types import ModuleType

    from zdpatch.patcher.branches import Taken
    from zdpatch.patcher.edits import ModuleVersions, Version

_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception"})
_TEST: Final = "zdpatch_test"


def with_branches(each: ModuleVersions, module: ModuleType) -> ModuleVersions:
    """Both sides, read with the branches that `module` took when it ran the base."""
    if each.base is None:
        return each
    branches = _Evidence(each.base.outline, module).branches()
    if not branches:
        return each
    sides = (None if s is None else _again(s, branches) for s in (each.base, each.new))
    base, new = sides
    return replace(each, base=base, new=new)


def _again(version: Version, branches: dict[str, Taken]) -> Version:
    read = version.outline
    return version.read_as(outline(read.name, read.source, package=read.package, branches=branches))


class _Evidence:
    """What one live module shows of the branches of its base."""

    def __init__(self, base: Outline, module: ModuleType) -> None:
        self.base = base
        self.module = module
        self.names = namespace(module)
        self.trusted: dict[str, bool] = {}

    def branches(self) -> dict[str, Taken]:
        """The branches known to be taken, those inside of others too."""
        found: dict[str, Taken] = {}
        looked: set[str] = set()
        while True:
            fresh = [
                item.node
                for item in self.base.items
                if item.kind == "effect"
                and isinstance(item.node, ast.If | ast.Try)
                and branch_key(item.node) not in {"", *looked}
            ]
            known = {branch_key(node): self._taken(node) for node in fresh}
            looked |= known.keys()
            decided: dict[str, Taken] = {key: way for key, way in known.items() if way is not None}
            if not decided:
                return found
            found |= decided
            base = self.base
            self.base = outline(base.name, base.source, package=base.package, branches=found)

    def _taken(self, node: ast.stmt) -> Taken | None:
        if isinstance(node, ast.If):
            value = self._test(node)
            return None if value is None else "body" if value else "orelse"
        assert isinstance(node, ast.Try)
        return self._import(node)

    # ------------------------------------------------------------ if

    def _test(self, node: ast.If) -> bool | None:
        """What the test gave; None when that is not known."""
        if not is_pure(node.test, self.base.origins) or not self._all_trusted(node.test):
            return None
        target = ast.copy_location(ast.Name(_TEST, ast.Store()), node)
        test = Item("value", "", (_TEST,), ast.copy_location(ast.Assign([target], node.test), node))
        value = self._value(test)
        return None if value is MISSING else bool(value)

    def _value(self, item: Item) -> object:
        """What a statement binds its name to when it runs now; MISSING when it may not."""
        try:
            guard([item], lambda name: self.names.get(name, MISSING))
            found = run([item], Place(self.module, "<base>"), lambda _module, _name: MISSING)
        except Exception:  # noqa: BLE001 - what cannot run again decides nothing
            return MISSING
        return found.get(item.name, MISSING)

    def _all_trusted(self, node: ast.AST) -> bool:
        return all(self._trust(read.partition(".")[0]) for read in uses(node).reads)

    def _trust(self, name: str) -> bool:
        """Whether a name is what the base makes it, so that it was so when the module was run."""
        if name not in self.trusted:
            self.trusted[name] = False  # what depends on itself is not known
            self.trusted[name] = self._is_base(name)
        return self.trusted[name]

    def _is_base(self, name: str) -> bool:
        binders = [item for item in self.base.items if name in item.names]
        if not binders:
            return name not in self.names and hasattr(builtins, name)
        if len(binders) != 1 or name not in self.names:
            return False
        item, live = binders[0], self.names[name]
        if item.kind == "import":
            return live_import(item) is live
        value = getattr(item.node, "value", None)
        if item.kind != "value" or not isinstance(value, ast.expr):
            return False
        if not is_pure(value, self.base.origins) or not self._all_trusted(value):
            return False
        return same(self._value(item), live)

    # ------------------------------------------------------------ try

    def _import(self, node: ast.Try) -> Taken | None:
        """Which way a `try` went that imports something."""
        read = outline(
            self.base.name,
            ast.unparse(ast.Module(node.body, [])).encode(),
            package=self.base.package,
        )
        imports = [item for item in read.items if item.kind == "import"]
        if not imports or any(item.kind in {"effect", "star"} for item in read.items):
            return None
        names = {name for item in read.items for name in item.names}
        bound = all(live_import(item) is self.names.get(item.name, item) for item in imports)
        if bound and names <= self.names.keys():
            return "body"
        top = imports[0].source.partition(".")[0]
        first = read.items[0] is imports[0]
        caught = len(node.handlers) == 1 and _catches(node.handlers[0].type)
        return "handler" if first and caught and top not in sys.modules else None


def _catches(node: ast.expr | None) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(each is None or dotted(each) in _IMPORT_ERRORS for each in names)
