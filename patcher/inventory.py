"""What is live is read from the process's own objects, by identity and by digest, never from disk.

Functions are found under wrappers, closures, containers and instances; the same function imported
elsewhere is the same object. The path of a function is its code's `co_qualname`, which no wrapper
and no decorator rewrites.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, reach, scan
from zdpatch.patcher.drift import Drift, drift
from zdpatch.patcher.inflight import InFlight, in_flight, references
from zdpatch.patcher.reach import Limits
from zdpatch.patcher.source import is_patched
from zdpatch.patcher.trampoline import behind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from types import CodeType

__all__ = [
    "Binding",
    "Drift",
    "InFlight",
    "Inventory",
    "Limits",
    "LiveFunction",
    "ambiguous",
    "bindings",
    "drift",
    "every_class",
    "every_function",
    "in_flight",
    "match",
    "references",
    "take",
    "take_all",
]

_ON_THE_HEAP: Final = "<heap>"


@dataclass(frozen=True, slots=True, eq=False)
class LiveFunction:
    """A function that runs with the module's globals.

    `qualname` is its code's; `where` is the first holder found, for people
    ("shop.cart.Cart.__dict__['total']", "<heap>" when only garbage collection knows it).
    """

    function: FunctionType
    qualname: str
    where: str

    @property
    def left_over(self) -> bool:
        """Whether a patch made it that was taken out, and only who holds it has it still."""
        return self.where == _ON_THE_HEAP and is_patched(self.code.co_filename)

    @property
    def code(self) -> CodeType:
        """What it runs now; of a function that is on its way to another version, the old code."""
        return behind(self.function.__code__)


@dataclass(slots=True, eq=False)
class Inventory:
    """The live functions and classes of one module, by qualname, nearest to the namespace first.

    `complete` is false when the walk met its limits: then only a heap scan knows all. `heap` says
    whether there was one.
    """

    module: ModuleType
    heap: bool
    complete: bool
    functions: dict[str, list[LiveFunction]] = field(default_factory=dict[str, list[LiveFunction]])
    classes: dict[str, list[type]] = field(default_factory=dict[str, list[type]])

    @property
    def name(self) -> str:
        """The module's name, as its namespace has it."""
        name = self.namespace.get("__name__")
        return name if type(name) is str else "?"

    @property
    def namespace(self) -> dict[str, object]:
        """The module's dict: the globals of all these functions."""
        return reach.namespace(self.module)


def take(module: ModuleType, *, heap: bool, limits: Limits | None = None) -> Inventory:
    """Find what of `module` is live.

    `heap=False` walks what the namespace reaches within `limits`. `heap=True` also asks garbage
    collection for every function and class in the process (it stops all threads for about 35 ms
    for 1.4 million objects), and, when objects were frozen by `gc.freeze`, which hides them from
    it, walks everything that can be reached from anything (seconds, but threads go on).
    """
    return take_all([module], limits=limits)[0] if heap else _take(module, None, limits)


def take_all(modules: Sequence[ModuleType], *, limits: Limits | None = None) -> list[Inventory]:
    """What is live of each of `modules`, with one scan of the heap for all of them."""
    heap = _Heap({id(reach.namespace(module)) for module in modules})
    return [_take(module, heap, limits) for module in modules]


def _take(module: ModuleType, heap: _Heap | None, limits: Limits | None) -> Inventory:
    globals_ = reach.namespace(module)
    name = globals_.get("__name__")
    walk = reach.Walk(name if type(name) is str else "?", globals_, limits or Limits())
    walk.run()
    if heap is not None:
        for found in (*heap.functions.get(id(globals_), ()), *heap.classes):
            walk.add(found, _ON_THE_HEAP)
    inventory = Inventory(module, heap is not None, walk.complete)
    for function, where in walk.functions:
        live = LiveFunction(function, function.__code__.co_qualname, where)
        inventory.functions.setdefault(live.qualname, []).append(live)
    for cls, _ in walk.classes:
        group = inventory.classes.setdefault(reach.qualname(cls), [])
        if not group or not _left_behind(cls, group[0]):
            group.append(cls)
    return inventory


def _left_behind(cls: type, kept: type) -> bool:
    """Whether `kept` was made of the very body of `cls`, as decorators do that add `__slots__`:
    nobody uses the first one, which may be alive until garbage is collected.
    """
    body = {id(value) for _, value in _body(kept)}
    return any(id(value) in body for _, value in _body(cls))


def _body(cls: type) -> Iterator[tuple[object, object]]:
    """What only one class statement can have made: its methods, and the table of annotations."""
    prefix = f"{reach.qualname(cls)}."
    for key, value in reach.items(reach.class_dict(cls)):
        own = (f.__code__.co_qualname.startswith(prefix) for f in reach.inner_functions(value))
        if any(own) or (key == "__annotations__" and type(value) is dict):
            yield key, value


class _Heap:
    """Functions by the identity of their globals, for those asked for, and all classes."""

    def __init__(self, wanted: set[int]) -> None:
        self.functions: dict[int, list[FunctionType]] = {}
        self.classes: list[type] = []
        for found in scan.objects():
            if type(found) is FunctionType:
                if id(found.__globals__) in wanted:
                    self.functions.setdefault(id(found.__globals__), []).append(found)
            elif issubclass(type(found), type):
                self.classes.append(cast("type", found))


def every_function() -> list[FunctionType]:
    """Every function in the process that garbage collection knows, or what it knows leads to."""
    found = {id(each): each for each in scan.objects() if type(each) is FunctionType}
    return list(found.values())


def every_class() -> list[type]:
    """Every class: a base knows its subclasses though it does not keep them alive."""
    return reach.family(object)


def match(inventory: Inventory, base: CodeType) -> dict[tuple[str, int], list[LiveFunction]]:
    """The live functions of each function code of `base`, by (qualname, ordinal in `flatten`).

    Every code object of `base` has a key, with an empty list when nothing live runs it. Code which
    occurs several times under one qualname (two equal lambdas) is told apart by its position, or,
    where lines moved, by the order of positions; what is left is in `ambiguous`, not here.
    """
    return _pair(inventory, base)[0]


def ambiguous(inventory: Inventory, base: CodeType) -> dict[str, list[LiveFunction]]:
    """Live functions that run one of several equal codes of `base`, nobody knows which.

    An edit which makes those codes different from each other cannot be applied to them.
    """
    return _pair(inventory, base)[1]


def _pair(
    inventory: Inventory, base: CodeType
) -> tuple[dict[tuple[str, int], list[LiveFunction]], dict[str, list[LiveFunction]]]:
    pairs: dict[tuple[str, int], list[LiveFunction]] = {}
    unknown: dict[str, list[LiveFunction]] = {}
    for path, alternatives in codes.flatten(base).items():
        ordinals: dict[bytes, list[int]] = {}
        for ordinal, code in enumerate(alternatives):
            pairs[path, ordinal] = []
            ordinals.setdefault(codes.digest(code), []).append(ordinal)
        live: dict[bytes, list[LiveFunction]] = {}
        for function in inventory.functions.get(path, []):
            live.setdefault(codes.digest(function.code), []).append(function)
        for digest, candidates in ordinals.items():
            group = live.get(digest, [])
            chosen: list[int | None] = [0] * len(group)
            if len(candidates) > 1:
                places = [codes.position(alternatives[i]) for i in candidates]
                chosen = _choose(places, [codes.position(f.code) for f in group])
            for function, choice in zip(group, chosen, strict=True):
                if choice is None:
                    unknown.setdefault(path, []).append(function)
                else:
                    pairs[path, candidates[choice]].append(function)
    return pairs, unknown


def _choose(
    places: list[tuple[int, int, int]], live: list[tuple[int, int, int]]
) -> list[int | None]:
    """For each live position the index of its place; None where it cannot be known."""
    different = sorted(set(live))
    if set(different) <= set(places) and len(set(places)) == len(places):
        return [places.index(position) for position in live]
    if len(different) == len(places) == len(set(places)):
        order = sorted(range(len(places)), key=places.__getitem__)
        return [order[different.index(position)] for position in live]
    return [None] * len(live)


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A name in a module's namespace that is bound to the object asked for."""

    module: ModuleType
    name: str


def bindings(value: object, names: Collection[str] | None = None) -> list[Binding]:
    """Where modules bind this very object, under `names`, or under any name when that is None.

    The first costs a look-up a module, the second a look at every name of the process (some ms).
    """
    found: list[Binding] = []
    for _, module in _distinct(reach.modules()):
        space = reach.namespace(module)
        if names is None:
            held = [k for k, v in reach.items(space) if v is value]
            found += [Binding(module, key) for key in held if type(key) is str]
        else:
            found += [Binding(module, name) for name in names if space.get(name) is value]
    return found


def _distinct(modules: list[tuple[str, ModuleType]]) -> list[tuple[str, ModuleType]]:
    """One module may be in `sys.modules` under several names."""
    return list({id(module): (name, module) for name, module in modules}.values())
