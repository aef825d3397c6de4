"""Functions with other globals may run a module's code too: copies, to which no name of the module
leads.

Reference counts tell of them without a scan of the heap: a function holds its code, and code that
`code.replace` made shares the line table of what it was made from.
"""

from __future__ import annotations

import builtins
import dis
import gc
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    from zdpatch.patcher.inventory import LiveFunction

_MOST_ASKED: Final = 16
_HOLDERS: Final = (dict, list, set, frozenset, deque, CellType)


@dataclass(frozen=True, slots=True)
class Copies:
    """What runs, or may run, the code of functions that change, by the id of that code.

    `same`: functions of the very code with other globals. `derived`: functions whose code was made
    from it. `held`: in how many containers the code itself is.
    """

    same: Mapping[int, list[FunctionType]] = field(default_factory=dict[int, list[FunctionType]])
    derived: Mapping[int, list[FunctionType]] = field(default_factory=dict[int, list[FunctionType]])
    held: Mapping[int, int] = field(default_factory=dict[int, int])
    scanned: bool = False


def find(live: Iterable[LiveFunction], wanted: Iterable[LiveFunction]) -> Copies:
    """The copies of `wanted` in this process. `live`: all known functions of the same modules."""
    # a slot gives the function itself, not a method
    functions: list[FunctionType] = [each.function for each in live]  # pyright: ignore[reportAssignmentType]
    suspects = _suspects(functions, {id(each.code): each.code for each in wanted})
    if not suspects:
        return Copies()
    known = {id(function) for function in functions}
    spaces = {id(function.__globals__) for function in functions}
    tables: dict[int, list[CodeType]] = {}
    for code in suspects.values():
        tables.setdefault(id(code.co_linetable), []).append(code)
    same: dict[int, list[FunctionType]] = {}
    derived: dict[int, list[FunctionType]] = {}
    for function in inventory.every_function():
        code = function.__code__
        if id(function) in known:
            continue
        if id(code) in suspects:
            same.setdefault(id(code), []).append(function)
        elif id(function.__globals__) not in spaces:  # or the base would not explain it
            for origin in tables.get(id(code.co_linetable), ()):
                if _made_from(code, origin):
                    derived.setdefault(id(origin), []).append(function)
    books = {id(suspects), *map(id, tables.values())}
    return Copies(same, derived, _held(suspects, books), scanned=True)


def _suspects(functions: list[FunctionType], wanted: Mapping[int, CodeType]) -> dict[int, CodeType]:
    """Codes that have more holders, or whose line tables have, than the known functions explain."""
    holders = Counter(id(function.__code__) for function in functions)
    every: dict[int, CodeType] = {}
    for function in functions:
        for code in codes.walk(function.__code__):
            every[id(code)] = code
    tables = Counter(id(code.co_linetable) for code in every.values())
    nested = Counter(
        id(constant)
        for code in every.values()
        for constant in code.co_consts
        if id(constant) in every
    )
    found: dict[int, CodeType] = {}
    for key in wanted:  # an iterator over items would hold the code in its tuple
        code, explained = wanted[key], holders[key] + nested[key]
        # besides: `wanted`, `every`, the variable, and the argument
        if sys.getrefcount(code) - 4 > explained or _shared(code) > tables[id(code.co_linetable)]:
            found[key] = code
    return found


def _shared(code: CodeType) -> int:
    table = code.co_linetable
    return sys.getrefcount(table) - 2  # the variable, and the argument


def _made_from(code: CodeType, origin: CodeType) -> bool:
    return (
        code.co_filename == origin.co_filename and code.co_firstlineno == origin.co_firstlineno
    ) or code.co_qualname == origin.co_qualname


def _held(wanted: Mapping[int, CodeType], books: set[int]) -> Counter[int]:
    """How many containers hold each code itself; `books` are our own. Asked of a few only: each is
    compared with everything that anything holds.
    """
    found: Counter[int] = Counter()
    if len(wanted) > _MOST_ASKED:
        return found
    for holder in gc.get_referrers(*wanted.values()):
        if type(holder) in _HOLDERS and id(holder) not in books:
            found.update({id(each) for each in gc.get_referents(holder)} & wanted.keys())
    return found


def told(copy: FunctionType) -> str:
    """A copy for people: the module of its globals, its name, the file and line of its code."""
    home = copy.__globals__.get("__name__")
    code = copy.__code__
    where = f"{home if type(home) is str else '?'}:{copy.__qualname__}"
    return f"{where} (from {code.co_filename} line {code.co_firstlineno})"


def lacking(copy: FunctionType, old: CodeType, new: CodeType, changed: set[str]) -> list[str]:
    """Global names which `new` reads and the namespace of a copy does not have as the new code
    needs them: new to the function, or with another value since.
    """
    space = copy.__globals__
    known = {*space, *vars(builtins)}
    wanted = {n for n in _global_names(new) if n in changed or n not in known}
    return sorted(wanted - (_global_names(old) - changed))


def _global_names(code: CodeType) -> set[str]:
    return {
        str(instruction.argval)
        for each in codes.walk(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}
    }
