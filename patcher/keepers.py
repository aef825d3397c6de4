"""Who keeps alive what a patch takes away: registries, tables, other classes, objects in C.

Asked of garbage collection, upwards from the object: a module or class that holds it, through
whatever, is named. What holds only itself (methods, cells, the order of bases), what the patch lets
go, caches, and calls that run do not count; nor does the engine.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    GeneratorType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LEVELS: Final = 8
_WIDEST: Final = 400  # objects asked for at once
PASSING: Final = (
    FrameType, TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType
)  # fmt: skip
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE (Include/object.h)


@dataclass(eq=False)
class Keepers:
    """One search for all `things`. `lets_go(owner, name)`: whether the patch unbinds or rebinds a
    name of a module or class.
    """

    things: list[object]
    lets_go: Callable[[object, str], bool]
    found: dict[int, str] = field(default_factory=dict[int, str])
    _origins: dict[int, set[int]] = field(default_factory=dict[int, Any])
    _spaces: dict[int, ModuleType] = field(default_factory=dict[int, ModuleType])

    @classmethod
    def of(cls, things: Iterable[object], lets_go: Callable[[object, str], bool]) -> Keepers:
        """Look for who keeps each of `things`."""
        made = cls(list({id(thing): thing for thing in things}.values()), lets_go)
        made._spaces = {id(reach.namespace(module)): module for _, module in reach.modules()}
        made._origins = {id(thing): {id(thing)} for thing in made.things}
        made._search()
        return made

    def by(self, thing: object) -> str:
        """Who keeps one of them, for people; "" when nobody does."""
        return self.found.get(id(thing), "")

    def _search(self) -> None:
        level = self.things
        for _ in range(_LEVELS):
            level = [each for each in level if not self._answered(each)][:_WIDEST]
            if not level:
                return
            level = self._above(level)

    def _above(self, level: list[object]) -> list[object]:
        """What holds the objects of a level, as far as that has to be asked further."""
        known = {id(each) for each in level}
        rootless = set(known)
        found: list[object] = []
        mark: list[object] = []  # tells the arguments of the call
        for holder in gc.get_referrers(mark, *level):
            if holder is level or holder is self.things or reach.is_a(holder, *PASSING):
                continue
            inside = gc.get_referents(holder)
            if any(each is mark for each in inside):
                continue
            held = [each for each in inside if id(each) in known]
            rootless.difference_update(map(id, held))
            found += self._climb(holder, held)
        self._on_a_stack([each for each in level if id(each) in rootless])
        return found

    def _answered(self, thing: object) -> bool:
        return self._origins[id(thing)] <= self.found.keys()

    def _climb(self, holder: object, held: list[object]) -> Iterator[object]:
        """What is left to ask after one holder; a module or class that holds is an answer."""
        origins = set[int]().union(*(self._origins[id(each)] for each in held))
        if type(holder) is reach.CACHED or is_ours(holder) or id(holder) in origins:
            return
        if id(holder) in self._spaces:
            self._named(self._spaces[id(holder)], holder, held)
        elif reach.is_a(holder, ModuleType):
            if id(reach.namespace(cast("ModuleType", holder))) not in map(id, held):
                self._answer(held, f"the module {cast('ModuleType', holder).__name__}")
        elif reach.is_a(holder, type):
            if id(holder) not in self._origins:
                self._of_class(cast("type", holder), held)
        elif id(holder) not in self._origins:
            self._origins[id(holder)] = origins
            yield holder
        else:
            self._origins[id(holder)] |= origins

    def _named(self, owner: object, space: object, held: list[object]) -> None:
        known = {id(each): each for each in held}
        for name, value in reach.items(cast("dict[str, object]", space)):
            if id(value) in known and not self.lets_go(owner, str(name)):
                self._answer([value], f"{_title(owner)}.{name}")

    def _of_class(self, cls: type, held: list[object]) -> None:
        """A class holds its dict, and that its attributes: the last but one step tells the name."""
        tables = [cast("dict[str, object]", each) for each in held if type(each) is dict]
        for table in tables:
            inside = [v for _, v in reach.items(table)]
            self._named(cls, table, [value for value in inside if id(value) in self._origins])
        rest = [each for each in held if type(each) is not dict and type(each) is not tuple]
        if rest:
            self._answer(rest, f"the class {_title(cls)}")

    def _on_a_stack(self, level: list[object]) -> None:
        """Objects that nothing known holds, and that live all the same: a running call has them.

        Its plain containers go with it; an object of a program's own class may be the program.
        """
        for each in level:
            if type(each).__flags__ & _HEAP_TYPE and id(each) not in map(id, self.things):
                self._answer([each], f"an object of the class {_title(type(each))}")

    def _answer(self, held: list[object], keeper: str) -> None:
        for each in held:
            for origin in self._origins.get(id(each), ()):
                self.found.setdefault(origin, keeper)


def unseen(box: list[object]) -> bool:
    """Whether something that garbage collection does not know holds the one object in `box`: C
    code, or what `gc.freeze` hid. The caller has no other variable for it.
    """
    holders = gc.get_referrers(box[0])
    known = sum(sum(each is box[0] for each in gc.get_referents(one)) for one in holders)
    return sys.getrefcount(box[0]) - 1 > known  # the argument of `getrefcount`


def is_ours(holder: object) -> bool:
    """Whether an object is of the engine itself."""
    made = reach.class_dict(type(holder)).get("__module__")
    return type(made) is str and made.startswith("zdpatch.")


def _title(owner: object) -> str:
    if reach.is_a(owner, ModuleType):
        return str(reach.namespace(cast("ModuleType", owner)).get("__name__"))
    cls = cast("type", owner)
    return f"{reach.class_dict(cls).get('__module__')}.{reach.qualname(cls)}"
