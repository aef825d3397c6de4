"""Objects made by the old initialiser lack what only the new one sets; reading it would fail.

Decided from the text: attributes stored by the new initialiser and the methods it calls on itself,
which nothing of the base class body stored and the new one does not bind on the class, and which
the new source of the patch reads somewhere outside of these methods.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.edits import Edit, ModuleVersions
from zdpatch.patcher.names import FunctionNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.outline import Item

_INITIALISERS: Final = ("__init__", "__new__", "__post_init__", "__attrs_post_init__")


def unfit(versions: Mapping[str, ModuleVersions], edits: Iterable[Edit]) -> list[Edit]:
    """An edit of kind "unfit" for each class whose live instances would lack an attribute."""
    found: list[Edit] = []
    touched = {(edit.module, edit.scope): edit for edit in edits if _is_method(edit)}
    for (module, scope), edit in touched.items():
        each = versions[module]
        assert each.new is not None
        items = each.new.outline.scopes.get(scope, ())
        makers = _makers(items)
        missing = sorted(_fresh(each, scope, makers) & _loaded(versions, makers))
        if missing:
            reason = (
                f"only the new initialiser sets {', '.join(missing)}, which is read elsewhere; "
                "objects made before lack it"
            )
            own = (makers[0],) if makers else edit.new
            found.append(Edit(module, scope, "unfit", edit.old, own, detail=reason))
    return found


def _is_method(edit: Edit) -> bool:
    items = edit.new or edit.old
    return (
        bool(items) and bool(edit.scope) and edit.kind in {"function", "added", "removed", "value"}
    )


def _makers(items: Iterable[Item]) -> list[Item]:
    """The initialisers of a class body, and the methods they call on the object."""
    methods = {item.name: item for item in items if item.kind == "function"}
    pending = [methods[name] for name in _INITIALISERS if name in methods]
    found: list[Item] = []
    while pending:
        item = pending.pop(0)
        if item not in found:
            found.append(item)
            pending += [methods[name] for name in _own_calls(item) if name in methods]
    return found


def _own_calls(item: Item) -> Iterator[str]:
    for part in ast.walk(item.node):
        if isinstance(part, ast.Call) and _is_own(part.func, item):
            assert isinstance(part.func, ast.Attribute)
            yield part.func.attr


def _is_own(node: ast.expr, item: Item) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in _receivers(item)
    )


def _receivers(item: Item) -> set[str]:
    """What a method calls its object: its first parameter; in `__new__`, by custom."""
    assert isinstance(item.node, FunctionNode)
    arguments = [*item.node.args.posonlyargs, *item.node.args.args]
    if item.name == "__new__":
        return {"self", "obj", "instance", "inst", "o", "s"}
    return {arguments[0].arg} if arguments else set()


def _fresh(each: ModuleVersions, scope: str, makers: Iterable[Item]) -> set[str]:
    assert each.base is not None
    assert each.new is not None
    old = each.base.outline.scopes.get(scope, ())
    known = {name for item in old if item.kind == "function" for name in _stored(item)}
    # a binding on the class serves the instances which lack their own
    new = each.new.outline.scopes.get(scope, ())
    known |= {name for item in new if item.kind != "field" for name in item.names}
    return {name for item in makers for name in _stored(item)} - known


def _stored(item: Item) -> Iterator[str]:
    """Attributes that a method stores on its object, also through `setattr`."""
    for part in ast.walk(item.node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            if _is_own(part, item):
                yield part.attr
        elif isinstance(part, ast.Call) and _called(part) in {"setattr", "__setattr__"}:
            yield from _named(part)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _named(node: ast.Call) -> Iterator[str]:
    """The attribute a `setattr(o, "name", ...)` or `getattr(o, "name")` names."""
    for argument in node.args[:2]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _loaded(versions: Mapping[str, ModuleVersions], makers: Iterable[Item]) -> set[str]:
    """Attributes that the new source loads from anything, outside of `makers`."""
    inside = {id(part) for item in makers for part in ast.walk(item.node)}
    found: set[str] = set()
    for each in versions.values():
        if each.new is None:
            continue
        for part in ast.walk(each.new.outline.tree):
            if id(part) in inside:
                continue
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load):
                found.add(part.attr)
            elif isinstance(part, ast.Call) and _called(part) == "getattr" and len(part.args) == 2:
                found.update(_named(part))
    return found
