"""What live objects have of their own that new code means otherwise (see `outlived` and `compared`)
is seen on the objects, without running anyone's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach, scan
from zdpatch.patcher.fitness import attribute, filled, own_attributes
from zdpatch.patcher.instances import HAVE_GC
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.compared import Kept
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.outlived import Outlived
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value

_PLAIN: Final = (int, str, bytes, float, bool, type(None))


def outliving(
    edit: Outlived, inventories: Mapping[str, Inventory], values: Mapping[Name, Value]
) -> str:
    """Why live objects do not do with the new code; "" when they do."""
    module, path = edit.owner
    taken = inventories.get(module)
    classes = taken.classes.get(path, []) if taken is not None else []
    if not classes:
        return ""
    kinds = [each for cls in classes for each in reach.family(cls)]
    if reach.frozen() or any(not cls.__flags__ & HAVE_GC for cls in kinds):
        return "live instances cannot be counted here"
    value = values.get((module, f"{path}.{edit.instead or edit.name}"))
    new = MISSING if value is None else value.new
    if not edit.instead and _goes_first(new):
        return ""
    live = list(scan.of({id(each) for each in kinds}))
    count = sum(1 for each in live if _differs(each, edit, new))
    what = "its own" if not edit.instead else "the old one"
    return f"there are {count} live instances with {what}" if count else ""


def _differs(value: object, edit: Outlived, new: object) -> bool:
    """Whether an object has an attribute of its own where new code finds something else."""
    own = own_attributes(value) or {}
    held = own.get(edit.name, MISSING)
    if held is MISSING or edit.instead in own:
        return False
    if not edit.instead and any(edit.name in reach.class_dict(cls) for cls in mro(type(value))):
        return False  # it hid that of the class before
    if edit.instead and new is MISSING:
        new = attribute(value, edit.instead)
    return not _is(held, new)


def _goes_first(value: object) -> bool:
    """Whether an attribute of a class is found before that of the object itself."""
    return any(_names(type(value))) if value is not MISSING else False


def _names(cls: type) -> Iterator[bool]:
    for each in mro(cls):
        space = reach.class_dict(each)
        yield "__set__" in space or "__delete__" in space


def states(
    found: Iterable[Kept], inventories: Mapping[str, Inventory], values: Mapping[Name, Value]
) -> Iterator[tuple[Name, str]]:
    """The constants of whose old values some live, and who compares them with the new ones."""
    for each in found:
        value, taken = values.get(each.constant), inventories.get(each.owner[0])
        if value is None or taken is None or value.new is MISSING or _is(value.old, value.new):
            continue
        path = each.owner[1]
        if path and reach.frozen():
            who = "live objects, which cannot be looked at here, may hold"
        elif path:
            kinds = {id(e) for cls in taken.classes.get(path, ()) for e in reach.family(cls)}
            number = sum(1 for one in scan.of(kinds) if _is(_held(one, each.name), value.old))
            who = f"{number} live objects hold" if number else ""
        else:
            who = "it holds" if _is(taken.namespace.get(each.name), value.old) else ""
        if who:
            yield each.constant, f"{each.user} compares {each.name} with it; {who} the old value"


def _held(value: object, name: str) -> object:
    """What an object has of its own under a name; `MISSING` when it has nothing there."""
    slot = reach.member(value, name)
    if slot is not None:
        return slot.__get__(value) if filled(slot, value) else MISSING
    return (own_attributes(value) or {}).get(name, MISSING)


def _is(held: object, value: object) -> bool:
    """Whether something is the value, without asking either."""
    if held is value:
        return held is not MISSING
    return type(held) is type(value) and type(held) in _PLAIN and repr(held) == repr(value)
