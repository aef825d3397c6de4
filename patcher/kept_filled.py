"""A variable of a module that a function fills when it is empty, and tests for that, stays what the
old text made of it, once it is filled: new code would fill it otherwise, and never does.

Where the text says what the value is (a pure expression), the patch is refused while the variable
is filled; of a value that only running tells it is told.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.items import Item
from zdpatch.patcher.places import Place, first, stores
from zdpatch.patcher.purity import is_pure
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.uses import given

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

_PLAIN: Final = frozenset(map(id, (int, str, bytes, float, bool, type(None))))


@dataclass(frozen=True, eq=False)
class Filled(Edit):
    """The variable `name` of `owner` may hold what the old function filled it with. `empty`: the
    constants that the module gives it, as text; `sure`: what new code makes of it is another value.
    """

    owner: str = ""
    name: str = ""
    empty: frozenset[str] = frozenset()
    sure: bool = False


def filled_otherwise(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Filled]:
    """An edit for each variable that a function of `changed`, or what calls one, fills otherwise
    when it is empty.
    """
    done: set[Place] = set()
    called = new.mentioning({each.node.name for each in changed if not each.cls})
    for function in dict.fromkeys([*changed, *called]):
        before = old.by_path.get(function.where, [])
        for place in {*_places(new, function)} - done:
            done.add(place)
            was = {k: v for each in before for k, v in _values(old, each, place).items()}
            now = _values(new, function, place)
            gone, come = was.keys() - now.keys(), now.keys() - was.keys()
            if not gone or not come:
                continue
            outline = function.outline
            yield Filled(
                outline.name,
                function.qualname,
                "unfit",
                tuple(map(_item, before)),
                (_item(function),),
                detail=f"the new {function.qualname} fills {place} otherwise when it is empty",
                owner=place.module,
                name=place.name,
                empty=_empty(new, place),
                sure=all(is_pure(now[text], outline.imports) for text in come)
                and all(is_pure(was[text], before[-1].outline.imports) for text in gone),
            )


def still_filled(edit: Filled) -> tuple[str, str]:
    """Why the variable keeps what it has, and what is to be told of it; "" for each when it is
    empty.
    """
    module = sys.modules.get(edit.owner)
    value = MISSING if module is None else reach.namespace(module).get(edit.name, MISSING)
    if value is MISSING or (id(type(value)) in _PLAIN and repr(value) in edit.empty):
        return "", ""
    if reach.is_a(value, dict, list, set, tuple) and not value:
        return "", ""
    why = f"{edit.owner}.{edit.name} is filled, and keeps what the old one gave"
    return (why, "") if edit.sure else ("", why)


def _places(side: Side, function: Function) -> Iterator[Place]:
    """Variables that a function fills, and tests."""
    for put in stores(function):
        place = put.place(side, function) if put.what == "variable" else None
        if place is not None and not place.owner and _tests(function, place.name):
            yield place


def _tests(function: Function, name: str) -> bool:
    for part in function.parts:
        match part:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                parts = ast.walk(test)
            case ast.BoolOp(values=[test, *_]):
                parts = ast.walk(test)
            case _:
                continue
        if any(isinstance(each, ast.Name) and each.id == name for each in parts):
            return True
    return False


def _values(side: Side, function: Function, place: Place) -> dict[str, ast.expr]:
    """What a function stores there, by its text, but for what stands for nothing."""
    found: dict[str, ast.expr] = {}
    for put in stores(function):
        if put.what == "variable" and put.place(side, function) == place:
            found |= given(side, function, put.value)
    return {
        text: each
        for text, each in found.items()
        if not (isinstance(each, ast.Constant) and each.value is None)
        and not (isinstance(each, ast.Name) and each.id == place.name)
    }


def _empty(side: Side, place: Place) -> frozenset[str]:
    values = first(side, place)
    return frozenset(repr(each.value) for each in values if isinstance(each, ast.Constant))


def _item(function: Function) -> Item:
    scope, _, last = function.qualname.rpartition(".")
    return Item("function", scope, (last,), function.node)
