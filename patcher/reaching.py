"""Which live functions come to something that changes, by what their code names.

Read from the code that runs, in whatever module it is, so no source is needed: global names are
looked up in the function's own globals, attributes in the modules and classes that it names, in the
class it is a method of, and in the classes of what its objects hold. Nothing is called.
"""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass, field
from gc import get_referents
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from zdpatch.patcher import reach
from zdpatch.patcher.importers import in_stdlib
from zdpatch.patcher.loads import Loads, coarse, exact
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Set

    from zdpatch.patcher.spread import Name

_MAKING: Final = ("__init__", "__new__", "__post_init__")
_LONGEST_CHAIN: Final = 20
_TABLES: Final = (dict, list, tuple, set, frozenset)
_LARGEST_TABLE: Final = 1000

_Found: TypeAlias = "tuple[str, list[FunctionType]]"  # a path to blame, or where to look next


class Changing:
    """What changes, by the live objects it is in."""

    def __init__(
        self,
        changed: Mapping[Name, str],
        spaces: Mapping[str, Mapping[str, object]],
        classes: Mapping[Name, type],
        *,
        by_name: bool,
    ) -> None:
        self._functions: dict[tuple[int, str], str] = {}
        self._values: dict[tuple[int, str], str] = {}
        self.anywhere: dict[str, str] = {}
        self._names: dict[int, set[str]] = {}
        self._foreign: dict[int, bool] = {}
        self._owners: list[object] = []  # keeps what is known by id
        for (module, path), why in changed.items():
            owner, _, name = path.rpartition(".")
            cls = classes.get((module, owner))
            if module in spaces:
                space = spaces[module]
                self._functions[id(space), path] = why
                if not owner:
                    self._values[id(space), name] = why
            if cls is not None and by_name and not name.startswith("__"):
                self.anywhere[name] = why
            if cls is not None:
                self._values[id(cls), name] = why
                self._names.setdefault(id(cls), set()).add(name)
                self._owners.append(cls)

    def is_changed(self, function: FunctionType) -> str:
        """The path of a function that changes itself."""
        return self._functions.get((id(function.__globals__), function.__code__.co_qualname), "")

    def is_foreign(self, function: FunctionType) -> bool:
        """Whether a function is of the standard library."""
        space = function.__globals__
        if id(space) not in self._foreign:
            self._foreign[id(space)] = in_stdlib(space)
            self._owners.append(space)
        return self._foreign[id(space)]

    def value(self, owner: object, name: str) -> str:
        """The path of a name of a namespace or class that changes."""
        return self._values.get((id(owner), name), "")

    def names(self, cls: type) -> Set[str]:
        """The names of a class that change."""
        return self._names.get(id(cls), frozenset[str]())


class Reaching:
    """Finds the way from a function to a name that changes.

    `changed`: paths to blame by name, of functions with new code, and of names with another value
    or none; of classes too. `spaces` and `classes` are what these names are in. `by_name`:
    whoever uses a method of the same name, on whatever object, comes to it too, and to all that
    is in a table of which it takes something.
    """

    def __init__(
        self,
        changed: Mapping[Name, str],
        spaces: Mapping[str, Mapping[str, object]],
        classes: Mapping[Name, type],
        *,
        by_name: bool = False,
    ) -> None:
        self._changing = Changing(changed, spaces, classes, by_name=by_name)
        self._coarse = _Search(self._changing, coarse, tables=by_name)
        self._exact = _Search(self._changing, exact, tables=by_name)

    def cause(self, function: FunctionType, receiver: tuple[type, ...] = ()) -> str:
        """What `function` comes to, as a method of an object of the first of `receiver`, or without
        one; "" when it comes to nothing. The others are classes of what such objects hold.
        """
        if not self._coarse.cause(function, receiver):
            return ""
        return self._exact.cause(function, receiver)

    def is_changed(self, function: FunctionType) -> str:
        """The path of a function that changes itself."""
        return self._changing.is_changed(function)


@dataclass(eq=False)
class _Search:
    """Depth first. Code of the standard library is not entered: it leads back to an application
    only through objects, not by names.
    """

    changing: Changing
    read: Callable[[CodeType], Loads]
    tables: bool = False
    _loads: dict[int, Loads] = field(default_factory=dict[int, Loads])
    _anyway: dict[int, _Found] = field(default_factory=dict[int, Any])
    _clean: set[tuple[int, ...]] = field(default_factory=set[Any])
    _kept: list[object] = field(default_factory=list[object])
    _known: dict[int, set[str]] = field(default_factory=dict[int, set[str]])

    def cause(self, function: FunctionType, receiver: tuple[type, ...]) -> str:
        asked = tuple(map(id, receiver))
        seen: set[int] = set()
        pending = [function]
        while pending:
            each = pending.pop()
            if id(each) in seen or (id(each), *asked) in self._clean:
                continue
            seen.add(id(each))
            self._kept += (each, receiver)
            if why := self.changing.is_changed(each):
                return why
            if self.changing.is_foreign(each):
                continue
            for why, found in self._from(each, receiver):
                if why:
                    return why
                pending += found
        self._clean |= {(one, *asked) for one in seen}
        return ""

    def _from(self, function: FunctionType, receiver: tuple[type, ...]) -> Iterator[_Found]:
        code = function.__code__
        if id(code) not in self._loads:
            self._loads[id(code)] = self.read(code)
            self._kept.append(code)
        loads = self._loads[id(code)]
        if id(function) not in self._anyway:
            self._anyway[id(function)] = _all_of(self._without(function, loads))
        yield self._anyway[id(function)]
        for cls in receiver:
            yield from self._of_class(cls, loads.attributes, above="super" in loads.names)

    def _without(self, function: FunctionType, loads: Loads) -> Iterator[_Found]:
        """Where a function comes to whatever it is a method of."""
        space = function.__globals__
        for cell in function.__closure__ or ():
            yield "", behind(contents(cell))
        for name in loads.names:
            yield self.changing.value(space, name), []
            value = space.get(name, vars(builtins).get(name))
            yield from self._of(value, loads, made=name not in loads.tested)
            if self.tables and name in loads.tables:
                yield "", [each for held in in_table(value) for each in behind(held)]
        for name in loads.modules:
            for module in _imported(space, name):
                yield from self._of(module, loads, made=True)
        for name in loads.attributes & self.changing.anywhere.keys():
            yield self.changing.anywhere[name], []

    def _of(self, value: object, loads: Loads, *, made: bool) -> Iterator[_Found]:
        if reach.is_a(value, ModuleType):
            for space in _modules_on_the_way(cast("ModuleType", value), loads.attributes):
                for name in loads.attributes & space.keys():
                    yield self.changing.value(space, name), []
                    held = space[name]
                    if reach.is_a(held, type):
                        yield from self._of(held, loads, made=made)
                    else:
                        yield "", behind(held)
        elif reach.is_a(value, type):
            cls = cast("type", value)
            yield from self._of_class(cls, loads.attributes)
            if made:
                yield from self._of_class(cls, _MAKING)
        else:
            yield "", behind(value)
            if _heap_type(type(value)):
                yield from self._of_class(type(value), loads.attributes)

    def _of_class(
        self, cls: type, names: Iterable[str], *, above: bool = False
    ) -> Iterator[_Found]:
        for name in self._names(cls).intersection(names):
            for owner in mro(cls):
                yield self.changing.value(owner, name), []
                if name in reach.class_dict(owner):
                    yield "", behind(reach.class_dict(owner)[name])
                    if not above:
                        break

    def _names(self, cls: type) -> set[str]:
        """What a class has, inherited or to come."""
        if id(cls) not in self._known:
            found: set[str] = set()
            for owner in mro(cls):
                found |= reach.class_dict(owner).keys() | self.changing.names(owner)
            self._known[id(cls)] = found
            self._kept.append(cls)
        return self._known[id(cls)]


def _modules_on_the_way(module: ModuleType, attributes: Set[str]) -> Iterator[dict[str, object]]:
    """The namespaces of a module, and of modules that `module.a.b` may come to by these names."""
    pending, seen = [module], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        space = reach.namespace(each)
        yield space
        held = (space[name] for name in attributes & space.keys())
        pending += [cast("ModuleType", one) for one in held if reach.is_a(one, ModuleType)]


def _all_of(steps: Iterable[_Found]) -> _Found:
    """The first path to blame, or else every place to look next."""
    every: list[FunctionType] = []
    for why, found in steps:
        if why:
            return why, []
        every += found
    return "", every


def behind(value: object) -> list[FunctionType]:
    """The functions that run when `value` is called, or loaded from a class."""
    found: list[FunctionType] = []
    pending = [value]
    for _ in range(_LONGEST_CHAIN):
        if not pending:
            break
        each = pending.pop()
        if type(each) is FunctionType:
            found.append(each)
        elif type(each) is reach.CACHED:
            pending.append(vars(each).get("__wrapped__"))
        elif reach.is_a(each, *reach.WRAPPERS):
            pending += reach.all_inner(each)
        elif type(type(each)) is type and type(each).__module__ == "functools":
            pending += _held(each)  # cached_property, partialmethod, singledispatchmethod
    return found


def in_table(value: object) -> list[object]:
    """What a table, and tables in it, have, in so far as it may be called."""
    found: list[object] = []
    pending, seen = [value], set[int]()
    while pending and len(seen) < _LARGEST_TABLE:
        each = pending.pop()
        if id(each) not in seen and reach.is_a(each, *_TABLES):
            seen.add(id(each))
            inside = get_referents(each)
            pending += inside
            found += inside
    return found


def _held(value: object) -> list[object]:
    space = [cast("dict[str, object]", held) for held in get_referents(value) if type(held) is dict]
    return [held for each in space for held in each.values()]


def contents(cell: Any) -> object:  # noqa: ANN401 - a cell
    """What a cell holds; None when nothing was assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def bound(value: object) -> tuple[type, ...]:
    """The class of the object that a bound method belongs to."""
    return (type(value.__self__),) if type(value) is MethodType else ()


def _heap_type(kind: type) -> bool:
    return bool(kind.__flags__ & (1 << 9))  # Py_TPFLAGS_HEAPTYPE (Include/object.h)


def _imported(space: Mapping[str, object], name: str) -> Iterator[ModuleType]:
    """The loaded modules that an import statement in a function may mean."""
    package = space.get("__package__")
    above = package.split(".") if type(package) is str and package else []
    stems = ["", *(".".join(above[:i]) + "." for i in range(len(above), 0, -1))]
    for full in (f"{stem}{name}".rstrip(".") for stem in stems):
        module = sys.modules.get(full)
        if module is not None and reach.is_a(module, ModuleType):
            yield module
