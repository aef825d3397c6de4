"""What the engine takes for granted about this interpreter is tried first, on objects of its own.

Each probe is one fact of CPython that a flip, an undo or a comparison rests on. It takes a few
milliseconds and touches nothing of the application. A failed probe means that the engine must not
be used here.
"""

from __future__ import annotations

import functools
import marshal
import operator
import sys
from collections import deque
from itertools import chain
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

from zdpatch.patcher import codes, inventory, swap
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.swap import MISSING, Step

if TYPE_CHECKING:
    from collections.abc import Callable

_SUPPORTED: Final = ((3, 11), (3, 12), (3, 13))

_OLD: Final = b"""
LIMIT = 1
def plain(a, b=1):
    return a, b, LIMIT
def outer(x):
    def inner():
        return x
    return inner
class Base:
    def name(self):
        return "base"
class Derived(Base):
    def name(self):
        return "old " + super().name()
"""
_NEW: Final = _OLD.replace(b"a, b, LIMIT", b"'new', a, b").replace(b"old ", b"new ")


def run() -> list[str]:
    """What does not hold here, one sentence each; empty when all is as it must be."""
    failed: list[str] = []
    for probe in _PROBES:
        try:
            problem = probe()
        except Exception as error:  # noqa: BLE001 (whatever it is, the assumption does not hold)
            problem = f"{type(error).__name__}: {error}"
        if problem:
            failed.append(f"{(probe.__doc__ or probe.__name__).strip()} {problem}")
    return failed


def _interpreter() -> str:
    """The interpreter is a CPython that was tested, with its global lock."""
    name, version = sys.implementation.name, sys.version_info
    if name != "cpython" or version[:2] not in _SUPPORTED:
        return f"This is {name} {version.major}.{version.minor}."
    locked = getattr(sys, "_is_gil_enabled", lambda: True)
    return "" if locked() else "there is no global lock"


def _loop() -> str:
    """Every call in the commit's loop is C."""
    slots: list[Any] = [
        functools.partial.__dict__["__call__"],
        *(type.__dict__[name] for name in ("__setattr__", "__delattr__")),
        *(dict.__dict__[name] for name in ("__setitem__", "__delitem__")),
    ]
    if any(type(slot) is not WrapperDescriptorType for slot in slots):
        return "a slot was replaced by Python code"
    functions: list[Any] = [setattr, delattr, getattr, sys.audit, operator.is_]
    if any(type(function) is not BuiltinFunctionType for function in functions):
        return "a function was replaced by Python code"
    iterators: list[Any] = [map, chain, deque]
    return "" if all(type(cls.__new__) is BuiltinFunctionType for cls in iterators) else "iterators"


def _two() -> tuple[ModuleType, ModuleType]:
    old, new = ModuleType("zdpatch_selftest"), ModuleType("zdpatch_selftest")
    for module, source in ((old, _OLD), (new, _NEW)):
        exec(codes.compile_source(source, "<zdpatch selftest>"), vars(module))  # noqa: S102
    return old, new


def _flip() -> str:
    """A commit changes what is called by every reference; its undo restores the very objects."""
    if swap.audited():
        return ""  # then the engine refuses by itself, and says why
    old, new = _two()
    space, plain, derived = vars(old), old.plain, old.Derived
    stored, bound, inner = functools.partial(plain, 0), derived().name, old.outer(5)
    before = plain.__code__
    inner_code = codes.flatten(codes.compile_source(_NEW, "x"))["outer.<locals>.inner"][0]
    undo = swap.commit(
        [
            Step("function", plain, "__code__", new.plain.__code__, before, "plain"),
            Step("function", plain, "__defaults__", (2,), plain.__defaults__, "defaults"),
            Step("function", inner, "__code__", inner_code, inner.__code__, "inner"),
            Step("class", derived, "name", new.Derived.name, derived.__dict__["name"], "name"),
            Step("item", space, "LIMIT", 2, space["LIMIT"], "LIMIT"),
            Step("item", space, "ADDED", 1, MISSING, "ADDED"),
        ]
    )
    if (stored(), inner(), old.LIMIT, old.ADDED) != (("new", 0, 2), 5, 2, 1):
        return "the new code is not what runs"
    if bound() != "old base" or undo.conflicts():
        return "what was to stay has changed"
    undo.revert()
    if plain.__code__ is not before or "ADDED" in space or stored() != (0, 1, 1):
        return "undo did not restore"
    return ""


def _super() -> str:
    """New code of a method works with the class cell its function has."""
    if swap.audited():
        return ""
    old, new = _two()
    function, instance = old.Derived.__dict__["name"], old.Derived()
    code = new.Derived.__dict__["name"].__code__
    undo = swap.commit([Step("function", function, "__code__", code, function.__code__, "name")])
    said = instance.name()
    undo.revert()
    made = FunctionType(code, vars(old), "name", None, (CellType(old.Derived),))
    return "" if said == "new base" == made(instance) else "it does not find its class"


def _all_or_nothing() -> str:
    """A step that cannot be written, or whose slot changed, leaves all slots as they were."""
    table: dict[str, object] = {"a": 1, "b": 2}
    undo = swap.prepare([Step("item", table, "a", 7, 1, "a"), Step("item", table, "b", 8, 2, "b")])
    table["b"] = 3
    try:
        undo.commit()
    except ProcessError:
        pass
    else:
        return "a changed slot was overwritten"
    closure, plain = _two()[0].outer(1), _two()[0].plain
    try:
        closure.__code__ = plain.__code__
    except ValueError:
        pass
    else:
        return "code with too few free variables is accepted"
    return "" if table == {"a": 1, "b": 3} else "a slot was written"


def _comparison() -> str:
    """Code has one digest whether it was compiled, stored, run warm or moved to other lines."""
    module, _ = _two()
    for _ in range(64):  # until the interpreter has specialised it
        module.plain(1)
        module.Derived().name()
    compiled = codes.compile_source(_OLD, "x")
    moved = codes.compile_source(b"# moved\n\n" + _OLD, "y")
    stored = marshal.loads(marshal.dumps(compiled))  # noqa: S302 (made a line above)
    if not codes.same(compiled, stored) or not codes.same(compiled, moved):
        return "equal code differs"
    if codes.same(compiled, codes.compile_source(_NEW, "x")):
        return "different code is equal"
    if module.plain.__code__.co_qualname != "plain":
        return "code does not know its qualified name"
    return "" if codes.same(module.plain.__code__, codes.flatten(moved)["plain"][0]) else "warm"


def _finding() -> str:
    """The functions and classes of a module are found in it, and drift is seen."""
    module, other = _two()
    base = codes.compile_source(_OLD, "x")
    taken = inventory.take(module, heap=False)
    if inventory.drift(taken, base) or set(taken.classes) != {"Base", "Derived"}:
        return "a fresh module is not recognised"
    if not all(
        inventory.match(taken, base)[path, 0] for path in ("plain", "outer", "Derived.name")
    ):
        return "a function was not found"
    module.plain.__code__ = other.plain.__code__
    return "" if inventory.drift(taken, base) else "replaced code was not seen"


_PROBES: Final[tuple[Callable[[], str], ...]] = (
    _interpreter,
    _loop,
    _flip,
    _super,
    _all_or_nothing,
    _comparison,
    _finding,
)
