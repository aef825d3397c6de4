"""A cache round a function holds answers of the old code: it is emptied with the flip.

That is so for a function which changes, and for one which comes to what changes by what it names,
directly or through others, in whatever module; the others keep their answers, which may be the only
object of its kind. What
`abc` and `singledispatch` remember of classes is forgotten when a class gains or loses a method.
"""

from __future__ import annotations

import functools
import gc
from abc import ABCMeta
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from zdpatch.patcher import inventory, reach, scan
from zdpatch.patcher.loads import uses_parameters
from zdpatch.patcher.reaching import Reaching, behind, bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.spread import Name

_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_HOOKS: Final = frozenset({"__subclasshook__", "__instancecheck__", "__subclasscheck__"})
# In C, and for one class: what it has remembered, and not what was registered with it.
_reset: Final = cast("Callable[[type], None]", vars(import_module("_abc"))["_reset_caches"])


@dataclass(frozen=True, eq=False)
class Answers:
    """What caches remember of functions that come to something which changes. It looks again each
    time: there may be other caches by then.
    """

    changed: Mapping[Name, str]
    modules: Mapping[str, ModuleType]
    classes: Mapping[Name, type]
    fields: tuple[type, ...] = ()  # classes of which the fields change

    @classmethod
    def of(
        cls,
        changed: Mapping[Name, str],
        inventories: Mapping[str, Inventory],
        classes: Mapping[Name, type],
        fields: Iterable[type] = (),
    ) -> Answers:
        """A plan keeps it: so it holds no more than it needs, and no namespace: references to these
        are counted.
        """
        owners = {(module, path.rpartition(".")[0]) for module, path in changed}
        modules = {name: inventories[name].module for name, _ in changed if name in inventories}
        known = {name: classes[name] for name in owners & classes.keys()}
        return cls(changed, modules, known, tuple(reach.family(*fields)))

    def forget(self) -> None:
        """Empty these caches."""
        for wrapper, _ in self._stale():
            cast("Any", wrapper).cache_clear()

    def told(self, wrappers: Iterable[object]) -> list[str]:
        """The functions of those among `wrappers`, as "module:path"."""
        return sorted({path for _, path in self._among(wrappers)})

    def held(self) -> Iterator[object]:
        """These caches, and the plain containers that they keep answers in."""
        pending: list[object] = [wrapper for wrapper, _ in self._stale()]
        seen: set[int] = set()
        while pending:
            each = pending.pop()
            if id(each) in seen:
                continue
            seen.add(id(each))
            yield each
            pending += [r for r in gc.get_referents(each) if type(r) in _CONTAINERS]

    def _asked_of_fields(self, wrapper: object) -> bool:
        """Whether a cache was asked about a class, of which a field changes: it may have answered
        by what the class says of its fields.
        """
        ids = set(map(id, self.fields))
        return bool(ids) and any(id(each) in ids for each in _asked(wrapper))

    def _stale(self) -> Iterator[tuple[object, str]]:
        yield from self._among(wrappers()) if self.changed else ()

    def _among(self, wrappers: Iterable[object]) -> Iterator[tuple[object, str]]:
        spaces = {name: reach.namespace(module) for name, module in self.modules.items()}
        reaching = Reaching(self.changed, spaces, self.classes, by_name=True)
        for wrapper in wrappers:
            inner = vars(wrapper).get("__wrapped__")
            for function in behind(wrapper):
                receiver = bound(inner) or _owner(function)
                stale = reaching.cause(function, receiver) or self._asked_of_fields(wrapper)
                if stale or _asked_of_functions(wrapper, function, reaching):
                    module = function.__globals__.get("__name__")
                    yield wrapper, f"{module}:{function.__code__.co_qualname}"


def _asked_of_functions(wrapper: object, function: FunctionType, reaching: Reaching) -> bool:
    """Whether a cache was asked about a function, which its own function calls, that comes to
    something which changes.
    """
    if not uses_parameters(function.__code__):
        return False
    own, asked = vars(wrapper), list[object]()
    for table in gc.get_referents(wrapper):
        if type(table) is dict and table is not own:
            asked += [key for key, _ in reach.items(cast("dict[object, object]", table))]
    for arguments in asked:
        for each in gc.get_referents(arguments) if reach.is_a(arguments, tuple, list) else ():
            if any(reaching.cause(one, bound(each)) for one in behind(each)):
                return True
    return False


def _asked(cache: object, depth: int = 3) -> Iterator[object]:
    """What a cache has, in its table of answers by arguments, which are tuples."""
    for each in gc.get_referents(cache):
        yield each
        if type(each) in _CONTAINERS and depth > 1:
            yield from _asked(each, depth - 1)


def wrappers() -> list[object]:
    """Every cache in the process."""
    return list(scan.of({id(reach.CACHED)}))


def _owner(function: FunctionType) -> tuple[type, ...]:
    """The class that a method is written in, where the module leads to it."""
    *path, _ = function.__code__.co_qualname.split(".")
    value: object = None
    for number, name in enumerate(path):
        if number and not reach.is_a(value, type):
            return ()
        space = reach.class_dict(cast("type", value)) if number else function.__globals__
        value = space.get(name)
    return (cast("type", value),) if reach.is_a(value, type) else ()


def changes_kinds(edits: Iterable[Edit]) -> bool:
    """Whether the edits may make a class a virtual subclass of another, or no longer one."""
    return any(
        bool(edit.scope)
        and (edit.kind in {"added", "removed"} or edit.qualname.rpartition(".")[2] in _HOOKS)
        for edit in edits
        if edit.kind in {"added", "removed", "function"}
    )


def forget_kinds() -> None:
    """Empty what the abstract base classes of the process, protocols among them, remember about
    which classes derive from them, and what single dispatch made of it.
    """
    for _, module in reach.modules():
        for _, value in reach.items(reach.namespace(module)):
            if type(value) is FunctionType:
                _forget_dispatch(value)
    for cls in inventory.every_class():
        if issubclass(type(cls), ABCMeta):
            _reset(cls)
        for _, value in reach.items(reach.class_dict(cls)):
            if type(value) is functools.singledispatchmethod:
                _forget_dispatch(vars(value).get("dispatcher"))


def _forget_dispatch(function: object) -> None:
    """`functools.singledispatch` keeps a WeakKeyDictionary; its dict is emptied in C."""
    if type(function) is not FunctionType:
        return
    clear = vars(function).get("_clear_cache")
    remembered = getattr(clear, "__self__", None)
    if type(remembered) is WeakKeyDictionary:
        cast("dict[object, object]", vars(remembered)["data"]).clear()
