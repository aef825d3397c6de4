"""An attribute that means something else now is one which new code fills with something else, and
uses in a way that no old code did: objects made before hold what the old code stored.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.makers import INITIALISERS
from zdpatch.patcher.names import dotted
from zdpatch.patcher.shapes import clash, reentrant
from zdpatch.patcher.uses import added_members, fresh, given, gives, uses

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Holder, Side

_Stores = dict["Holder", dict[str, ast.expr]]
# These work with nothing else than another kind of value would, or give something else.
_KEPT_APART: Final = re.compile(r"[A-Z]\w+ |\[|\.")


@dataclass(frozen=True, eq=False)
class Altered:
    """`function` stores another thing under `name` on objects of `holder`, and `user` shows it.

    `kept`: constants that both versions store there, as text. `kinds`: what of the old is not fit
    for it; empty when all may be.
    """

    function: Function
    holder: Holder
    name: str
    user: Function
    kept: frozenset[str]
    kinds: frozenset[str]


def altered(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Altered]:
    """Attributes of live objects whose meaning is another one; `changed` are new functions."""
    done: set[tuple[Holder, str]] = set()
    called = new.mentioning({each.node.name for each in changed if not each.cls})
    for function in dict.fromkeys([*changed, *called]):
        for name in _filled_otherwise(old, new, function):
            for holder in _holders(new, function, name):
                if (holder, name) not in done:
                    done.add((holder, name))
                    yield from _altered(old, new, function, holder, name)


def _altered(
    old: Side, new: Side, function: Function, holder: Holder, name: str
) -> Iterator[Altered]:
    stored = _stores(old, name).get(holder, {}), _stores(new, name).get(holder, {})
    before, after = stored[0].keys(), stored[1].keys()
    if not (before - after and after - before):
        return
    gone = [stored[0][each] for each in before - after]
    come = [stored[1][each] for each in after - before]
    user, kinds = _otherwise(old, new, holder, name), frozenset[str]()
    if user is None and (kinds := clash(gone, come)):
        user = _operating(new, holder, name)
    if user is None and (kinds := reentrant(gone, come)):
        user = next(iter(_users(new, holder, name)), None)
    if user:
        kept = frozenset(text for text in map(_literal, before & after) if text)
        yield Altered(function, holder, name, user, kept, kinds)


def _filled_otherwise(old: Side, new: Side, function: Function) -> set[str]:
    """Attributes in which the function stores something else than before."""
    now, before = _given(new, function), dict[str, set[str]]()
    for each in old.by_path.get(function.where, ()):
        before |= _given(old, each)
    special = {name for name in now if name.startswith("__") and name.endswith("__")}
    return {name for name, texts in now.items() if texts - before.get(name, set())} - special


def _given(side: Side, function: Function) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for access in function.accesses.stores:
        if access.value is not None:
            texts = gives(side, function, access.value)
            found.setdefault(function.name(access.name), set()).update(texts)
    return found


def _holders(side: Side, function: Function, name: str) -> Iterator[Holder]:
    for access in function.accesses.stores:
        if function.name(access.name) == name:
            holder = side.holder(function, access.root)
            if holder.kind != "unknown":
                yield holder


def _stores(side: Side, name: str) -> _Stores:
    """What is stored under an attribute, by whose it is."""
    found: _Stores = {}
    for each in side.mentioning([name]):
        for access in each.accesses.stores:
            if each.name(access.name) == name and access.value is not None:
                group = found.setdefault(side.holder(each, access.root), {})
                group |= given(side, each, access.value)
    return found


def _otherwise(old: Side, new: Side, holder: Holder, name: str) -> Function | None:
    """A function that uses the attribute as none did before; None when there is none."""
    before, after = _users(old, holder, name), _users(new, holder, name, unsure=True)
    now = {use for group in _users(new, holder, name).values() for use in group}
    # initialisers run for new objects alone
    found = fresh(before, after, now, added_members(old, new))
    return next((each for each, _ in found if each.node.name not in INITIALISERS), None)


def _operating(new: Side, holder: Holder, name: str) -> Function | None:
    """A function that does with the attribute what depends on its kind: plain values of two kinds
    do not mix.
    """
    for each, group in _users(new, holder, name, unsure=True).items():
        if any(map(_KEPT_APART.match, group)) and each.node.name not in INITIALISERS:
            return each
    return None


def _users(
    side: Side, holder: Holder, name: str, *, unsure: bool = False
) -> dict[Function, set[str]]:
    """How functions use the attribute of such an object, or of one that may be such; `unsure`: only
    where they have not stored it themselves before.
    """
    owners = {whose for whose in _stores(side, name) if whose.kind != "unknown"}
    found: dict[Function, set[str]] = {}
    for each in side.mentioning([name]):
        accesses = each.accesses.loads if unsure else each.accesses.used
        lines = {access.line for access in accesses if each.name(access.name) == name}

        def wanted(node: ast.Attribute, each: Function = each, lines: set[int] = lines) -> bool:
            if each.name(node.attr) != name or node.lineno not in lines:
                return False
            whose = side.holder(each, dotted(node.value) or "")
            if whose.kind == "unknown":
                return len(owners) == 1
            return whose == holder or (whose.kind == "instances" and whose not in owners)

        nodes = [node for node in _loaded(each) if wanted(node)] if lines else []
        if group := uses(side, each, nodes, bare=unsure):
            found[each] = group
    return found


def _loaded(function: Function) -> Iterator[ast.Attribute]:
    """Attributes that a function loads, also to store them again (`o.x += 1`)."""
    for part in ast.walk(function.node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load):
            yield part
        elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Attribute):
            yield part.target


def _literal(text: str) -> str:
    """A constant, of its text as `ast.dump` has it, as `repr` has it; "" for anything else."""
    found = text.removeprefix("Constant(value=").removesuffix(")")
    return found if len(found) < len(text) and text.startswith("Constant(value=") else ""
