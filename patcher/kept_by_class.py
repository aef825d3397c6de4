"""Facts about classes are kept by class: in a table, with the class in it, that a module, a class
or a function has. Here is who has such a table; objects of a program's classes are asked elsewhere.
"""

from __future__ import annotations

import collections
import gc
import weakref
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import inventory, reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TABLES: Final[frozenset[type]] = frozenset(
    {
        dict, list, tuple, set, frozenset, collections.deque, collections.OrderedDict,
        collections.defaultdict, collections.Counter, weakref.WeakKeyDictionary,
    }
)  # fmt: skip
_LEVELS: Final = 6  # a table in a table, a cell, a closure


def keepers_by_class(classes: Iterable[object]) -> dict[int, set[str]]:
    """By the id of a class the names of modules that keep tables with it."""
    things = list({id(each): each for each in classes}.values())
    return _Search(things).found if things else {}


class _Search:
    def __init__(self, things: list[object]) -> None:
        self.found: dict[int, set[str]] = {}
        self.direct = {id(each): id(cls) for cls in things for each in _names_of(cls)}
        self.origins = {key: {origin} for key, origin in self.direct.items()}
        self.spaces = dict(_spaces())
        level = [each for cls in things for each in _names_of(cls)]
        for _ in range(_LEVELS):
            level = self._above(level) if level else []

    def _above(self, level: list[object]) -> list[object]:
        known = {id(each) for each in level}
        mark: list[object] = []  # tells the arguments of the call
        found: list[object] = []
        for holder in gc.get_referrers(mark, *level):
            inside = gc.get_referents(holder)
            if holder is level or any(each is mark for each in inside):
                continue
            held = [each for each in inside if id(each) in known]
            if id(holder) in self.spaces:
                self._keep(self.spaces[id(holder)], _plain(holder))
            elif type(holder) is FunctionType:
                self._keep(str(holder.__globals__.get("__name__")), _parts(holder))
            elif id(holder) not in self.origins and self._leads_on(holder, held):
                found.append(holder)
            elif id(holder) in self.origins:
                self._add(holder, held)
        return found

    def _leads_on(self, holder: object, held: list[object]) -> bool:
        if type(holder) is CellType:  # that of `__class__` leads nowhere
            held = [each for each in held if id(each) not in self.direct]
        elif type(holder) not in _TABLES:
            return False
        self._add(holder, held)
        return bool(held)

    def _add(self, holder: object, held: list[object]) -> None:
        origins = self.origins.setdefault(id(holder), set())
        origins.update(*(self.origins[id(each)] for each in held))

    def _keep(self, module: str, values: Iterable[object]) -> None:
        """A module has these; of them, those that are tables, and not the class itself."""
        for value in values:
            if id(value) not in self.direct:
                for origin in self.origins.get(id(value), ()):
                    self.found.setdefault(origin, set()).add(module)


def _names_of(cls: object) -> list[object]:
    """What stands for a class in a table: itself, or a weak reference to it."""
    return [cls, *weakref.getweakrefs(cls)]


def _spaces() -> Iterator[tuple[int, str]]:
    """The dicts of modules and classes, and the names of the modules that these are in."""
    for name, module in reach.modules():
        yield id(reach.namespace(module)), name
    for cls in inventory.every_class():
        space = reach.class_dict(cls)
        yield from ((id(each), str(space.get("__module__"))) for each in gc.get_referents(space))


def _plain(space: object) -> Iterator[object]:
    """What a namespace has under names of the program's own."""
    for name, value in reach.items(cast("dict[str, object]", space)):
        if not str(name).startswith("__"):
            yield value


def _parts(function: FunctionType) -> Iterator[object]:
    """The defaults of a function, and what its closure has."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        yield from gc.get_referents(cell)
