"""A class statement may call the methods of the class that it makes: by a decorator, a metaclass,
`__init_subclass__` of a base, or `__set_name__` of a value.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import Name, meanings
from zdpatch.patcher.tracing import World, function_names, mro

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item

_QUIET_MODULES: Final = frozenset({"abc", "typing", "typing_extensions", "collections.abc"})
_QUIET_METACLASSES: Final = frozenset({"type", "abc.ABCMeta"})
_HOOK: Final = "__init_subclass__"
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
            _has(cls, _HOOK) or _hooked(owner, cls, versions, depth - 1) for owner, cls in found
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


def called_by_makers(world: World, module: str, item: Item) -> Iterator[Name]:
    """The methods of a live class that ran when it was made, as far as makers of the tree call them
    on the class itself or on an object of it.
    """
    cls = world.classes.get((module, item.qualname))
    if cls is None or not isinstance(item.node, ast.ClassDef):
        return
    owners = [world.names[id(each)] for each in mro(cls) if id(each) in world.names]
    for maker, place in _makers(world, module, item, cls):
        for each in world.functions(maker):
            if isinstance(each.node, FunctionNode):
                for called in _called_on(each.node, place):
                    yield from ((owner, f"{path}.{called}") for owner, path in owners)


def _makers(world: World, module: str, item: Item, cls: type) -> Iterator[tuple[Name, int]]:
    """Functions that get the class when it is made, each with the place of its parameter."""
    for kinds, names in ((mro(cls)[1:], [_HOOK]), (mro(type(cls)), ["__init__", "__new__"])):
        for each in kinds:
            owner, path = world.names.get(id(each), ("", ""))
            yield from (((owner, f"{path}.{name}"), 0) for name in names)
    for _, value in reach.items(reach.class_dict(cls)):
        owner, path = world.names.get(id(type(value)), ("", ""))
        yield (owner, f"{path}.__set_name__"), 1
    assert isinstance(item.node, ast.ClassDef)
    for decorator in item.node.decorator_list:
        name = dotted(decorator)
        live = world.look(module, item.scope, name) if name is not None else None
        yield from ((found, 0) for found in function_names(live))


def _called_on(node: FunctionNode, place: int) -> Iterator[str]:
    """Names of methods that a function calls on what it is given, or on what a call of that gives;
    for `__new__`, on what that makes.
    """
    given = [*node.args.posonlyargs, *node.args.args][place : place + 1]
    known: set[str] = set() if node.name == "__new__" else {each.arg for each in given}

    def is_it(value: ast.expr) -> bool:
        if isinstance(value, ast.Call):
            made = isinstance(value.func, ast.Attribute) and value.func.attr == "__new__"
            return made or is_it(value.func)
        return isinstance(value, ast.Name) and value.id in known

    for part in (each for each in ast.walk(node) if isinstance(each, ast.Assign)):
        if is_it(part.value):
            known.update(each.id for each in part.targets if isinstance(each, ast.Name))
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    for func in calls:
        if isinstance(func, ast.Attribute) and is_it(func.value):
            yield func.attr
