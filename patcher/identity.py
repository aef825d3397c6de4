"""What an object is equal to, its hash and its order may change though none of these methods does:
through what they call and read.

Then whoever keeps objects by it (keys of dicts, members of sets, sorted lists) loses them, as when
the method itself is edited.
"""

from __future__ import annotations

from gc import get_referents
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from zdpatch.patcher import inventory, reach, scan
from zdpatch.patcher.instances import HAVE_GC
from zdpatch.patcher.reaching import behind
from zdpatch.patcher.rows import IDENTITY
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import FunctionType

    from zdpatch.patcher.reaching import Reaching

# By id: the class, and its methods by name that matter.
Suspects: TypeAlias = "dict[int, tuple[type, list[tuple[str, FunctionType]]]]"
# By id: the class, and by name the functions behind what its own body has.
_Own: TypeAlias = "dict[int, tuple[type, list[tuple[str, list[FunctionType]]]]]"
_HELD: Final = (dict, list, tuple, set, frozenset)


def suspects(reaching: Reaching, owners: Collection[type]) -> Suspects:
    """Classes of which the identity may come to something that changes, whatever their objects
    hold. `owners`: the classes of which something changes.
    """
    found: Suspects = {}
    own: _Own = {}
    classes = inventory.every_class()
    writing = {id(cls) for cls in classes if any(behind_it for _, behind_it in _body(cls, own))}
    for cls in classes:
        if writing.isdisjoint(map(id, mro(cls))):
            continue  # none of these methods is written in Python
        for name, function in _methods(cls, own):
            if reaching.is_changed(function):
                continue  # an edit of its own
            if reaching.cause(function, (cls, *owners)):
                found.setdefault(id(cls), (cls, []))[1].append((name, function))
    return found


def disturbed(reaching: Reaching, suspected: Suspects) -> Iterator[tuple[str, str]]:
    """(path of what changes, why it must not) for each class that has live objects of which the
    identity comes to it.
    """
    counts, held = _living(suspected)
    for cls, methods in suspected.values():
        count = counts.get(id(cls), 0)
        if not count and not reach.frozen() and cls.__flags__ & HAVE_GC:
            continue
        receiver = (cls, *held.get(id(cls), ()))
        many = f"{count} live instances" if count else "live instances cannot be counted here"
        for name, function in methods:
            if why := reaching.cause(function, receiver):
                where = f"{reach.class_dict(cls).get('__module__')}:{reach.qualname(cls)}.{name}"
                yield why, f"{where} depends on it, and stored keys would be lost: {many}"
                break


def _body(cls: type, own: _Own) -> list[tuple[str, list[FunctionType]]]:
    """The methods of its identity that the body of a class has."""
    known = own.get(id(cls))
    if known is None:
        space = reach.class_dict(cls)
        names = [*(IDENTITY & space.keys())]
        known = own[id(cls)] = cls, [(name, behind(space[name])) for name in names]
    return known[1]


def _methods(cls: type, own: _Own) -> Iterator[tuple[str, FunctionType]]:
    """The methods of its identity that are written in Python, its own and inherited ones. `own`:
    what the bodies of classes looked at before have; `object` is looked at once for all.
    """
    known: set[str] = set()
    for owner in mro(cls):
        for name, functions in _body(owner, own):
            if name not in known:
                known.add(name)
                for function in functions:
                    yield name, function


def _living(suspected: Suspects) -> tuple[dict[int, int], dict[int, list[type]]]:
    """How many objects there are of each class itself, and the classes of what they hold."""
    counts: dict[int, int] = {}
    held: dict[int, dict[int, type]] = {}
    for thing in scan.of(suspected):
        key = id(type(thing))
        counts[key] = counts.get(key, 0) + 1
        held.setdefault(key, {}).update((id(kind), kind) for kind in _kinds(thing))
    return counts, {key: [*kinds.values()] for key, kinds in held.items()}


def _kinds(thing: object) -> Iterator[type]:
    """Types of what an object holds, also in its dict and in plain containers."""
    pending = get_referents(thing)
    for _ in range(2):
        inside = [each for each in pending if reach.is_a(each, *_HELD)]
        yield from (type(each) for each in pending if not reach.is_a(each, type, *_HELD))
        pending = cast("list[object]", get_referents(*inside)) if inside else []
    yield from (type(each) for each in pending if not reach.is_a(each, type))
