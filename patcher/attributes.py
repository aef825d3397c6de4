"""Objects made by old code lack what only new code stores on them; to read it would fail.

Decided from the text of the whole patch: an attribute which a function stores only now, and which
the new source loads somewhere without having stored it before in the same function, and without
being ready for its absence. Which objects may lack it is known where the function is a method, or
where it makes the object; the process is then asked (see `fitness`). Where the text does not say
what object it is, an attribute that nothing in the base provides is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from zdpatch.patcher.accesses import accesses
from zdpatch.patcher.altered import Altered, altered
from zdpatch.patcher.collecting import take_apart
from zdpatch.patcher.edits import Edit, ModuleVersions
from zdpatch.patcher.holders import UNKNOWN, Holder, Side, bound_on
from zdpatch.patcher.kept_filled import filled_otherwise
from zdpatch.patcher.makers import INITIALISERS, makers
from zdpatch.patcher.outdated import outdated
from zdpatch.patcher.outlived import hidden, renamed
from zdpatch.patcher.unfilled import unfilled
from zdpatch.patcher.unset import unset
from zdpatch.patcher.unspelled import Unspelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.touched import Access


@dataclass(frozen=True, eq=False)
class Unfit(Edit):
    """Live objects that `holder` names may lack the attributes `lacking`, or hold under those of
    `altered` something else than new code expects (unless it is one of `kept`, in text; of `kinds`,
    if there are any).
    """

    holder: Holder = UNKNOWN
    lacking: frozenset[str] = field(default_factory=frozenset[str])
    altered: frozenset[str] = field(default_factory=frozenset[str])
    kept: frozenset[str] = field(default_factory=frozenset[str])
    kinds: frozenset[str] = field(default_factory=frozenset[str])


def unfit(versions: Mapping[str, ModuleVersions]) -> list[Edit]:
    """An edit for each function that stores what objects made before would lack, or something else
    than what lives holds.
    """
    changed = {name: each for name, each in versions.items() if each.change.base != each.change.new}
    old = {name: each.base.outline for name, each in changed.items() if each.base is not None}
    new = {name: each.new.outline for name, each in changed.items() if each.new is not None}
    if not old or not new:
        return []
    comparison = _Comparison(Side(old), Side(new))
    found = list(comparison.unfit())
    take_apart(comparison)
    return found


class _Comparison:
    def __init__(self, old: Side, new: Side) -> None:
        self.old = _Stores(old)
        self.new = _Stores(new)

    def unfit(self) -> Iterator[Edit]:
        changed = [each for each in self.new.side.functions if not self._unchanged(each)]
        names = {each.name(a.name) for each in changed for a in each.accesses.stores}
        self.loads = self.new.loads(names, changed)
        self.fresh = self._fresh()
        for function in changed:
            found: dict[Holder, list[Access]] = {}
            for access in function.accesses.stores:
                name = function.name(access.name)
                if name in self.loads and not (name.startswith("__") and name.endswith("__")):
                    holder = self.new.side.holder(function, access.root)
                    if self._missing(function, access, holder):
                        found.setdefault(holder, []).append(access)
            for holder, group in found.items():
                yield _edit(function, holder, group, self._before(function))
        for each in altered(self.old.side, self.new.side, changed):
            yield _other_meaning(each, self._before(each.function))
        yield from outdated(self.old.side, self.new.side, changed)
        yield from filled_otherwise(self.old.side, self.new.side, changed)
        yield from unset(self.old.side, self.new.side, changed)
        yield from unfilled(self.old.side, self.new.side, changed)
        yield from hidden(self.old.side, self.new.side)
        yield from renamed(self.old.side, self.new.side, self.loads)

    def _missing(self, function: Function, access: Access, holder: Holder) -> bool:
        """Whether an object that the text has in mind may be without what `access` stores."""
        name, cls = function.name(access.name), (holder.module, holder.path)
        if holder.kind == "unknown":
            new = name in self.fresh and not self._stored_before(function, name)
            known = self.old.provides(name) or self.new.provides(name) or name in self.new.bound
            return new and not known
        if name in self.old.settled(cls):
            return False
        if function in self.new.makers.get(cls, ()):
            return name in self.new.settled(cls) or name not in self.old.made(cls)
        if holder.kind == "object" or function.own == access.root:
            return name in self.fresh and not self.old.stores(holder, name)
        return not self._stored_before(function, name)

    def _before(self, function: Function) -> list[Function]:
        return self.old.side.by_path.get(function.where, [])

    def _unchanged(self, function: Function) -> bool:
        return any(each.text == function.text for each in self._before(function))

    def _stored_before(self, function: Function, name: str) -> bool:
        """Whether the base's version of the function stores the attribute on anything."""
        before = self._before(function)
        return any(each.name(a.name) == name for each in before for a in each.accesses.stores)

    def _fresh(self) -> frozenset[str]:
        """Attributes which a function loads that did not before."""
        found: set[str] = set()
        known = {*Unspelled(self.old.side).loads({*self.loads})}
        for name, places in self.loads.items():
            for where in places:
                before = self.old.side.by_path.get(where, [])
                used = (each.name(a.name) for each in before for a in each.accesses.used)
                if name not in used and (name, where) not in known:
                    found.add(name)
        return frozenset(found)


class _Stores:
    """What the functions of one side store on which objects, and load from them."""

    def __init__(self, side: Side) -> None:
        self.side = side

    def loads(
        self, names: set[str], changed: Iterable[Function]
    ) -> dict[str, set[tuple[str, str]]]:
        """Unsafe loads of `names`, by path of the function: from no module and nothing made on
        the spot.
        """
        found: dict[str, set[tuple[str, str]]] = {}
        for each in self.side.mentioning(names):
            for access in each.accesses.loads:
                name = each.name(access.name)
                if (
                    name in names
                    and not self.side.of_module(each.outline, access.root)
                    and not self.side.holder(each, access.root).made
                ):
                    found.setdefault(name, set()).add(each.where)
        for outline in self.side.outlines.values() if names else ():
            for access in accesses(outline.tree).loads:
                if access.name in names and not self.side.of_module(outline, access.root):
                    found.setdefault(access.name, set()).add((outline.name, ""))
        for name, where in Unspelled(self.side, changed).loads(names):
            found.setdefault(name, set()).add(where)
        return found

    def stores(self, holder: Holder, name: str) -> bool:
        """Whether anybody stores the attribute on the object, or on objects of the class."""
        for each in self.side.mentioning([name]):
            for access in each.accesses.stores:
                if each.name(access.name) == name:
                    other = self.side.holder(each, access.root)
                    if (other.module, other.path) == (holder.module, holder.path):
                        return True
        return False

    @cached_property
    def makers(self) -> dict[tuple[str, str], list[Function]]:
        """The initialisers of each class, and the methods they use of the object."""
        return makers(self.side)

    def made(self, cls: tuple[str, str]) -> set[str]:
        """What the initialisers of a class store, on some way."""
        group = self.makers.get(cls, ())
        return {each.name(access.name) for each in group for access in each.accesses.stores}

    def settled(self, cls: tuple[str, str]) -> set[str]:
        """What they store on every way."""
        found: set[str] = set()
        for each in self.makers.get(cls, ()):
            if each.node.name in INITIALISERS and each.node.name != "__new__":
                found |= each.settled
        return found

    def provides(self, name: str) -> bool:
        """Whether all objects of some class have the attribute: it is taken to be of that class."""
        return any(name in self.settled(cls) for cls in self.makers)

    @cached_property
    def bound(self) -> frozenset[str]:
        """Names that some class binds: they serve the objects which lack their own."""
        return frozenset(n for node in self.side.classes.values() for n in bound_on(node))


def _edit(function: Function, holder: Holder, group: list[Access], before: list[Function]) -> Unfit:
    names = sorted({function.name(access.name) for access in group})
    text = f"only the new {function.qualname} sets {', '.join(names)}, which is read elsewhere"
    whose = "the text does not tell on which objects" if holder.kind == "unknown" else ""
    detail = f"{text}; {whose or 'objects made before lack it'}"
    edit = _unfit(function, holder, detail, before)
    return replace(edit, lacking=frozenset(names))


def _other_meaning(found: Altered, before: list[Function]) -> Unfit:
    where, name = found.user, found.name
    user = f"{where.qualname} (line {where.node.lineno})"
    what = f"something else in {name}, and {user} uses it otherwise"
    if found.kinds:
        what = f"another kind of thing in {name}, which {user} uses"
    detail = (
        f"the new {found.function.qualname} stores {what}; "
        "objects made before hold what the old code stored"
    )
    edit = _unfit(found.function, found.holder, detail, before)
    return replace(edit, altered=frozenset({name}), kept=found.kept, kinds=found.kinds)


def _unfit(function: Function, holder: Holder, detail: str, before: list[Function]) -> Unfit:
    return Unfit(*function.unfit(before), detail=detail, holder=holder)
