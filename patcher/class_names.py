"""A class body that runs again finds the names it had bound by then: its own, then new values, then
those of the live class, and the module's until the class has bound them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.patcher.reach import class_dict
from zdpatch.patcher.statements import bound_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

# What the language itself binds in a class body.
_MADE: Final = frozenset(
    {"__name__", "__module__", "__qualname__", "__classcell__", "__classdictcell__",
     "__annotations__"}
)  # fmt: skip


def bound_later(scope: str, item: Item, text: Outline | None) -> set[str]:
    """Names which the class that a statement stands in, `scope`, only binds further down: until
    then it reads the module's. `text` is the side that runs.
    """
    if text is None or not scope:
        return set()
    every = text.scopes.get(scope, ())
    above = [each for each in every if each.line < item.line]
    earlier = {name for each in above for name in (*each.names, *bound_names(each.node))}
    return {name for each in every for name in each.names} - earlier - set(item.names)


class ClassNames(dict[str, object]):
    """Names of a class body that runs again: what it binds now, then new values, then the live
    class; `later` are left to the module.
    """

    def __init__(self, live: type, new: Mapping[str, object], own: set[str]) -> None:
        super().__init__()
        self.live = live
        self.new = new
        self.own = own
        self.later: set[str] = set()

    def __missing__(self, name: str) -> object:
        if name in self.own or name in self.later or name in _MADE:
            raise KeyError(name)
        return self.new[name] if name in self.new else class_dict(self.live)[name]
