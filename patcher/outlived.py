"""What live objects have of their own, and the new code means otherwise: an attribute that hides
what their class gets under the same name, and one that goes under another name now, so that the
class's own is found in its place.

The text tells where that may be; the process has the last word (see `owned`).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.edits import Edit
from zdpatch.patcher.holders import Side, bound_by, bound_on
from zdpatch.patcher.items import Item
from zdpatch.patcher.makers import INITIALISERS, makers
from zdpatch.patcher.names import FunctionNode, dotted, mangled
from zdpatch.patcher.parts import parts
from zdpatch.patcher.uses import given

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Class = tuple[str, str]
_Filled = dict[str, dict[str, ast.expr]]


@dataclass(frozen=True, eq=False)
class Outlived(Edit):
    """Objects of the class `owner` may have an attribute `name` of their own, which old code gave
    them: it hides what the class has now, or `instead` is read now.

    `sure`: what `instead` holds is what `name` held.
    """

    owner: Class = ("", "")
    name: str = ""
    instead: str = ""
    sure: bool = True


def hidden(old: Side, new: Side) -> Iterator[Outlived]:
    """An edit for each name that a class gets, and that old code alone gave to its objects."""
    for cls, node in new.classes.items():
        if cls not in old.classes:
            continue
        gained = {mangled(cls[1], e) for e in {*bound_on(node)} - {*bound_on(old.classes[cls])}}
        for name in sorted(each for each in gained if not each.startswith("__")):
            plain = not isinstance(_binder(node, cls, name), FunctionNode)
            if _gives(old, cls, name, unsure=True) and not _gives(new, cls, name, unsure=plain):
                item = Item("value", cls[1], (name,), _binder(node, cls, name))
                detail = f"{cls[1]} has {name} now, and the old code gave its objects one"
                yield _outlived(cls, name, detail, (item,))


def renamed(old: Side, new: Side, loads: Collection[str]) -> Iterator[Outlived]:
    """An edit for each attribute that nobody reads any more, in a class whose new initialisers give
    another one, of `loads`, that a class has as well.
    """
    was, now = _filled(old), _filled(new)
    for cls, after in now.items():
        before = was.get(cls, {})
        come = [n for n in sorted(after.keys() - before.keys()) if n in loads and _served(new, n)]
        gone = sorted(before.keys() - after.keys()) if come else []
        gone = [name for name in gone if not _read(old, new, cls, name)]
        for name in gone:
            for instead in come:
                alone = len(gone) == len(come) == 1
                same = _same(before[name], after[instead], alone=alone)
                yield _renamed(new, cls, name, instead, sure=same)


def _renamed(new: Side, cls: Class, name: str, instead: str, *, sure: bool) -> Outlived:
    what = f"the new code reads {instead} where the old one had {name}"
    detail = what if sure else f"the new code reads {instead}, and {name} no more"
    maker = next(e for e in makers(new)[cls] if e.node.name in INITIALISERS)
    item = Item("function", maker.cls, (maker.node.name,), maker.node)
    return _outlived(cls, name, detail, (item,), instead, sure=sure)


def _outlived(  # noqa: PLR0913 - all that it says
    cls: Class,
    name: str,
    detail: str,
    items: tuple[Item, ...],
    instead: str = "",
    *,
    sure: bool = True,
) -> Outlived:
    return Outlived(
        cls[0],
        items[0].qualname if instead else f"{cls[1]}.{name}",
        "unfit",
        (),
        items,
        detail=detail,
        owner=cls,
        name=name,
        instead=instead,
        sure=sure,
    )


def _binder(node: ast.ClassDef, cls: Class, name: str) -> ast.stmt:
    """The statement of a class body that binds a name."""
    every = (e for e in node.body if name in {mangled(cls[1], n) for n in bound_by(e)})
    return next(every, node)


def _gives(side: Side, cls: Class, name: str, *, unsure: bool) -> bool:
    """Whether code stores the attribute on objects of the class, or of one of its kin; `unsure`: or
    on what nobody knows.
    """
    kin = _kin(side, cls)
    for each in side.mentioning([name]):
        for access in each.accesses.stores:
            if each.name(access.name) == name:
                holder = side.holder(each, access.root)
                if holder.kind == "unknown" and unsure:
                    return True
                if holder.kind == "instances" and holder.path.rpartition(".")[2] in kin:
                    return True
    return False


def _kin(side: Side, cls: Class) -> set[str]:
    """Names of the class, its bases and what is derived from it, as far as the patch has them."""
    bases = {
        path.rpartition(".")[2]: {(dotted(e) or "").rpartition(".")[2] for e in node.bases}
        for (_, path), node in side.classes.items()
    }
    own = cls[1].rpartition(".")[2]
    above, below = {own}, {own}
    for _ in bases:
        above |= {base for name in above for base in bases.get(name, ())}
        below |= {name for name, group in bases.items() if group & below}
    return above | below


def _filled(side: Side) -> Mapping[Class, _Filled]:
    """What the initialisers of each class store, by attribute."""
    found: dict[Class, _Filled] = {}
    for cls, group in makers(side).items():
        own = found.setdefault(cls, {})
        for each in group:
            for access in each.accesses.stores:
                if access.root == each.own and access.value is not None:
                    values = given(side, each, access.value)
                    own.setdefault(each.name(access.name), {}).update(values)
    return found


def _served(new: Side, name: str) -> bool:
    """Whether a class has the attribute as well."""
    return any(
        mangled(path, n) == name for (_, path), e in new.classes.items() for n in bound_on(e)
    )


def _read(old: Side, new: Side, cls: Class, name: str) -> bool:
    """Whether new code may still look for the attribute of the object itself."""
    if _gives(new, cls, name, unsure=False):
        return True
    taken = cls in old.classes and name not in bound_on(old.classes[cls])
    taken = taken and cls in new.classes and name in bound_on(new.classes[cls])
    for each in new.mentioning([name]):
        if any(isinstance(part, ast.Constant) and part.value == name for part in each.parts):
            return True
        if not taken and any(each.name(access.name) == name for access in each.accesses.used):
            return True
    return False


def _same(before: Mapping[str, ast.expr], after: Mapping[str, ast.expr], *, alone: bool) -> bool:
    """Whether both are filled with the same; a constant says so only where there is no other."""
    both = [before[text] for text in before.keys() & after.keys()]
    return any(alone or any(isinstance(e, ast.Name) for e in parts(each)) for each in both)
