"""State that lives as the value of a constant: code that compares it with the constant no longer
finds it when the constant has another value.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.holders import Side
from zdpatch.patcher.makers import makers
from zdpatch.patcher.names import dotted
from zdpatch.patcher.parts import parts
from zdpatch.patcher.spread import Name, meanings
from zdpatch.patcher.uses import given

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.edits import ModuleVersions

_SAME: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


@dataclass(frozen=True)
class Kept:
    """Objects of `owner`, or the module itself where its path is "", may hold under `name` what
    `constant` was; `user` compares it with what it is.
    """

    owner: Name
    name: str
    constant: Name
    user: str


def kept(changed: Iterable[Name], versions: Mapping[str, ModuleVersions]) -> list[Kept]:
    """What functions store of the constants `changed` and compare with one of them."""
    names = {each for each in changed if not each[1].endswith("__doc__")}
    words = {name.rpartition(".")[2].encode() for _, name in names}
    sides: list[Side] = []
    for every in ([v.base for v in versions.values()], [v.new for v in versions.values()]):
        outlines = (each.outline for each in every if each is not None)
        sides.append(Side({o.name: o for o in outlines if any(w in o.source for w in words)}))
    old, new = (_States(side, names, versions) for side in sides) if words else (None, None)
    if old is None or new is None:
        return []
    stored = {*old.stored()}
    users = new.compared({name for _, name, _ in stored}) if stored else {}
    return [Kept(*each, users[each[1]]) for each in sorted(stored) if each[1] in users]


class _States:
    """The functions of one side, and the names that change."""

    def __init__(
        self, side: Side, changed: set[Name], versions: Mapping[str, ModuleVersions]
    ) -> None:
        self.side = side
        self.changed = changed
        self.versions = versions
        self.words = {name.rpartition(".")[2] for _, name in changed}

    def stored(self) -> Iterator[tuple[Name, str, Name]]:
        """(whose, name, constant) of what functions store."""
        for each in self.side.mentioning(self.words):
            for access in each.accesses.stores:
                if access.value is not None:
                    for constant in self._taken(each, access.value):
                        name = each.name(access.name)
                        for owner in self._owners(each, access.root, name):
                            yield owner, name, constant
            for name, value in _variables(each):
                for constant in self._taken(each, value):
                    yield (each.outline.name, ""), name, constant

    def compared(self, names: set[str]) -> dict[str, str]:
        """Those of `names` that a function compares with a constant that changes, and which."""
        found: dict[str, str] = {}
        given_by = dict(_givers(self.side, names)) | {name: name for name in names}
        for each in self.side.mentioning(self.words):
            for one, others in _comparisons(each):
                for value, other in [(one, e) for e in others] + [(e, one) for e in others]:
                    name = self._state(each, value, given_by)
                    if name and any(self._changed(each, part) for part in parts(other)):
                        found.setdefault(name, f"{each.qualname} (line {one.lineno})")
        return found

    def _state(self, function: Function, node: ast.expr, names: Mapping[str, str]) -> str:
        """Of `names`, by which it may be had, the one whose value an expression gives; "" when it
        gives none.
        """
        for each in given(self.side, function, node).values():
            last = each.func if isinstance(each, ast.Call) else each
            name = function.name((dotted(last) or "").rpartition(".")[2])
            if name in names:
                return names[name]
        return ""

    def _taken(self, function: Function, value: ast.expr) -> Iterator[Name]:
        for each in given(self.side, function, value).values():
            yield from self._changed(function, each)

    def _changed(self, function: Function, node: ast.AST) -> set[Name]:
        """The constants that an expression may stand for."""
        name = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if name is None:
            return set()
        root, _, rest = name.partition(".")
        outline = function.outline
        if root == function.own:
            return self.changed & {(outline.name, f"{function.cls}.{rest}")}
        if root in function.bound:
            return set()
        return self.changed & {*meanings(outline, "", name, self.versions)}

    def _owners(self, function: Function, root: str, name: str) -> Iterator[Name]:
        """Classes on whose objects it is stored."""
        holder = self.side.holder(function, root)
        if holder.kind == "instances":
            yield holder.module, holder.path
        elif holder.kind == "unknown":
            for cls, group in makers(self.side).items():
                if any(e.name(a.name) == name for e in group for a in e.accesses.stores):
                    yield cls


def _variables(function: Function) -> Iterator[tuple[str, ast.expr]]:
    """Variables of the module that a function sets."""
    ours = {name for part in function.parts if isinstance(part, ast.Global) for name in part.names}
    for part in function.parts if ours else ():
        if isinstance(part, ast.Assign):
            for target in part.targets:
                if isinstance(target, ast.Name) and target.id in ours:
                    yield target.id, part.value


def _comparisons(function: Function) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    """What a function compares for being the same, or looks up."""
    for part in function.parts:
        match part:
            case ast.Compare(left=left, ops=ops, comparators=others):
                if any(isinstance(op, _SAME) for op in ops):
                    yield left, others
            case ast.Match(subject=subject, cases=cases):
                every = (e for case in cases for e in parts(case.pattern))
                yield subject, [e.value for e in every if isinstance(e, ast.MatchValue)]
            case ast.Subscript(value=value, slice=key):
                yield value, [key]
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[key, *_]):
                yield value, [key]
            case _:
                pass


def _givers(side: Side, names: set[str]) -> Iterator[tuple[str, str]]:
    """Methods, and properties, that give one of these attributes of their object."""
    for each in side.mentioning(names):
        match each.node.body[-1]:
            case ast.Return(value=ast.Attribute(value=ast.Name(id=own), attr=attr)):
                if own == each.own and each.name(attr) in names:
                    yield each.node.name, each.name(attr)
            case _:
                pass
