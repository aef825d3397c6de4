"""Which names code looks up, as its instructions say: what it may come to when it runs."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes
from zdpatch.patcher.operations import CALLED_BY

if TYPE_CHECKING:
    from collections.abc import Iterator

_TESTS: Final = frozenset({"isinstance", "issubclass"})
_UNSEEN: Final = frozenset({"CACHE", "PRECALL", "PUSH_NULL", "NOP"})
_GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"})
_CALLS: Final = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX"})
_TAKES: Final = frozenset({"BINARY_SUBSCR", "GET_ITER"})
_TAKEN_BY: Final = frozenset({"get", "values", "items", "pop"})
_BY_TEXT: Final = frozenset({"getattr", "attrgetter", "methodcaller"})
_SAID_OF_ITSELF: Final = frozenset(
    {"signature", "getfullargspec", "__defaults__", "__kwdefaults__", "__code__"}
)


@dataclass(frozen=True, slots=True)
class Loads:
    """Names that code, and the code inside it, looks up: global ones, attributes, modules, and the
    global ones that it does no more with than to test for their type. `tables`: global ones beside
    which it takes something out of a table.
    """

    names: frozenset[str]
    attributes: frozenset[str]
    modules: frozenset[str]
    tested: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


def uses_parameters(code: CodeType) -> bool:
    """Whether a function calls one of its parameters itself, or reads what a function says of
    itself.
    """
    if not _SAID_OF_ITSELF.isdisjoint(code.co_names):
        return True
    number = code.co_argcount + code.co_kwonlyargcount
    own = {*code.co_varnames[:number], *code.co_cellvars}
    each = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
    # the null goes with what is called: before it, from 3.13 on behind it
    pairs = [*pairwise(each)]
    around = [*pairs, *((second, first) for first, second in pairs)]
    return any(
        null.opname == "PUSH_NULL" and loaded.opname.startswith("LOAD_") and loaded.argval in own
        for null, loaded in around
    )


def coarse(code: CodeType) -> Loads:
    """Every name may be anything."""
    names = frozenset(name for each in codes.walk(code) for name in each.co_names)
    implied = {called for name in names for called in CALLED_BY.get(name, ())}
    texts = {text for each in codes.walk(code) for text in _texts(each)}
    return Loads(names, names | implied | texts, names, frozenset(), names)


def _texts(code: CodeType) -> Iterator[str]:
    """Names of attributes that code has as text, where it looks up some by text."""
    if not _BY_TEXT.isdisjoint(code.co_names):
        yield from (each for each in code.co_consts if type(each) is str)


def exact(code: CodeType) -> Loads:
    """What the instructions say."""
    names, tested, attributes, modules = set[str](), set[str](), set[str](), set[str]()
    testing, history = False, ("", "")  # a global that was loaded just before a variable
    takes = not _TAKEN_BY.isdisjoint(code.co_names)
    for instruction in dis.get_instructions(code):
        operation, name = instruction.opname, instruction.argval
        if operation in _UNSEEN:
            continue
        takes = takes or operation in _TAKES
        if operation in _GLOBALS:
            testing = testing or name in _TESTS
            (tested if testing else names).add(name)
        elif operation in _ATTRIBUTES:
            attributes.add(name)
        elif operation == "IMPORT_NAME":
            modules.add(name)
        elif operation in _CALLS:
            testing = False
            attributes.update(CALLED_BY.get(history[0], ()))  # `str(self)`, of a plain variable
        if operation.startswith("LOAD_FAST"):
            history = (history[1], "")
        else:
            history = ("", name if operation in _GLOBALS else "")
    own = Loads(
        frozenset(names | tested),
        frozenset(attributes.union(_texts(code))),
        frozenset(modules),
        frozenset(tested - names),
        frozenset(names if takes else ()),
    )
    inside = [exact(each) for each in code.co_consts if isinstance(each, CodeType)]
    return own if not inside else _together([own, *inside])


def _together(parts: list[Loads]) -> Loads:
    names, attributes, modules, tested, tables = (
        frozenset(name for part in parts for name in getattr(part, which))
        for which in Loads.__slots__
    )
    used = (name for part in parts for name in part.names - part.tested)
    return Loads(names, attributes, modules, tested.difference(used), tables)
