"""What names, loops and indexes give of objects that hold a function which changes: live objects,
and what a text makes of them.
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.holding import CONTAINERS, attribute, inside, is_callee
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FunctionType

    from zdpatch.patcher.holding import Holders
    from zdpatch.patcher.names import FunctionNode


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """What the text makes of such objects: what a loop over it gives, and what an index gives."""

    looped: list[object]
    held: list[object]


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """A tuple or list that the text writes down, place by place."""

    places: list[list[object]]


@dataclass(frozen=True, eq=False, slots=True)
class Code:
    """A function that the text makes, which may use such an object when it is called."""

    node: ast.Lambda | FunctionNode
    local: dict[str, list[object]]


@dataclass(frozen=True, eq=False, slots=True)
class Space:
    """The namespace of a module, got as a dict."""

    names: dict[str, object]


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """An object that a call of a class gives."""

    kind: type


@dataclass(frozen=True, eq=False, slots=True)
class Gone:
    """A function of which the name is not bound any more."""

    why: str


SHOWN: Final = (Table, Row, Space)


class Giving(ABC):
    """Where a text is followed: in a module, in a class of it, or in a call of a function.

    `local` are the variables of the call, or of a loop, with what they may stand for. `found` are
    the paths to blame of what may have been called, each with whether the text itself did so.
    """

    def __init__(self, holders: Holders, module: str, scope: str) -> None:
        self.holders = holders
        self.module, self.scope = module, scope
        self.found: list[tuple[str, bool]] = []
        self.local: dict[str, list[object]] = {}
        self.returned: list[object] = []
        self.entered: list[FunctionType] = []
        self.within: tuple[FunctionType, ...] = ()
        self.asked: set[str] = set()

    @abstractmethod
    def value(self, node: ast.expr) -> list[object]:
        """The objects that an expression may give, of those which hold such a function."""

    @abstractmethod
    def statement(self, node: ast.stmt) -> None:
        """Follow one statement with all that is in it."""

    @abstractmethod
    def name(self, node: ast.Name) -> list[object]:
        """What a name stands for."""

    @abstractmethod
    def attribute(self, node: ast.Attribute) -> list[object]:
        """What an attribute gives."""

    @abstractmethod
    def place(self, part: ast.expr) -> list[object]:
        """What stands at a place of a display, or of the arguments of a call."""

    @abstractmethod
    def attribute_of(self, node: ast.Attribute, owners: list[object]) -> list[object]:
        """The same, of what its owner may be."""

    @abstractmethod
    def subscript(self, node: ast.Subscript) -> list[object]:
        """What an index gives."""

    def live(self, node: ast.expr) -> object:
        """What an expression stands for here as far as only looking tells; else MISSING."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                if name in self.local:
                    return MISSING
                return self.holders.world.look(self.module, self.scope, name)
            case ast.Attribute(value=owner, attr=name):
                held = self.live(owner)
                return MISSING if held is MISSING else attribute(held, name)
            case ast.Subscript(value=owner, slice=index):
                return self._element(self.live(owner), self.live(index))
            case _:
                return MISSING

    @staticmethod
    def _element(owner: object, index: object) -> object:
        if type(owner) is dict:
            table = cast("dict[object, object]", owner)
            return table.get(index, MISSING) if type(index) in {str, int} else MISSING
        if type(owner) in {list, tuple} and type(index) is int:
            places = cast("Sequence[object]", owner)
            return places[index] if -len(places) <= index < len(places) else MISSING
        return MISSING

    def why(self, value: object) -> str | None:
        """The path to blame when a value is, or holds, a function that changes."""
        if type(value) is Table:
            return self.any_why([*value.looped, *value.held])
        if type(value) is Row:
            return self.any_why([part for place in value.places for part in place])
        if type(value) is Gone:
            return value.why
        if type(value) is Code:
            return self._in_code(value)
        seen = type(value) is Space or type(value) is Made
        return None if seen else self.holders.why(value)

    def any_why(self, values: list[object]) -> str | None:
        return next((why for each in values if (why := self.why(each)) is not None), None)

    def _in_code(self, code: Code) -> str | None:
        names = (part for part in ast.walk(code.node) if isinstance(part, ast.Name))
        given = (each for name in names for each in code.local.get(name.id, self.name(name)))
        return next((why for each in given if (why := self.why(each)) is not None), None)

    def kept(self, *values: object) -> list[object]:
        return [e for e in values if type(e) is Space or type(e) is Made or self.why(e) is not None]

    def places_of(self, given: list[object], at: int, count: int) -> Iterator[object]:
        for each in given:
            if type(each) is Row and len(each.places) == count:
                yield from each.places[at]
            elif type(each) in {tuple, list} and len(cast("list[object]", each)) == count:
                yield from self.kept(cast("list[object]", each)[at])
            else:
                yield from self.each([each])

    def each(self, given: list[object]) -> list[object]:
        """What a loop over it gives."""
        found: list[object] = []
        for each in given:
            if type(each) is Row:
                found += [part for place in each.places for part in place]
            elif type(each) is Table:
                found += each.looped
            elif reach.is_a(each, dict):
                found += self.kept(*(key for key, _ in reach.items(cast("Any", each))))
            elif reach.is_a(each, *CONTAINERS):
                found += self.kept(*inside(each))
            elif not is_text(each) and not is_callee(each):
                found.append(each)
        return found

    def held(self, given: list[object]) -> list[object]:
        """What an index gives."""
        found: list[object] = []
        for each in given:
            if type(each) is Table:
                found += each.held
            elif type(each) is Space:
                found += self.kept(*(value for _, value in reach.items(each.names)))
            elif reach.is_a(each, dict):
                found += self.kept(*(value for _, value in reach.items(cast("Any", each))))
            else:
                found += self.each([each])
        return found

    def items_of(self, table: object) -> list[object]:
        if type(table) is Table:
            return [Row([table.looped, table.held])]
        names = table.names if type(table) is Space else table
        if not reach.is_a(names, dict):
            return []
        pairs = reach.items(cast("Any", names))
        return self.kept(*(Row([self.kept(k), self.kept(v)]) for k, v in pairs))


def is_text(value: object) -> bool:
    """Whether it stands for something that the text makes."""
    return reach.is_a(value, Table, Row, Code, Space, Gone, Made)
