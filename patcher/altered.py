"""An attribute that means something else now is one which new code fills with something else, and
uses in a way that no old code did: objects made before hold what the old code stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.names import dotted
from zdpatch.patcher.uses import ANY, gives, uses

if TYPE_CHECKING:
    import ast
    from collections.abc import Collection, Iterator

    from zdpatch.patcher.holders import Function, Holder, Side

_Stores = dict["Holder", set[str]]


@dataclass(frozen=True, eq=False)
class Altered:
    """`function` stores another thing under `name` on objects of `holder`, and `user` shows it.

    `kept`: constants that both versions store there, as text.
    """

    function: Function
    holder: Holder
    name: str
    user: Function
    kept: frozenset[str]


def altered(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Altered]:
    """Attributes of live objects whose meaning is another one; `changed` are new functions."""
    done: set[tuple[Holder, str]] = set()
    called = new.mentioning({each.node.name for each in changed if not each.cls})
    for function in dict.fromkeys([*changed, *called]):
        for access in function.accesses.stores:
            holder, name = new.holder(function, access.root), function.name(access.name)
            plain = holder.kind != "unknown" and not (name.startswith("__") and name.endswith("__"))
            if not plain or access.value is None or (holder, name) in done:
                continue
            done.add((holder, name))
            before, after = _stores(old, name), _stores(new, name)
            mine, now = before.get(holder, set()), after.get(holder, set())
            if not mine - now or not now - mine:
                continue
            if user := _otherwise(old, new, holder, name):
                kept = frozenset(filter(None, map(_literal, mine & now)))
                yield Altered(function, holder, name, user, kept)


def _stores(side: Side, name: str) -> _Stores:
    """What is stored under an attribute, by whose it is."""
    found: _Stores = {}
    for each in side.mentioning([name]):
        for access in each.accesses.stores:
            if each.name(access.name) == name and access.value is not None:
                group = found.setdefault(side.holder(each, access.root), set())
                group.update(gives(side, each, access.value))
    return found


def _otherwise(old: Side, new: Side, holder: Holder, name: str) -> Function | None:
    """A function that uses the attribute as none did before; None when there is none."""
    before, after = _users(old, holder, name), _users(new, holder, name)
    known = {use for group in before.values() for use in group}
    now = {use for group in after.values() for use in group}
    lost = any(not use.startswith(ANY) for use in known - now)
    for function, group in after.items():
        for use in group - known:
            if lost or not use.startswith(ANY):
                return function
    return None


def _users(side: Side, holder: Holder, name: str) -> dict[Function, set[str]]:
    """How functions use the attribute of such an object, or of one that may be such."""
    owners = {whose for whose in _stores(side, name) if whose.kind != "unknown"}
    found: dict[Function, set[str]] = {}
    for each in side.mentioning([name]):

        def wanted(node: ast.Attribute, each: Function = each) -> bool:
            if each.name(node.attr) != name:
                return False
            whose = side.holder(each, dotted(node.value) or "")
            if whose.kind == "unknown":
                return len(owners) == 1
            return whose == holder or (whose.kind == "instances" and whose not in owners)

        if group := uses(side, each, wanted):
            found[each] = group
    return found


def _literal(text: str) -> str:
    """A constant, of its text as `ast.dump` has it, as `repr` has it; "" for anything else."""
    found = text.removeprefix("Constant(value=").removesuffix(")")
    return found if len(found) < len(text) and text.startswith("Constant(value=") else ""
