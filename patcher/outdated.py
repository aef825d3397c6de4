"""State that old code keeps for new code means something else when new code stores another kind of
value in the same place, and uses what is there in a way that no old code did.

Attributes are compared by `altered`; here are variables of modules, what is in tables, and the
arguments of partial objects. The process has the last word on what lives there (see `fitting`).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from zdpatch.patcher.edits import Edit
from zdpatch.patcher.items import Item
from zdpatch.patcher.places import Place, Put, first, stores, users
from zdpatch.patcher.shapes import UNKNOWN, around, differs, kind
from zdpatch.patcher.spelling import parameters
from zdpatch.patcher.uses import TESTS, added_members, fresh, given

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

_Given = dict[str, ast.expr]
_NOWHERE = Place("variable", "", "", "")


@dataclass(frozen=True, eq=False)
class Outdated(Edit):
    """What lives in `place` may be of another kind than new code stores and uses there.

    `kinds`: all that new code stores; None where the text does not tell. `gone`: kinds in which old
    code alone wrapped the same. `kept`: constants, as text. `uses`: what only new code does with
    it. `sure`: everything old code stored is of another kind.
    """

    place: Place = _NOWHERE
    kinds: frozenset[str] = field(default_factory=frozenset[str])
    every: bool = False
    gone: frozenset[str] = field(default_factory=frozenset[str])
    kept: frozenset[str] = field(default_factory=frozenset[str])
    uses: frozenset[str] = field(default_factory=frozenset[str])
    tested: bool = False
    sure: bool = False
    names: tuple[str, ...] = ()


def outdated(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Outdated]:
    """An edit for each place that a function of `changed` (new ones), or a caller of one, fills
    with something else.
    """
    done: set[Place] = set()
    called = new.mentioning({each.node.name for each in changed if not each.cls})
    for function in dict.fromkeys([*changed, *called]):
        before: set[str] = set()
        for each in old.by_path.get(function.where, ()):
            before.update(text for text, _, _ in _put(old, each))
        for text, put, _ in _put(new, function):
            place = put.place(new, function) if text not in before else None
            if place is not None and place not in done:
                done.add(place)
                yield from _compared(old, new, function, place)


def _put(
    side: Side, function: Function, place: Place | None = None
) -> Iterator[tuple[str, Put, _Given]]:
    """What a function puts there, or anywhere, with all of it as text."""
    for put in stores(function):
        if place is None or (put.may_be(place, function) and put.place(side, function) == place):
            values = given(side, function, put.value)
            texts = sorted(values)
            yield f"{put.what} {ast.dump(put.node)} {put.word} {texts}", put, values


def _compared(old: Side, new: Side, function: Function, place: Place) -> Iterator[Outdated]:
    if [*map(ast.dump, first(old, place))] != [*map(ast.dump, first(new, place))]:
        return  # an edit of its own
    stored = _Stored(
        _stored(old, place),
        _stored(new, place),
        frozenset(path.rpartition(".")[2] for _, path in new.classes),
    )
    if not stored.differ:
        return
    before, after = users(old, place, bare=False), users(new, place, bare=True)
    now = {use for group in users(new, place, bare=False).values() for use in group}
    if found := dict(fresh(before, after, now, added_members(old, new))):
        tested = any(after[each] & TESTS for each in found)
        names = [[*parameters(each.node)] for each in old.by_path.get(place.key[:2], ())]
        edit = _edit(function, old.by_path.get(function.where, []), place, found)
        yield replace(stored.judged(edit), tested=tested, names=tuple(*names[:1]))


def _edit(
    function: Function, before: list[Function], place: Place, found: dict[Function, set[str]]
) -> Outdated:
    user = next(iter(found))
    return Outdated(
        function.outline.name,
        function.qualname,
        "unfit",
        tuple(map(_item, before)),
        (_item(function),),
        detail=(
            f"the new {function.qualname} stores something else in {_said(place)}, and "
            f"{user.qualname} (line {user.node.lineno}) uses it otherwise"
        ),
        place=place,
        uses=frozenset(use for group in found.values() for use in group),
    )


@dataclass(frozen=True)
class _Stored:
    """What old and new code store in one place, by text; `classes` are names of those of the
    patch.
    """

    before: _Given
    after: _Given
    classes: frozenset[str]

    @cached_property
    def _pairs(self) -> list[tuple[ast.expr, ast.expr]]:
        """What only old code stores, with what only new code does."""
        gone = [self.before[text] for text in self.before.keys() - self.after]
        come = [self.after[text] for text in self.after.keys() - self.before]
        known = ((was, now) for was in gone for now in come)
        return [each for each in known if not any(map(_opaque, each))]

    @property
    def differ(self) -> bool:
        """Whether a kind that new code stores is no longer the old one. Where it goes on storing
        what may be all that is there, it deals with that.
        """
        same = (e for text, e in self.after.items() if text in self.before and not _opaque(e))
        if any(kind(each, self.classes) == UNKNOWN for each in same):
            return False
        return any(differs(*pair, self.classes) for pair in self._pairs)

    def judged(self, edit: Outdated) -> Outdated:
        """The edit with what is known of the kinds."""
        after = self.after.values()
        kinds = {kind(each, self.classes) for each in after if not _falsy(each)}
        wrapped = (was for was, now in self._pairs if around(was, now, self.classes))
        every = ((was, now) for was in self.before.values() for now in after)
        return replace(
            edit,
            kinds=frozenset(kinds - {UNKNOWN}),
            every=bool(kinds) and UNKNOWN not in kinds,
            gone=frozenset(kind(each, self.classes) for each in wrapped),
            kept=frozenset(repr(e.value) for e in after if isinstance(e, ast.Constant)),
            sure=all(differs(*pair, self.classes) == "does" for pair in every),
        )


def _stored(side: Side, place: Place) -> _Given:
    """Everything that is stored in a place, by its text."""
    found = {ast.dump(each): each for each in first(side, place)}
    for function in side.mentioning([place.name if place.what != "argument" else "partial"]):
        for _, _, values in _put(side, function, place):
            found |= values
    return {k: e for k, e in found.items() if not (isinstance(e, ast.Constant) and e.value is None)}


def _opaque(node: ast.expr) -> bool:
    """Whether only running tells (see `places`)."""
    return isinstance(node, ast.Starred)


def _falsy(node: ast.expr) -> bool:
    """A constant that stands for nothing: those who use what is there must be ready for it."""
    return isinstance(node, ast.Constant) and not node.value


def _said(place: Place) -> str:
    what = {"variable": "", "argument": f"argument {place.name} of partial objects of "}
    path = place.owner if place.what == "argument" else str(place)
    return f"{what.get(place.what, 'the table ')}{path}"


def _item(function: Function) -> Item:
    scope, _, last = function.qualname.rpartition(".")
    return Item("function", scope, (last,), function.node)
