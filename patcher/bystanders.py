"""What a metaclass, or `__init_subclass__`, does with a plain method is shown by the plain methods
that it has got.

A new one may come when those are in the class as the source says, nothing but the class holds them,
their names are written down nowhere near the class or its makers, and the code of the makers has no
word that could mean the new one (`words`). A class without a plain method shows nothing, and nor do
those which stand in a fixed list of a maker's module.
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from gc import get_referents
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.keepers import Keepers, unseen
from zdpatch.patcher.tracing import mro
from zdpatch.patcher.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.edits import Edit, Version
    from zdpatch.patcher.items import Item

_LOOKED_AT: Final = 50_000
_HOOK: Final = "__init_subclass__"
_KNOWN: Final = frozenset({"builtins", "typing", "abc", "enum"})


def plain_method(edit: Edit) -> bool:
    """Whether an edit adds a method that nothing decorates, under a public name."""
    return edit.kind == "added" and _is_plain(edit.new[-1])


def _is_plain(item: Item) -> bool:
    node = item.node
    plain = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list
    return plain and not item.name.startswith("_")


def taken_up(cls: type, edit: Edit, base: Version) -> str:
    """Why the makers of a class may have done something with the method that an edit adds; "" when
    they left its like alone.
    """
    name, makers = edit.new[-1].name, list(_makers(cls))
    if _inherited(cls, name):
        return "a base has the name already"
    if reach.frozen() or not all(map(_space, makers)):
        return "it cannot be told what it does with methods"
    shown = _shown(cls, edit, base)
    if isinstance(shown, str):
        return shown
    if word := Words(makers, list(mro(cls)[:-1])).meaning(name):
        return f"{word!r} in its code may mean the new method"
    listed = {text for maker in makers for text in _listed(maker)} & {m.__name__ for m in shown}
    shown[:] = [each for each in shown if each.__name__ not in listed]
    if not shown:
        return f"the name {min(listed)} is written down by them"
    written = _written(cls, makers, {name, *(each.__name__ for each in shown)})
    return written or _keeper(cls, shown)


def _inherited(cls: type, name: str) -> bool:
    return any(name in reach.class_dict(each) for each in [*mro(cls)[1:], *mro(type(cls))])


def _makers(cls: type) -> Iterator[type]:
    """The classes whose code ran when the class was made."""
    for meta in mro(type(cls)):
        if meta.__module__ not in _KNOWN:
            yield meta
    for each in mro(cls)[1:]:
        if _HOOK in reach.class_dict(each) and each.__module__ not in _KNOWN:
            yield each


def _space(maker: type) -> dict[str, object]:
    """The namespace of the module that a maker was written in; empty for one made in C."""
    module = sys.modules.get(str(reach.class_dict(maker).get("__module__")))
    space = {} if module is None else reach.namespace(module)
    return space if str(space.get("__file__")).endswith(".py") else {}


def _shown(cls: type, edit: Edit, base: Version) -> list[FunctionType] | str:
    """The live plain methods of the class that no base has, or why they show nothing."""
    found: list[FunctionType] = []
    for item in base.outline.scopes.get(edit.scope, ()):
        if not _is_plain(item) or _inherited(cls, item.name):
            continue
        live, code = reach.class_dict(cls).get(item.name), base.code_of(item)
        if type(live) is not FunctionType or code is None:
            return f"{item.name} was made into something else"
        if live.__dict__ or codes.digest(live.__code__) != codes.digest(code):
            return f"{item.name} was changed"
        found.append(live)
    return found or "no plain method of the class shows what it does with one"


def _keeper(cls: type, shown: list[FunctionType]) -> str:
    """Who else than the class holds one of its methods; "" when nobody does. Empties the list."""
    names = {each.__name__ for each in shown}
    keepers = Keepers.of(shown, lambda owner, name: owner is cls and name in names)
    for at in range(len(shown)):
        if keeper := keepers.by(shown[at]):
            return f"{keeper} holds {shown[at].__name__}"
    while shown:
        if unseen([shown.pop()]):
            return "something in C holds its methods"
    return ""


# ------------------------------------------------------------ names that were written down


def _listed(maker: type) -> Iterator[str]:
    """What stands in the fixed lists of a maker's module: it looks for just these names."""
    for value in _space(maker).values():
        if type(value) in (frozenset, tuple):
            yield from (each for each in get_referents(value) if type(each) is str)


def _written(cls: type, makers: list[type], names: set[str]) -> str:
    """Where a list or table near the class or its makers has one of `names`; "" when nowhere."""
    spaces = {id(reach.namespace(module)) for _, module in reach.modules()}
    pending: deque[object] = deque()
    for owner in [*reach.family(cls), *makers]:
        own = reach.class_dict(owner).values()
        pending += [value for value in own if type(value) is not FunctionType or owner in makers]
    for maker in makers:
        pending += _space(maker).values()
    seen: dict[int, object] = {}
    while pending:
        each = pending.popleft()
        if type(each) is str and each in names:
            return f"the name {each} is written down by them"
        if id(each) in seen or id(each) in spaces or not _followed(each):
            continue
        seen[id(each)] = each
        if len(seen) > _LOOKED_AT:
            return "there is too much to look at"
        pending += _inside(each)
    return ""


def _followed(value: object) -> bool:
    return not reach.is_a(value, ModuleType, type, CodeType, str, bytes, int, float)


def _inside(value: object) -> list[object]:
    """What an object holds, without the names of its attributes."""
    if type(value) is FunctionType:
        return [part for cell in value.__closure__ or () for part in get_referents(cell)]
    if reach.is_a(value, dict):
        table = cast("dict[object, object]", value)
        return [part for pair in reach.items(table) for part in pair]
    return get_referents(value)
