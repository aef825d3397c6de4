"""A table may become another object when only names hold it that the patch binds anew, and nothing
else holds what is inside: asked of garbage collection, and of the number of references, which tells
of holders in C, of `gc.freeze` and of running calls.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from functools import cached_property
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.facets import changed_defaults
from zdpatch.patcher.keepers import is_ours
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FunctionType, ModuleType

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.slots import Step
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value

TABLES: Final = frozenset({list, dict, set, bytearray})
_CONTAINERS: Final = TABLES | {tuple, frozenset}
_OWNED: Final = frozenset({"value", "removed"})
_OF_FUNCTIONS: Final = frozenset({"__kwdefaults__", "__annotations__"})  # nobody else's


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A table that a patch put in the place of another, and what was in it then."""

    what: str
    table: object
    content: object


def given(steps: Iterable[Step], mine: Iterable[Given]) -> tuple[Given, ...]:
    """Those of `mine`, what the patch brought, that steps put in the place of tables, as they are
    now.
    """
    known = {id(each.table) for each in mine}
    return tuple(
        Given(step.what, step.value, copied(step.value))
        for step in steps
        if {type(step.value), type(step.expected)} <= TABLES
        and (step.name in _OF_FUNCTIONS if step.kind == "function" else id(step.value) in known)
    )


def brought(steps: Iterable[Step], more: Iterable[ModuleType]) -> tuple[Given, ...]:
    """The tables that only the patch has, and those in them, before it goes in: no module binds
    them, of those loaded and of `more`, and nothing that they replace has them.
    """
    placed = [s for s in steps if s.kind in {"item", "class"} and type(s.value) in _CONTAINERS]
    if not placed:
        return ()
    found: dict[int, Given] = {}
    for step in placed:
        for each in _stateful(step.value):
            found.setdefault(id(each), Given(step.what, each, None))
    known = {id(each) for s in placed for each in _stateful(s.expected)}
    for module in (*(module for _, module in reach.modules()), *more):
        known.update(id(value) for _, value in reach.items(reach.namespace(module)))
    return tuple(each for key, each in found.items() if key not in known)


def replaced_tables(steps: Iterable[Step]) -> tuple[Given, ...]:
    """The tables that steps take away, those of a function's keywords and annotations among them,
    as they are now.
    """
    return tuple(
        Given(step.what, step.expected, copied(step.expected))
        for step in steps
        if type(step.expected) in TABLES
    )


def filled(tables: Iterable[Given]) -> list[str]:
    """Those that were written to since: what they were given would be lost with them."""
    written = (each for each in tables if not same(copied(each.table), each.content))
    return [f"{each.what}: the table was written to since" for each in written]


def copied(value: object) -> object:
    """A value with tables of its own, all the way down; bytes for a bytearray."""
    kind = type(value)
    if kind is dict:
        pairs = cast("dict[object, object]", value).items()
        return {key: copied(each) for key, each in pairs}
    if kind is bytearray:
        return bytes(cast("bytearray", value))
    if kind not in _CONTAINERS:
        return value
    make = cast("Callable[[Iterable[object]], object]", kind)
    return make(map(copied, cast("Iterable[object]", value)))


class Sharing:
    """The tables of one plan. `values`: what names were and will be, by (module, qualname)."""

    def __init__(
        self,
        inventories: Mapping[str, Inventory],
        edits: Iterable[Edit],
        values: Mapping[Name, Value],
    ) -> None:
        self.inventories = inventories
        self.edits = edits
        self.values = values

    def keeper(self, edit: Edit) -> str:
        """Who holds the table that a name has, beside the names that follow; "" when nobody does.

        Looks at the whole heap, once for all tables of the plan.
        """
        return self._found.get((edit.module, edit.qualname), "")

    @cached_property
    def _found(self) -> dict[Name, str]:
        parts, things = self._tables()
        keepers = self._search(things) if things else {}
        return {
            name: keepers[key] for name, keys in parts.items() for key in keys if key in keepers
        }

    def _tables(self) -> tuple[dict[Name, list[int]], list[object]]:
        """What goes of the tables that names have: ids by name, and the objects."""
        parts: dict[Name, list[int]] = {}
        things: dict[int, object] = {}
        for edit in self.edits:
            name = (edit.module, edit.qualname)
            value = self.values.get(name) if edit.kind == "value" else None
            if value is not None and type(value.old) in _CONTAINERS:
                stays = {id(each) for each in _stateful(value.new)}
                mine = {id(each): each for each in _stateful(value.old) if id(each) not in stays}
                parts[name] = list(mine)
                things |= mine
        return parts, list(things.values())

    def _search(self, things: list[object]) -> dict[int, str]:
        """The first holder of each, by identity. No variable of a frame may hold a thing."""
        found: dict[int, str] = {}
        known = {id(each): 0 for each in things}
        mark: list[object] = []  # tells the arguments of the call
        for holder in gc.get_referrers(mark, *things):
            inside = gc.get_referents(holder)
            if holder is things or any(each is mark for each in inside):
                continue
            held = [id(each) for each in inside if id(each) in known]
            for key in held:
                known[key] += 1
            if id(holder) not in known:
                for key, who in self._who(holder, set(held)):
                    found.setdefault(key, who)
        holder, inside = None, []
        for at in range(len(things)):
            # one reference is that of the list, one that of the argument
            if sys.getrefcount(things[at]) - 2 > known[id(things[at])]:
                found.setdefault(id(things[at]), "something in C, or a running call,")
        return found

    def _who(self, holder: object, held: set[int]) -> Iterator[tuple[int, str]]:
        """Which of what it holds somebody would keep, and who that is."""
        if is_ours(holder) or reach.is_a(holder, FrameType, TracebackType):
            return
        if id(holder) in self._spaces:
            owner, prefix = self._spaces[id(holder)]
            for name, value in reach.items(cast("dict[str, object]", holder)):
                if id(value) in held and (owner, f"{prefix}{name}") not in self._followed:
                    yield id(value), f"{owner}.{prefix}{name}"
            return
        given = self._defaults.get(id(holder), frozenset[int]())
        yield from ((key, f"a {type(holder).__qualname__}") for key in held - given)

    @cached_property
    def _followed(self) -> set[Name]:
        return {(e.module, e.qualname) for e in self.edits if e.kind in _OWNED}

    @cached_property
    def _spaces(self) -> dict[int, tuple[str, str]]:
        """The dicts of modules, and of the classes of the patch, by identity."""
        found = {
            id(space): (str(space.get("__name__")), "")
            for space in (reach.namespace(module) for _, module in reach.modules())
        }
        for name, taken in self.inventories.items():
            for path, group in taken.classes.items():
                for cls in group if len(group) == 1 else ():
                    table = gc.get_referents(reach.class_dict(cls))
                    found |= {id(each): (name, f"{path}.") for each in table}
        return found

    @cached_property
    def _defaults(self) -> dict[int, frozenset[int]]:
        """What of the defaults of functions the patch makes anew, by what holds them."""
        found: dict[int, frozenset[int]] = {}
        for edit in self.edits:
            names = changed_defaults(edit) if edit.kind == "function" else frozenset[str]()
            live = self.inventories[edit.module].functions.get(edit.qualname, []) if names else []
            for each in live:
                # a slot gives the function itself, not a method
                function: FunctionType = each.function  # pyright: ignore[reportAssignmentType]
                found |= _given(function, names)
        return found


def _given(function: FunctionType, names: frozenset[str]) -> dict[int, frozenset[int]]:
    """The defaults of these parameters, by identity, in the tuple and the dict which have them."""
    code, found = function.__code__, dict[int, frozenset[int]]()
    if (values := function.__defaults__) is not None:
        last = code.co_varnames[: code.co_argcount][-len(values) :]
        pairs = zip(last, values, strict=True)
        found[id(values)] = frozenset(id(value) for name, value in pairs if name in names)
    if (words := function.__kwdefaults__) is not None:
        found[id(words)] = frozenset(id(value) for name, value in words.items() if name in names)
    return found


def _stateful(value: object) -> list[object]:
    """The tables inside a value, itself among them, and the tuples through which it has them."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return []
    parts = cast("Iterable[object]", () if kind is bytearray else value)
    if kind is dict:
        parts = [part for pair in cast("dict[object, object]", value).items() for part in pair]
    inside = [each for part in parts for each in _stateful(part)]
    return [value, *inside] if inside or kind in TABLES else []
