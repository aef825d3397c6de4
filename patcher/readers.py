"""What holds a function, or a class by its initialiser, and may have read its signature, defaults,
annotations or docstring: an object of a framework (FastAPI's `Depends`, a command, a task).

Asked of garbage collection, upwards from the function through plain containers, to the first object
of a program's class. The text of that class's package says whether anything there reads such
things at all; for a package of the patch itself, the text of the module that the class is in.
A table that a module, a class or a function keeps, and which has a class in it, is asked about like
an object of that module: facts of classes are kept by class.
"""

from __future__ import annotations

import gc
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from types import CellType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, TypeVar

from zdpatch.patcher import reach
from zdpatch.patcher.defaults_of_fields import another_default
from zdpatch.patcher.edits import DOCSTRING, METADATA, SIGNATURES
from zdpatch.patcher.importers import source_of
from zdpatch.patcher.kept_by_class import keepers_by_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.inventory import Inventory

_T = TypeVar("_T")
_LEVELS: Final = 8
_AT_ONCE: Final = 400  # each object on the heap is compared with all of these
_OF_SIGNATURES: Final = re.compile(
    rb"\bsignature\(|getfullargspec|getargspec|get_type_hints|get_annotations|__annotations__"
    rb"|__defaults__|__kwdefaults__|__type_params__|co_argcount|co_varnames"
)
_OF_FIELDS: Final = re.compile(
    _OF_SIGNATURES.pattern + rb"|__dataclass_fields__|\bfields\(|\bfields as\b"
)
_OF_DOCSTRINGS: Final = re.compile(rb"__doc__|getdoc")
_CALLED_AS_CLASS: Final = frozenset({"__init__", "__new__"})
_STANDARD: Final = frozenset({*sys.stdlib_module_names, "builtins"})


@dataclass(frozen=True, eq=False)
class Readers:
    """Who may have read what the edits of one patch change."""

    inventories: Mapping[str, Inventory]
    edits: Iterable[Edit]

    def of(self, edit: Edit) -> str:
        """The object that may have read what `edit` changes, for people; "" when there is none."""
        if not _of_class(edit) and not edit.facets & SIGNATURES:
            return ""
        if _of_class(edit):
            who = self._reader(edit, _OF_FIELDS) or self._table(edit)
        else:
            who = self._reader(edit, _OF_SIGNATURES)
        return f"{who} holds it, and may have read it" if who else ""

    def told(self) -> Iterator[str]:
        """What is left of old docstrings: a help text that was made of one is no behaviour."""
        for edit in self._functions:
            if DOCSTRING in edit.facets and (who := self._reader(edit, _OF_DOCSTRINGS)):
                yield f"{edit.path}.__doc__: {who} holds it, and may show the old one"

    def _reader(self, edit: Edit, words: re.Pattern[bytes]) -> str:
        """The class of an object that holds what is told, and whose package has one of `words`."""
        for thing in self._told(edit):
            for cls in self._holders.found.get(id(thing), ()):
                if any(words.search(source) for source in self._sources(_module(cls))):
                    return f"an object of {_module(cls)}.{reach.qualname(cls)}"
        return ""

    def _table(self, edit: Edit) -> str:
        """The module that keeps a table with the class of `edit` in it, and whose package reads
        fields.
        """
        for thing in self._told(edit):
            for name in sorted(self._tables.get(id(thing), ())):
                if any(_OF_FIELDS.search(source) for source in self._sources(name)):
                    return f"a table of {name}"
        return ""

    def _told(self, edit: Edit) -> list[object]:
        """What tells the metadata of a function: itself, or the class that it initialises; that of
        a class body its class.
        """
        taken = self.inventories[edit.module]
        if _of_class(edit):
            return list(taken.classes.get(edit.scope, ()))
        found: list[object] = [f.function for f in taken.functions.get(edit.qualname, ())]
        if edit.scope and edit.new[-1].name in _CALLED_AS_CLASS:
            found += taken.classes.get(edit.scope, ())
        return found

    @cached_property
    def _tables(self) -> dict[int, set[str]]:
        told = (self._told(e) for e in self.edits if e.module in self.inventories and _of_class(e))
        return keepers_by_class(cls for group in told for cls in group if reach.is_a(cls, type))

    @property
    def _functions(self) -> Iterator[Edit]:
        here = (e for e in self.edits if e.module in self.inventories)
        return (e for e in here if e.kind in {"function", "nested"} and e.facets & METADATA)

    @cached_property
    def _holders(self) -> _Holders:
        fields = [e for e in self.edits if _of_class(e) and e.old and e.new]
        told = [*self._functions, *(e for e in fields if e.module in self.inventories)]
        told_of = {id(each): each for edit in told for each in self._told(edit)}
        return _Holders.of(self._held_elsewhere(told_of))

    def _held_elsewhere(self, things: dict[int, object]) -> list[object]:
        """Those with more references than modules, classes and the plan itself account for: the
        search compares each object of the heap with each of them.
        """
        spaces = [reach.namespace(module) for _, module in reach.modules()]
        classes = _once(c for taken in self.inventories.values() for c in _classes(taken))
        held = [*_once(spaces), *map(reach.class_dict, classes)]
        values = [value for space in held for _, value in reach.items(space)]
        live = [
            f
            for taken in self.inventories.values()
            for group in taken.functions.values()
            for f in group
        ]
        known = Counter(map(id, values))
        known.update(id(each) for value in _once(values) for each in reach.all_inner(value))
        known.update(id(each.function) for each in _once(live))
        # also `things`, and the argument of `getrefcount`
        rest = [key for key in things if sys.getrefcount(things[key]) > known[key] + 2]
        return [things[key] for key in rest]

    def _sources(self, name: str) -> Iterator[bytes]:
        """The texts of a module's package that may read: nothing known of them counts as reading
        everything.
        """
        home = name.partition(".")[0]
        own = any(home == each.partition(".")[0] for each in self.inventories)
        for each, module in reach.modules():
            if each == name or (not own and each.partition(".")[0] == home):
                source = source_of(module)
                yield b"signature( __doc__" if source is None else source


def _of_class(edit: Edit) -> bool:
    """Whether who reads what an edit changes reads its class."""
    return edit.kind == "fields" or another_default(edit)


@dataclass(eq=False)
class _Holders:
    """One search for all `things`; `found`: the classes of the objects that hold each, by id."""

    things: list[object]
    found: dict[int, list[type]] = field(default_factory=dict[int, list[type]])
    _origins: dict[int, set[int]] = field(default_factory=dict[int, set[int]])

    @classmethod
    def of(cls, things: Iterable[object]) -> _Holders:
        """Look for who holds each of `things`: functions and classes."""
        made = cls(list({id(thing): thing for thing in things}.values()))
        made._origins = {id(thing): {id(thing)} for thing in made.things}
        level: list[object] = made.things
        for _ in range(_LEVELS):
            parts = (level[at : at + _AT_ONCE] for at in range(0, len(level), _AT_ONCE))
            level = [each for part in parts for each in made._above(part)]
        return made

    def _above(self, level: list[object]) -> list[object]:
        known = {id(each) for each in level}
        mark: list[object] = []  # tells the arguments of the call
        found: list[object] = []
        for holder in gc.get_referrers(mark, *level):
            if holder is level or holder is self.things or reach.is_a(holder, FrameType):
                continue
            inside = gc.get_referents(holder)
            if any(each is mark for each in inside):
                continue
            held = [each for each in inside if id(each) in known]
            found += self._climb(holder, held)
        return found

    def _climb(self, holder: object, held: list[object]) -> Iterator[object]:
        """What is left to ask after one holder; an object of a program's class is an answer."""
        if reach.is_a(holder, ModuleType, type, CellType):
            return
        # an instance holds its class
        held = [each for each in held if each is not type(holder)]
        if type(holder) is FunctionType:
            held = [each for each in held if holder.__dict__.get("__wrapped__") is each]
        origins = set[int]().union(*(self._origins[id(each)] for each in held))
        if not origins:
            return
        home = _module(type(holder)).partition(".")[0]
        if home == "zdpatch":
            return
        if home not in _STANDARD:
            for origin in origins:
                self.found.setdefault(origin, []).append(type(holder))
        elif id(holder) not in self._origins:
            self._origins[id(holder)] = origins
            yield holder
        else:
            self._origins[id(holder)] |= origins


def _once(things: Iterable[_T]) -> Iterable[_T]:
    """Each object once: what is counted twice would hide a holder."""
    return {id(each): each for each in things}.values()


def _classes(taken: Inventory) -> Iterator[type]:
    for group in taken.classes.values():
        yield from group


def _module(cls: type) -> str:
    return str(reach.class_dict(cls).get("__module__") or "builtins")
