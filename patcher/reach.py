"""What can be reached from a module is read without running a line of anyone's code.

No attribute of a foreign object is looked up, nothing is compared, hashed, tested for truth or
printed: types are read with `type()`, dicts through `dict.items`, class dicts through the
descriptor of `type`, and everything else through `gc.get_referents`, which asks the object's
traverse function in C. Other threads may change what is being read: a list of a dict's items is
taken in one piece, and taken again when that fails.
"""

from __future__ import annotations

import builtins
import functools
import gc
import sys
from collections import deque
from dataclasses import dataclass, field
from gc import get_referents
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from zdpatch.patcher.codes import is_function_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")
_Reader: TypeAlias = "Callable[[object], Any]"


def _reader(owner: type, name: str) -> _Reader:
    """Reads one slot of `owner`'s instances in C, past whatever their own classes define."""
    return cast("_Reader", owner.__dict__[name].__get__)


_dict_items: Callable[[object], list[tuple[object, object]]] = dict.__dict__["items"]
_type_dict = _reader(type, "__dict__")
_type_qualname = _reader(type, "__qualname__")
_type_mro = _reader(type, "__mro__")
_type_bases = _reader(type, "__bases__")
_module_dict = _reader(ModuleType, "__dict__")
_INNER: Final[tuple[tuple[type, str, _Reader], ...]] = tuple(
    (kind, name, _reader(kind, name))
    for kind, name in (
        (staticmethod, "__func__"),
        (classmethod, "__func__"),
        (property, "fget"),
        (property, "fset"),
        (property, "fdel"),
        (MethodType, "__func__"),
        (functools.partial, "func"),
    )
)
WRAPPERS: Final = tuple({kind for kind, _, _ in _INNER})
CACHED: Final = type(functools.lru_cache(len))
# By id: a metaclass may have a `__hash__` and an `__eq__`.
_ATOMS: Final = frozenset(
    id(kind)
    for kind in (
        *(str, bytes, bytearray, int, float, complex, bool, range, memoryview, object),
        *(type(None), type(Ellipsis), type(NotImplemented), CodeType),
        *(FrameType, TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType),
    )
)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_ATTEMPTS: Final = 100
_NOTHING: Final = MappingProxyType[str, object]({})
_FROZEN_AT_START: Final = 2_000  # objects; measured: 375 on 3.12.1, none on 3.11 and 3.13


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a walk goes: `hops` away from the namespace, `objects` looked at in all."""

    hops: int = 16
    objects: int = 200_000


def is_a(value: object, *kinds: type) -> bool:
    """`isinstance` by the real type: a `__class__` that lies or raises is not asked."""
    return issubclass(type(value), kinds)


def snapshot(read: Callable[[], list[_T]]) -> list[_T]:
    """`read()`, again when the container changed its size in the middle of it."""
    for _ in range(_ATTEMPTS):
        try:
            return read()
        except RuntimeError:
            continue
    return read()


def items(mapping: Mapping[Any, object]) -> list[tuple[object, object]]:
    """All items of a dict (or of a subclass, by dict's own method) or of a class's dict."""
    if is_a(mapping, dict):
        return snapshot(lambda: list(_dict_items(mapping)))
    return snapshot(lambda: list(mapping.items()))


def namespace(module: ModuleType) -> dict[str, object]:
    """The module's real dict, also when its class has a `__dict__` or `__getattr__` of its own."""
    return cast("dict[str, object]", _module_dict(module))


def class_dict(cls: type) -> MappingProxyType[str, object]:
    """The class's own attributes, whatever its metaclass says; none for a class written in C which
    nothing has used yet (in CPython 3.11 it has no dict).
    """
    return cast("MappingProxyType[str, object]", _type_dict(cls) or _NOTHING)


def mro(cls: type) -> tuple[type, ...]:
    """The class and its bases in the order of look-up, whatever its metaclass says."""
    return cast("tuple[type, ...]", _type_mro(cls))


def qualname(cls: type) -> str:
    """The class's `__qualname__`, "?" when somebody made it something else than text."""
    found = _type_qualname(cls)
    return found if type(found) is str else "?"


def subclasses(cls: type) -> list[type]:
    """Its living direct subclasses."""
    read = cast("Callable[[type], list[type]]", type.__subclasses__)
    return snapshot(lambda: read(cls))


def family(*classes: type) -> list[type]:
    """These classes and every living class derived from one of them, each once."""
    found: dict[int, type] = {}
    pending = list(classes)
    while pending:
        cls = pending.pop()
        if id(cls) not in found:
            found[id(cls)] = cls
            pending += subclasses(cls)
    return list(found.values())


def modules() -> list[tuple[str, ModuleType]]:
    """Names and modules of `sys.modules`; what is not really a module is left out."""
    return [
        (name, cast("ModuleType", module))
        for name, module in items(sys.modules)
        if type(name) is str and is_a(module, ModuleType)
    ]


def frozen() -> bool:
    """Whether somebody called `gc.freeze`: what it hides is not in `gc.get_objects`.

    CPython 3.12 starts with a few hundred frozen objects of its own; a process has thousands.
    """
    return gc.get_freeze_count() > _FROZEN_AT_START


def inner_functions(value: object) -> list[FunctionType]:
    """Functions directly in a static or class method, a property, a bound method or a partial."""
    if type(value) is FunctionType:
        return [value]
    found = [read(value) for kind, _, read in _INNER if is_a(value, kind)]
    return [f for f in found if type(f) is FunctionType]


def all_inner(value: object) -> list[object]:
    """What such a wrapper holds."""
    return [read(value) for kind, _, read in _INNER if is_a(value, kind)]


def inner(value: object) -> object:
    """What a static or class method, a property, a bound method or a partial calls first; None for
    everything else.
    """
    return next((read(value) for kind, _, read in _INNER if is_a(value, kind)), None)


def member(value: object, name: str) -> MemberDescriptorType | None:
    """What reads and writes a slot of `value`; None when its type keeps `name` elsewhere."""
    mro = cast("tuple[type, ...]", type.__dict__["__mro__"].__get__(type(value)))
    found = next((class_dict(cls)[name] for cls in mro if name in class_dict(cls)), None)
    return found if type(found) is MemberDescriptorType else None


def owns(module_name: str, globals_: dict[str, object], cls: type) -> bool:
    """Whether the class statement of `cls` is in the module.

    Says so `__module__`; packages rewrite that to their public place, so a method which was
    written in the class and has the module's globals says so as well.
    """
    own = class_dict(cls)
    said = own.get("__module__")
    if type(said) is str and said == module_name:
        return True
    prefix = qualname(cls) + "."
    return any(
        function.__globals__ is globals_ and function.__code__.co_qualname.startswith(prefix)
        for _, value in items(own)
        for function in inner_functions(value)
    )


@dataclass(slots=True)
class _Place:
    """How an object was come by; the text is made only for what is worth telling."""

    before: _Place | None
    label: str

    def __str__(self) -> str:
        labels: list[str] = []
        place: _Place | None = self
        while place is not None:
            labels.append(place.label)
            place = place.before
        return "".join(reversed(labels))


@dataclass(slots=True)
class Walk:
    """A breadth-first walk over what a module's namespace holds, near things first.

    It enters the module's own functions and classes, and wrappers, closures, containers and
    instances of any class; it never enters another module, another module's namespace or classes.
    `complete` is false when a limit ended it.
    """

    name: str
    globals: dict[str, object]
    limits: Limits = field(default_factory=Limits)
    complete: bool = True
    functions: list[tuple[FunctionType, str]] = field(default_factory=list[Any])
    classes: list[tuple[type, str]] = field(default_factory=list[Any])
    _seen: dict[int, object] = field(default_factory=dict[int, object])
    _here: deque[tuple[object, _Place]] = field(default_factory=deque[Any])
    _next: deque[tuple[object, _Place]] = field(default_factory=deque[Any])

    def run(self) -> None:
        """Walk from the namespace."""
        for _, module in modules():
            self._seen[id(namespace(module))] = module
        self._seen[id(sys.modules)] = sys.modules
        self._seen[id(self.globals)] = self.globals
        root = _Place(None, self.name)
        for key, value in items(self.globals):
            if not _is_builtins(key):
                self._add(value, _Place(root, _attribute(key)))
        for hop in range(self.limits.hops + 1):
            self._expand_all()
            self._here, self._next = self._next, self._here
            if hop == self.limits.hops and self._here:
                self.complete = False

    def add(self, value: object, where: str) -> None:
        """Walk from one more object, found by other means, and what belongs to it directly."""
        self._add(value, _Place(None, where))
        self._expand_all()

    def _add(self, value: object, place: _Place, *, far: bool = False) -> None:
        kind = type(value)
        if id(kind) in _ATOMS or id(value) in self._seen or issubclass(kind, ModuleType):
            return
        if len(self._seen) >= self.limits.objects:
            self.complete = False
            return
        self._seen[id(value)] = value
        (self._next if far else self._here).append((value, place))

    def _expand_all(self) -> None:
        while self._here:
            self._expand(*self._here.popleft())

    def _expand(self, value: object, place: _Place) -> None:
        if type(value) is FunctionType:
            self._function(value, place)
        elif is_a(value, type):
            self._class(cast("type", value), place)
        elif type(value) is CellType:
            self._add(_contents(value), place)
        elif is_a(value, dict):
            self._mapping(cast("dict[object, object]", value), place)
        elif is_a(value, *_SEQUENCES):
            self._sequence(value, place)
        else:
            self._instance(value, place)

    def _function(self, function: FunctionType, place: _Place) -> None:
        mine = function.__globals__ is self.globals
        # While a module or class body runs there is a function of its code, never called again.
        if mine and is_function_code(function.__code__):
            self.functions.append((function, str(place)))
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=False):
            self._add(_contents(cell), _Place(place, f"<closure {name}>"), far=not mine)
        aside = (function.__globals__, vars(builtins))
        # Keyword defaults and attributes; reading `__dict__` would create one where there is none.
        for held in get_referents(function):
            if not is_a(held, tuple) and not any(held is a for a in aside):
                self._add(held, _Place(place, ""), far=not mine)
        self._add(function.__defaults__, _Place(place, ".__defaults__"), far=not mine)

    def _class(self, cls: type, place: _Place) -> None:
        if not owns(self.name, self.globals, cls):
            return
        self.classes.append((cls, str(place)))
        for key, value in items(class_dict(cls)):
            self._add(value, _Place(place, f".__dict__[{_label(key)}]"))
        self._add(type(cls), _Place(place, ".__class__"))
        for base in cast("tuple[type, ...]", _type_bases(cls)):
            self._add(base, _Place(place, ".__bases__"))
        for derived in subclasses(cls):
            self._add(derived, _Place(place, ".__subclasses__()"))

    def _mapping(self, value: dict[object, object], place: _Place) -> None:
        held = items(value)
        if any(_is_builtins(key) for key, _ in held):
            return  # the namespace of a module that is no longer in sys.modules, or of an exec
        for key, held_value in held:
            self._add(key, _Place(place, f"<key {_label(key)}>"), far=True)
            self._add(held_value, _Place(place, f"[{_label(key)}]"), far=True)

    def _sequence(self, value: object, place: _Place) -> None:
        base = next(k for k in _SEQUENCES if is_a(value, k))
        iterate = cast("Callable[[object], Iterator[object]]", base.__iter__)  # pyright: ignore[reportUnknownMemberType]
        for index, held in enumerate(snapshot(lambda: list(iterate(value)))):
            self._add(held, _Place(place, f"[{index}]"), far=True)
        if type(value) is not base:
            self._referents(value, place)

    def _instance(self, value: object, place: _Place) -> None:
        if is_a(value, *WRAPPERS):
            for kind, name, read in _INNER:
                if is_a(value, kind):
                    self._add(read(value), _Place(place, f".{name}"))
        if type(value) is CACHED:
            # Results are held too, and they may be many; only what is called matters here.
            for held in get_referents(value):
                if type(held) is FunctionType or is_a(held, *WRAPPERS, CACHED):
                    self._add(held, _Place(place, ".__wrapped__"))
        elif type(value) is not BuiltinFunctionType or not is_a(value.__self__, ModuleType):
            self._referents(value, place)

    def _referents(self, value: object, place: _Place) -> None:
        kind = type(value)
        if class_dict(kind).get("__module__") == "logging":
            return  # every logger leads to all loggers of the process
        inside = _Place(place, f"<{qualname(kind)}>")
        for held in get_referents(value):
            # The instance's own dict, where it has one, is the instance.
            self._add(held, inside, far=type(held) is not dict)


def _is_builtins(key: object) -> bool:
    return type(key) is str and key == "__builtins__"


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _label(key: object) -> str:
    return repr(key) if type(key) in (str, int, bool) else f"<{qualname(type(key))}>"


def _attribute(key: object) -> str:
    return f".{key}" if type(key) is str else f"[{_label(key)}]"
