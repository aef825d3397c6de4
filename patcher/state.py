"""Hooks read what is alive and say what it shall be; they write nothing themselves.

All that a hook gives becomes steps of the flip that brings the code: no thread sees new code with
old state, or old code with new. Tables that a hook has seen are compared afterwards: what was put
into one meanwhile would be lost.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import inventory, reach, scan
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.fitness import attribute, own_attributes, resolved
from zdpatch.patcher.instances import HAVE_GC
from zdpatch.patcher.names import mangled
from zdpatch.patcher.promises import Promise
from zdpatch.patcher.shared import TABLES, Given, copied, filled
from zdpatch.patcher.slots import MISSING, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from zdpatch.patcher.promises import Need

# values that say nothing of where they come from
_PLAIN: Final = frozenset(
    {int, float, complex, bool, str, bytes, type(None), tuple, frozenset, range, type(Ellipsis)}
)


class State:
    """What a hook is handed: the live state that the bundle says it carries over."""

    def __init__(self, migrates: Collection[str]) -> None:
        self.kept: dict[str, Any] = {}
        """For the hooks: what one leaves to the next."""
        self._migrates: Final = frozenset(migrates)
        self._values: dict[str, object] = {}
        self._steps: dict[tuple[int, str], Step] = {}
        self._seen: dict[int, object] = {}
        self._tables: dict[int, Given] = {}
        self._replaced: set[int] = set()  # tables are kept alive here, others do not matter
        self._open = True

    # ------------------------------------------------------------ for hooks

    def loaded(self, path: str) -> bool:
        """Whether there is anything at a path here: its module may not be imported."""
        return self._found(path) is not MISSING

    def value(self, path: str) -> Any:  # noqa: ANN401 - any object
        """What a name is bound to now. Raises KeyError where it is not."""
        value = self._found(path)
        if value is MISSING:
            raise KeyError(path)
        self._watch(path, value)
        return value

    def give(self, path: str, value: object) -> None:
        """What a name shall be bound to."""
        self._check(path)
        self._values[path] = value

    def set(self, thing: object, name: str, value: object) -> None:
        """What an attribute of an object shall be."""
        self._check_open()
        if id(thing) not in self._seen:
            raise ValueError("only the object that a hook was called for is carried over")
        own = own_attributes(thing)
        what = f"{name} of a {reach.qualname(type(thing))}"
        if reach.member(thing, name) is not None:
            step = Step("member", thing, name, value, attribute_of(thing, name), what)
        elif own is not None:
            step = Step("item", own, name, value, own.get(name, MISSING), what)
        else:
            raise TypeError(f"{what} cannot be set: the object has no attributes of its own")
        self._steps[id(step.target), name] = step

    def delete(self, thing: object, name: str) -> None:
        """An object shall not have an attribute any more."""
        self.set(thing, name, MISSING)

    # ------------------------------------------------------------ for the engine

    def objects(self, paths: Iterable[str]) -> list[object]:
        """The live objects of these classes, and of those derived from them, which were not given
        out yet. Raises ProcessError where they cannot be found.
        """
        classes = [(path, cls) for path in paths if (cls := self._found(path)) is not MISSING]
        found = [each for each in _instances(classes) if id(each) not in self._seen]
        for each in found:
            self._seen[id(each)] = each
            for name, value in (own_attributes(each) or {}).items():
                self._watch(f"{name} of a {reach.qualname(type(each))}", value)
        return found

    def close(self) -> None:
        """What a hook gives from now on, one that did not end in time, does not count."""
        self._open = False

    def again(self) -> State:
        """A new state of the same names, with what hooks kept."""
        fresh = State(self._migrates)
        fresh.kept = self.kept
        return fresh

    def later(self) -> State:
        """A new state that gives out only objects which this one did not."""
        fresh = self.again()
        fresh._seen = dict(self._seen)
        return fresh

    @property
    def given(self) -> frozenset[str]:
        """Names that were given a value."""
        return frozenset(self._values)

    def keep_promises(self, steps: Iterable[Step]) -> list[Step]:
        """Steps with what hooks gave where there were promises, and all else that they gave.

        Raises KeyError for a promise that nobody kept.
        """
        found: dict[tuple[int, object], Step] = {}
        for step in steps:
            value = step.value
            if type(value) is Promise:
                value = self._values[value.path]
                step = Step(step.kind, step.target, step.name, value, step.expected, step.what)  # noqa: PLW2901
            found[id(step.target), step.name] = step
        for each in [*self._bindings(), *self._steps.values()]:
            found.setdefault((id(each.target), each.name), each)
        self._replaced = {id(each.expected) for each in found.values()}
        return list(found.values())

    def of_objects(self) -> list[Step]:
        """Steps about objects alone, which live and die without the patch."""
        return list(self._steps.values())

    def written(self) -> list[str]:
        """Tables that were replaced, and that somebody has written to since hooks saw them."""
        return filled(each for key, each in self._tables.items() if key in self._replaced)

    def _bindings(self) -> list[Step]:
        steps: list[Step] = []
        for path, value in self._values.items():
            module, _, name = path.partition(":")
            old = self._found(path)
            scope, _, last = name.rpartition(".")
            owner = resolved(module, scope) if scope else MISSING
            if reach.is_a(owner, type):
                key = mangled(scope, last)
                present = reach.class_dict(cast("type", owner)).get(key, MISSING)
                steps.append(Step("class", owner, key, value, present, path))
            elif (space := _space(module)) is not None:
                steps.append(Step("item", space, last, value, space.get(last, MISSING), path))
            if old is not MISSING and type(old) not in _PLAIN:
                steps += (
                    Step("item", reach.namespace(each.module), each.name, value, old, path)
                    for each in inventory.bindings(old, None)
                )
        return steps

    def _found(self, path: str) -> object:
        module, _, name = path.partition(":")
        return resolved(module, name)

    def _check(self, path: str) -> None:
        self._check_open()
        if path not in self._migrates:
            raise ValueError(f"MIGRATES of the hooks does not name {path}")

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("the time of this hook is over")

    def _watch(self, what: str, value: object) -> None:
        if type(value) in TABLES:
            self._tables.setdefault(id(value), Given(what, value, copied(value)))


def lacking(need: Need) -> int:
    """How many live objects do not have what hooks owe them."""
    module, _, name = need.path.partition(":")
    cls = resolved(module, name)
    if cls is MISSING:
        return 0
    live = _instances([(need.path, cls)])
    return sum(any(attribute(each, n) is MISSING for n in need.names) for each in live)


def attribute_of(thing: object, name: str) -> object:
    """What is in a slot of an object."""
    slot = reach.member(thing, name)
    assert slot is not None
    try:
        return cast("object", slot.__get__(thing))
    except AttributeError:
        return MISSING


def _space(module: str) -> dict[str, object] | None:
    loaded = sys.modules.get(module)
    return None if loaded is None else reach.namespace(loaded)


def _instances(classes: Iterable[tuple[str, object]]) -> list[object]:
    """One look at the heap for all classes, each with its path."""
    kinds: set[int] = set()
    for path, cls in classes:
        if not reach.is_a(cls, type):
            raise ProcessError("ZDP-218", f"{path} is no class here", next="replace the worker")
        kind = cast("type", cls)
        if reach.frozen() or not kind.__flags__ & HAVE_GC:
            cause = f"live objects of {path} cannot be found here (gc.freeze, or a C type)"
            raise ProcessError("ZDP-218", cause, next="replace the worker")
        kinds |= {id(each) for each in reach.family(kind)}
    return list(scan.of(kinds)) if kinds else []
