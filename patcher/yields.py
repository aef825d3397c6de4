"""What a generator gives and is given at its `yield`s: its protocol with whoever drives it.

A suspended generator ends on old code. Driven by new code it is right as long as the protocol is
the same: how sent values are used, and of what shape are the values that it gives. How often it
yields matters only where it is sent something.
"""

from __future__ import annotations

import dis
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, scan

if TYPE_CHECKING:
    from types import CodeType

_UNUSED: Final = "unused"
_AFTER_YIELD: Final = 1  # the argument of RESUME (CPython's Doc/library/dis.rst)
_WHERE: Final = 3  # the bits of it that say after what
_WRAPS: Final = frozenset({"ASYNC_GEN_WRAP", "CALL_INTRINSIC_1"})
_DISPLAYS: Final = frozenset({"BUILD_TUPLE", "BUILD_LIST", "BUILD_SET", "BUILD_MAP"})
Protocol = tuple[tuple[object, ...], frozenset[object]]


def protocol(code: CodeType) -> Protocol:
    """How sent values are used, in order (nothing when none is), and the shapes it gives."""
    steps = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
    sent: list[object] = []
    given: set[object] = set()
    for at, step in enumerate(steps):
        if step.opname != "YIELD_VALUE" or at + 2 >= len(steps):
            continue
        if (steps[at + 1].arg or 0) & _WHERE != _AFTER_YIELD:
            given.add("from")  # `yield from`, or waiting
            continue
        before = at - 2 if steps[at - 1].opname in _WRAPS else at - 1
        given.add(_shape(steps[before]))
        sent.append(_use(steps[at + 2]))
    return (tuple(sent) if any(each != _UNUSED for each in sent) else ()), frozenset(given)


def _use(step: dis.Instruction) -> object:
    if step.opname == "POP_TOP":
        return _UNUSED
    if step.opname.startswith("UNPACK_"):
        return step.opname, step.arg
    return "stored" if step.opname.startswith("STORE_") else "used"


def _shape(step: dis.Instruction) -> object:
    value = step.argval
    if step.opname in _DISPLAYS:
        return step.opname, step.arg if step.opname == "BUILD_TUPLE" else 0
    if step.opname.endswith("_CONST"):
        return ("BUILD_TUPLE", len(value)) if isinstance(value, tuple) else type(value).__name__  # pyright: ignore[reportUnknownArgumentType]
    return "?"


def suspended(old: CodeType, namespace: dict[str, object]) -> int:
    """How many generators that run `old`, in a module's namespace, are begun or waiting to be."""
    wanted, name = codes.digest(old), old.co_qualname
    count = 0
    for each in scan.objects():
        if type(each) is GeneratorType:
            code, frame = each.gi_code, each.gi_frame
        elif type(each) is AsyncGeneratorType:
            code, frame = each.ag_code, each.ag_frame
        else:
            continue
        mine = frame is not None and code.co_qualname == name and frame.f_globals is namespace
        count += mine and codes.digest(code) == wanted
    return count
