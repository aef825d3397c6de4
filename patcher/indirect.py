"""A statement that used a function by way of a table, a partial, a loop or another function when it
ran, and keeps plain data of it, is stale when that function changes.

The statement is followed over the live objects: which of them hold the function (`holding`), what
a loop, an index or an attribute gives of these, and whether anything of that may have been called.
Looking at a function or at the keys of a table runs nothing.
"""

from __future__ import annotations

import ast
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.computed import is_data
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.following import Follower
from zdpatch.patcher.held import HELD
from zdpatch.patcher.holding import Holders, attribute, is_callee
from zdpatch.patcher.hooks import called_by_makers
from zdpatch.patcher.spread import Name, was_there
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.calls import Changed
    from zdpatch.patcher.edits import ModuleVersions, Version
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.tracing import World

_FILLS: Final = frozenset(
    {"append", "appendleft", "add", "extend", "insert", "update", "setdefault"}
)
_BLOCKS: Final = (ast.For, ast.While, ast.If, ast.With, ast.Try)


def holders_of(changed: Changed, versions: Mapping[str, ModuleVersions], world: World) -> Holders:
    """Who holds what reaches something of `changed` in the modules of `versions`."""
    full, _, _ = changed.reaches(versions, versions)
    full = full.without(changed.values)
    return Holders(world, full.made, full.ran)


def stale_indirect(
    versions: Mapping[str, ModuleVersions], holders: Holders, only: str = ""
) -> Iterator[Edit]:
    """Edits of kind "stale" for statements, on both sides, whose plain data came of a function of
    `holders` by another way than a call by its name; `only` restricts them to one module.
    """
    for each in [versions[only]] if only else versions.values():
        if each.new is None or each.base is None or not holders.targets:
            continue
        for item in each.new.outline.every():
            found = _used(holders, each.name, item)
            if found is not None and _stood(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                how = HELD if found[1] else "call"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=found[0], detail=how
                )


def _stood(base: Version, item: Item) -> bool:
    """Whether the statement has run; a class has, whatever of its body is new."""
    if item.kind != "class":
        return was_there(base, item)
    return any(each.kind == "class" for each in base.outline.binders(item.scope, item.name))


def _used(holders: Holders, module: str, item: Item) -> tuple[str, bool] | None:
    """The path to blame for a statement, and whether it surely used that itself."""
    if item.kind == "class":
        called = called_by_makers(holders.world, module, item)
        return next(((holders.targets[n], False) for n in called if n in holders.targets), None)
    if item.kind not in {"value", "effect"}:
        return None
    return _Statement(holders, module, item).used()


def as_methods(world: World, holders: Holders) -> dict[Name, str]:
    """Attributes of classes that are one of the functions of `holders` under another name."""
    found: dict[Name, str] = {}
    for (module, path), cls in world.classes.items():
        for name, value in reach.items(reach.class_dict(cls)) if holders.targets else ():
            full = (module, f"{path}.{name}")
            if is_callee(value) and not world.functions(full):
                why = holders.why(value)
                found |= {} if why is None else {full: why}
    return found


def classes_of(name: str, space: Mapping[str, object], holders: Holders) -> dict[Name, type]:
    """Classes of a module that have one of the functions under a name of their own."""
    found: dict[Name, type] = {}
    for _, value in reach.items(space):
        if (
            reach.is_a(value, type)
            and reach.class_dict(cls := cast("type", value)).get("__module__") == name
        ):
            own = (each for _, each in reach.items(reach.class_dict(cls)) if is_callee(each))
            if any(holders.why(each) is not None for each in own):
                found[name, reach.qualname(cls)] = cls
    return found


def holder_names(holders: Holders) -> set[bytes]:
    """Names of the modules under which there is something that holds, or comes to, a function."""
    found: set[bytes] = set()
    for space in holders.world.spaces.values() if holders.targets else ():
        for name, value in reach.items(space):
            if type(name) is not str or reach.is_a(value, ModuleType, type):
                continue
            touches = type(value) is FunctionType and holders.touched_by(value)
            if touches or holders.why(value) is not None:
                found.add(name.encode())
    return found


class _Statement:
    """One import-time statement, with the statements in it."""

    def __init__(self, holders: Holders, module: str, item: Item) -> None:
        self.world, self.module, self.item = holders.world, module, item
        self.follower = Follower(holders, module, item.scope)

    def used(self) -> tuple[str, bool] | None:
        """The path to blame, and whether the statement itself used it; None when nothing shows
        that plain data came of it.
        """
        node = self.item.node
        if (text := _executed(node)) is not None:
            return self._block(text)
        calls = any(isinstance(part, ast.Call) for part in ast.walk(node))
        if not calls or not any(self._plain(part) for part in ast.walk(node)):
            return None
        return self._block([node])

    def _block(self, body: list[ast.stmt]) -> tuple[str, bool] | None:
        for node in body:
            known = len(self.follower.found)
            if isinstance(node, _BLOCKS):
                self.follower.header(node)
            else:
                self.follower.statement(node)
            fresh = self.follower.found[known:]
            if fresh and any(self._plain(part) for part in ast.walk(node)):
                return fresh[0]
            for inner in _bodies(node) if isinstance(node, _BLOCKS) else ():
                if (found := self._block(inner)) is not None:
                    return found
        return None

    def _plain(self, part: ast.AST) -> bool:
        """Whether a part of the statement puts plain data where it lives on."""
        match part:
            case ast.Name(ctx=ast.Store()):
                return self._is_data(part)
            case ast.Subscript(value=owner, ctx=ast.Store()):
                return self._is_data(owner)
            case ast.Attribute(value=owner, attr=name, ctx=ast.Store()):
                value = self.follower.live(owner)
                return value is not MISSING and is_data(attribute(value, name))
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=name))):
                return name in _FILLS and self._is_data(owner)
            case _:
                return False

    def _is_data(self, node: ast.expr) -> bool:
        value = self.follower.live(node)
        return value is not MISSING and is_data(value)


def _executed(node: ast.stmt) -> list[ast.stmt] | None:
    """The statements of `exec("...")`."""
    match node:
        case ast.Expr(
            value=ast.Call(func=ast.Name(id="exec"), args=[ast.Constant(value=str(text))])
        ):
            try:
                return ast.parse(text).body
            except (SyntaxError, ValueError):
                return []
        case _:
            return None


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(node, name, [])
    for handler in getattr(node, "handlers", ()):
        yield handler.body
