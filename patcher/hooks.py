"""A class statement may call the methods of the class that it makes: by a decorator, a metaclass,
`__init_subclass__` of a base, or `__set_name__` of a value.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import meanings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.outline import Item

_QUIET_MODULES: Final = frozenset({"abc", "typing", "typing_extensions", "collections.abc"})
_QUIET_METACLASSES: Final = frozenset({"type", "abc.ABCMeta"})
_DEPTH: Final = 8  # classes derived from classes


def may_call_methods(
    each: ModuleVersions, qualname: str, versions: Mapping[str, ModuleVersions]
) -> bool:
    """Whether making a class may have called its methods; what is not known may. False for "", the
    module.
    """
    if not qualname:
        return False
    items = [i for i in _classes(each) if i.qualname == qualname]
    return not items or any(
        isinstance(item.node, ast.ClassDef)
        and (bool(item.node.decorator_list) or _hooked(each, item, versions, _DEPTH))
        for item in items
    )


def _hooked(
    each: ModuleVersions, item: Item, versions: Mapping[str, ModuleVersions], depth: int
) -> bool:
    node = item.node
    assert each.new is not None
    assert isinstance(node, ast.ClassDef)
    imports = each.new.outline.imports
    metas = [word.value for word in node.keywords if word.arg == "metaclass"]
    if len(metas) != len(node.keywords):
        return True
    if any(origin(dotted(meta) or "", imports) not in _QUIET_METACLASSES for meta in metas):
        return True
    if any(_tells_name(each, child, versions) for child in item.children):
        return True
    return any(_base_hooked(each, item, base, versions, depth) for base in node.bases)


def _base_hooked(
    each: ModuleVersions,
    item: Item,
    base: ast.expr,
    versions: Mapping[str, ModuleVersions],
    depth: int,
) -> bool:
    name = dotted(base.value if isinstance(base, ast.Subscript) else base)
    if name is None or depth == 0:
        return True
    assert each.new is not None
    found = [*_known(each, item.scope, name, versions)]
    if found:
        return any(
            _has(cls, "__init_subclass__") or _hooked(owner, cls, versions, depth - 1)
            for owner, cls in found
        )
    full = origin(name, each.new.outline.imports)
    own = each.new.outline.binders("", name.partition(".")[0])
    if full.rpartition(".")[0] in _QUIET_MODULES:
        return False
    return bool(own) or type(vars(builtins).get(full)) is not type


def _tells_name(each: ModuleVersions, child: Item, versions: Mapping[str, ModuleVersions]) -> bool:
    """Whether a statement of the class may bind an object that is told its name."""
    return any(
        _has(cls, "__set_name__")
        for call in child.calls
        for _, cls in _known(each, child.scope, call, versions)
    )


def _known(
    each: ModuleVersions, scope: str, name: str, versions: Mapping[str, ModuleVersions]
) -> Iterator[tuple[ModuleVersions, Item]]:
    assert each.new is not None
    for module, qualname in meanings(each.new.outline, scope, name, versions):
        owner = versions.get(module)
        for item in _classes(owner) if owner is not None else ():
            if item.qualname == qualname:
                yield owner or each, item


def _classes(each: ModuleVersions) -> Iterator[Item]:
    return (i for i in each.new.outline.every() if i.kind == "class") if each.new else iter(())


def _has(item: Item, method: str) -> bool:
    return any(child.name == method for child in item.children)
