"""A branch counts as taken only when the process still shows that it was: its test gives the same
from names that are what the source says, or its imports are bound, or cannot be had.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.branches import branch_key, taken_blocks
from zdpatch.patcher.evaluate import Place, guard, live_import, run
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import dotted, uses
from zdpatch.patcher.outline import Outline, outline
from zdpatch.patcher.purity import is_pure
from zdpatch.patcher.reach import namespace
from zdpatch.patcher.statements import bound_names
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from zdpatch.patcher.branches import Taken
    from zdpatch.patcher.edits import ModuleVersions

_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception"})
_TEST: Final = "zdpatch_test"
_BINDING: Final = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def with_branches(each: ModuleVersions, module: ModuleType) -> ModuleVersions:
    """Both sides, read with the branches that `module` took when it ran the base."""
    if each.base is None:
        return each
    branches = _Evidence(each.base.outline, module).branches()
    if each.new is not None:
        branches |= _Evidence(each.new.outline, module, each.base.outline).branches(branches)
    if not branches:
        return each
    base, new = each.base.read_as(each.base.outline.following(branches)), each.new
    if new is not None and new.outline is each.base.outline:
        new = new.read_as(base.outline)
    elif new is not None:
        new = new.read_as(new.outline.following(branches))
    return replace(each, base=base, new=new)


class _Evidence:
    """What one live module shows of the branches of its base; of those which only the new source
    has, when that makes what they read as `running`, the base, did.
    """

    def __init__(self, base: Outline, module: ModuleType, running: Outline | None = None) -> None:
        self.base = base
        self.running = running
        self.module = module
        self.names = namespace(module)
        self.trusted: dict[str, bool] = {}
        self.deleted: dict[str, object] = {}  # what names had that a `del` took away again

    def branches(self, seen: Mapping[str, Taken] | None = None) -> dict[str, Taken]:
        """The branches known to be taken, those inside of others too, and those `seen` before."""
        found: dict[str, Taken] = dict(seen or {})
        looked: set[str] = set(found)
        if found:
            self.base = self.base.following(found)
        while True:
            fresh = [
                item.node
                for item in self.base.items
                if self._undecided(item) and branch_key(item.node) not in {"", *looked}
            ]
            known: dict[str, Taken | None] = {branch_key(node): self._taken(node) for node in fresh}
            looked |= known.keys()
            decided: dict[str, Taken] = {key: way for key, way in known.items() if way is not None}
            if not decided:
                return found
            found |= decided
            self.base = self.base.following(found)

    def _undecided(self, item: Item) -> bool:
        """Whether an item is a branch to look at: one that only binds values is evaluated as a
        whole, where that has no effect.
        """
        if not isinstance(item.node, ast.If) and self.running is not None:
            return False
        if item.kind == "value":
            parts = ast.walk(item.node) if isinstance(item.node, ast.If) else ()
            values = (getattr(part, "value", None) for part in parts if isinstance(part, _BINDING))
            impure = any(not is_pure(v, self.base.origins) for v in values if v is not None)
            return impure or bool(set(item.reads) & self._unbound())
        return item.kind == "effect" and isinstance(item.node, ast.If | ast.Try)

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
            guard([item], lambda name: self.deleted.get(name, self.names.get(name, MISSING)))
            place = Place(self.module, "<base>")
            found = run([item], place, lambda _module, name: self.deleted.get(name, MISSING))
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
        if len(binders) > 1:
            return self._last_binds(name, binders)
        return name in {*self.names, *self._unbound()} and self._binds(name, binders[0])

    def _binds(self, name: str, item: Item) -> bool:
        """Whether the one statement that gives a name a value gave it what it is."""
        live = self.names.get(name, MISSING)
        if item.kind == "import":
            return self._was_there(item) and live_import(item) is live
        value = getattr(item.node, "value", None)
        if item.kind != "value" or not isinstance(value, ast.expr) or not self._was_there(item):
            return False
        if not is_pure(value, self.base.origins) or not self._all_trusted(value):
            return False
        value = self._value(item)
        if live is MISSING and value is not MISSING:
            self.deleted[name] = value
        return value is not MISSING and (live is MISSING or same(value, live))

    def _last_binds(self, name: str, binders: list[Item]) -> bool:
        """Whether the last of several statements that gave a name a value is known, and gave it
        what it is.
        """
        if name not in self.names or not self._was_there(*binders):
            return False
        ran = self._ran([item.node for item in binders])
        last = [node for node in ran or () if name in bound_names(node)][-1:]
        value = getattr(last[0], "value", None) if last else None
        if not last or not isinstance(last[0], ast.Assign) or not isinstance(value, ast.expr):
            return False
        if not is_pure(value, self.base.origins) or not self._all_trusted(value):
            return False
        found = self._value(Item("value", "", (name,), last[0]))
        return found is not MISSING and same(found, self.names[name])

    def _ran(self, nodes: list[ast.stmt]) -> list[ast.stmt] | None:
        """The statements of some that ran, inside of branches too; None when that is not known."""
        found: list[ast.stmt] = []
        for node in nodes:
            way: Taken | None
            if isinstance(node, ast.If):
                value = self._test(node)
                way = None if value is None else "body" if value else "orelse"
            elif isinstance(node, ast.Try):
                way = None if node.finalbody else self._import(node)
            else:
                found.append(node)
                continue
            inner = None if way is None else self._ran(taken_blocks(node, way))
            if inner is None:
                return None
            found += inner
        return found

    def _was_there(self, *items: Item) -> bool:
        """Whether the base that runs binds the name in the same way."""
        if self.running is None:
            return True
        shapes = [each.shape for each in self.running.items if items[0].name in each.names]
        return shapes == [item.shape for item in items]

    def _unbound(self) -> set[str]:
        """Names that are not here any more because a `del` at the top level says so."""
        deletes = (item.node for item in self.base.items if isinstance(item.node, ast.Delete))
        targets = (target for node in deletes for target in node.targets)
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        return names - self.names.keys()

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
