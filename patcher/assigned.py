"""`Class.name = value` at the top of a module binds a name of the class, as its body does;
`function.name = value` an attribute of the function.

Such a statement is read as one more statement of the class body, so that all which holds for class
attributes holds for it: the live value is compared, subclasses and readers follow. A function with
attributes is read as if it had a body of that kind.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.names import dotted, uses
from zdpatch.patcher.reach import class_dict, is_a, namespace
from zdpatch.patcher.values import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.items import Item

IN_CLASS: Final = "assigned"  # roles of the items made here
IN_FUNCTION: Final = "attribute"
_OWNERS: Final = ("class", "function")
_CACHED: Final = type(functools.lru_cache(len))


def with_assigned(items: list[Item]) -> list[Item]:
    """The items of a module, with such statements moved into the classes they write to."""
    found: list[Item] = []
    for item in items:
        moved = _moved(found, item)
        if moved is None:
            found.append(item)
        else:
            at, cls = moved
            found[at] = cls
    return found


def assigned(item: Item) -> Iterator[Item]:
    """The statements of a class or function that stand outside of its body."""
    return (child for child in item.children if child.role in {IN_CLASS, IN_FUNCTION})


def attributes(module: ModuleType, path: str) -> tuple[object, dict[str, object]] | None:
    """A live function, or the cache round one, and the dict of its attributes; None for what else
    may stand under `path`.
    """
    names: Mapping[str, object] = namespace(module)
    value: object = None
    for name in path.split("."):
        value = names.get(name)
        names = class_dict(cast("type", value)) if is_a(value, type) else {}
    value = unwrapped(value)
    if type(value) is FunctionType or type(value) is _CACHED:
        return value, vars(value)
    return None


def _moved(before: list[Item], item: Item) -> tuple[int, Item] | None:
    """(index, class with the statement in it); None for every other statement."""
    node = item.node
    if item.kind != "effect" or not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return None
    owner, _, name = (dotted(node.targets[0]) or "").rpartition(".")
    private = name.startswith("__") and not name.endswith("__")
    if not owner or private or name == "__slots__":
        return None
    root, *inner = owner.split(".")
    binders = [at for at, each in enumerate(before) if root in each.names]
    if len(binders) != 1 or before[binders[0]].kind not in _OWNERS:
        return None
    cls = _into(before[binders[0]], inner, name, node)
    return None if cls is None else (binders[0], cls)


def _into(cls: Item, inner: list[str], name: str, node: ast.Assign) -> Item | None:
    """The class with the statement at the end of its body, or of that of a class inside of it."""
    if inner:
        found = [at for at, each in enumerate(cls.children) if inner[0] in each.names]
        if len(found) != 1 or cls.children[found[0]].kind not in _OWNERS:
            return None
        part = _into(cls.children[found[0]], inner[1:], name, node)
        children = [*cls.children]
        if part is None:
            return None
        children[found[0]] = part
        return replace(cls, children=tuple(children))
    function = cls.kind == "function"
    if function and name.startswith("__"):
        return None  # a slot of its own, which means something
    own = {each for child in cls.children for each in child.names}
    if not function and own & {read.partition(".")[0] for read in uses(node.value).reads}:
        return None  # there it would read the name of the class, not that of the module
    target = ast.copy_location(ast.Name(name, ast.Store()), node.targets[0])
    statement = ast.copy_location(ast.Assign([target], node.value), node)
    role = IN_FUNCTION if function else IN_CLASS
    child = replace(
        cls, kind="value", scope=cls.qualname, names=(name,), node=statement, role=role, children=()
    )
    return replace(cls, children=(*cls.children, child))
