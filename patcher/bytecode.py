"""What a body surely binds is read from its instructions; a process has them even without sources.

A definition counts as plain only when nothing can come between its `def` or `class` statement and
its name: no decorator, no condition, no handler, no loop, and no other statement that stores the
name. When in doubt it is not plain.
"""

from __future__ import annotations

import dis
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_IGNORED: Final = frozenset({"EXTENDED_ARG", "NOP", "CACHE", "SET_FUNCTION_ATTRIBUTE"})
_NAME_STORES: Final = frozenset({"STORE_NAME", "DELETE_NAME"})
_STORES: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"})
_DELETES: Final = frozenset({"DELETE_GLOBAL", "DELETE_ATTR", "DELETE_NAME"})
_DELETE_ENTRY: Final = dis.opmap["DELETE_SUBSCR"]
# What gives a namespace as a table, and what takes entries out of one.
_SPACES: Final = frozenset({"globals", "vars", "locals", "__dict__"})
_TAKERS: Final = frozenset({"pop", "popitem", "clear", "__delitem__", "__delattr__"})
# What a lazy value is handed to (Include/internal/pycore_intrinsics.h, 3.12 and 3.13).
_LAZY: Final = frozenset({("CALL_INTRINSIC_1", 11), *(("CALL_INTRINSIC_2", n) for n in (2, 3, 5))})
_LAZY_OPCODES: Final = frozenset(dis.opmap[name] for name, _ in _LAZY if name in dis.opmap)
_BETWEEN: Final = _IGNORED | {"MAKE_FUNCTION", "BUILD_TUPLE"}


@dataclass(frozen=True, slots=True)
class Definition:
    """A plain `def` or `class` statement: `name` as the namespace has it (mangled), its code."""

    name: str
    code: CodeType


@dataclass(frozen=True, slots=True)
class Bound:
    """What a module or class body surely binds: names that one single statement of it can bind, the
    plain definitions among these, and the lines of those names that are there when it has run,
    whatever they are bound to by then.
    """

    once: frozenset[str]
    definitions: tuple[Definition, ...]
    lines: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Written:
    """What a source that was compiled to `code` says is there; read once for all comparisons."""

    code: CodeType
    _bodies: dict[int, Bound] = field(default_factory=dict[int, Bound], init=False, repr=False)

    @cached_property
    def flat(self) -> dict[str, list[CodeType]]:
        """Its functions, as `codes.flatten` lists them."""
        return codes.flatten(self.code)

    @cached_property
    def digests(self) -> dict[str, set[bytes]]:
        """Their digests by path."""
        return {path: set(map(codes.digest, group)) for path, group in self.flat.items()}

    @cached_property
    def class_bodies(self) -> dict[str, list[CodeType]]:
        """The bodies of its classes by path."""
        return codes.class_bodies(self.code)

    @cached_property
    def lazy(self) -> frozenset[str]:
        """See `lazy_values`."""
        return lazy_values(self.code)

    @cached_property
    def elsewhere(self) -> frozenset[str]:
        """See `stored_elsewhere`."""
        return stored_elsewhere(self.code)

    @cached_property
    def _deleted(self) -> frozenset[str]:
        return _names_of(self.code, _DELETES)

    @cached_property
    def deletes_by_text(self) -> bool:
        """Whether its code may delete names that no instruction of it tells."""
        every = list(codes.walk(self.code))
        names = {name for code in every for name in code.co_names}
        takes = any(_DELETE_ENTRY in code.co_code[::2] for code in every)
        return "delattr" in names or (
            not names.isdisjoint(_SPACES) and (takes or not names.isdisjoint(_TAKERS))
        )

    def bound(self, body: CodeType) -> Bound:
        """What the module's body, or that of one of its classes, surely binds."""
        if id(body) not in self._bodies:
            self._bodies[id(body)] = bound(body, self.elsewhere, self._deleted)
        return self._bodies[id(body)]


def lazy_values(base: CodeType) -> frozenset[str]:
    """Paths of the hidden functions that give a `type` statement, or the bound or default of a type
    parameter, its value: they live as long as that object does, replaced or not.
    """
    found: set[str] = set()
    for code in codes.walk(base):
        if _LAZY_OPCODES.isdisjoint(code.co_code[::2]):
            continue
        instructions = [i for i in dis.get_instructions(code) if i.opname not in _BETWEEN]
        for at, instruction in enumerate(instructions):
            inner = instructions[at - 1].argval if at else None
            makes = (instruction.opname, instruction.arg) in _LAZY
            if makes and isinstance(inner, CodeType):
                found.add(inner.co_qualname)
    return frozenset(found)


def stored_elsewhere(base: CodeType) -> frozenset[str]:
    """Names that statements of the module assign or delete as globals or as attributes."""
    return _names_of(base, _STORES)


def _names_of(base: CodeType, wanted: frozenset[str]) -> frozenset[str]:
    """Names that the instructions `wanted` have anywhere in `base`."""
    opcodes = frozenset(dis.opmap[name] for name in wanted)
    found: set[str] = set()
    for code in codes.walk(base):
        if not opcodes.isdisjoint(code.co_code[::2]):
            found.update(i.argval for i in dis.get_instructions(code) if i.opname in wanted)
    return frozenset(found)


def bound(body: CodeType, not_plain: frozenset[str], deleted: frozenset[str]) -> Bound:
    """What a module or class body surely binds. Names in `not_plain` are bound elsewhere too, and
    those in `deleted` may be gone.
    """
    read = flow.Flow.of(body)
    once = _once(body, read.instructions, not_plain)
    always = {read.instructions[at].offset for at in read.always()}
    instructions = [i for i in read.instructions if i.opname not in _IGNORED]
    definitions = (
        Definition(store.argval, code)
        for store, code in _made(instructions)
        if store.argval in once and store.offset in always
    )
    stays = {
        str(i.argval): (i.positions and i.positions.lineno) or 0
        for i in instructions
        if i.opname == "STORE_NAME" and i.offset in always and i.argval not in deleted
    }
    return Bound(once, tuple(definitions), stays)


def _once(
    body: CodeType, instructions: Iterable[dis.Instruction], not_plain: frozenset[str]
) -> frozenset[str]:
    if ("*",) in body.co_consts:
        return frozenset()  # from x import *: may rebind any name
    stores = Counter(i.argval for i in instructions if i.opname in _NAME_STORES)
    return frozenset(name for name, times in stores.items() if times == 1) - not_plain


def _made(instructions: list[dis.Instruction]) -> Iterator[tuple[dis.Instruction, CodeType]]:
    """Each store whose value comes straight from a def or class statement, with its code."""
    for at, instruction in enumerate(instructions):
        if instruction.opname != "MAKE_FUNCTION" or not at:
            continue
        code = instructions[at - 1].argval
        if not isinstance(code, CodeType):
            continue
        last = _end_of_class(instructions, at) if codes.is_class_body(code) else at
        follows = instructions[last + 1] if 0 < last < len(instructions) - 1 else None
        if follows is None or follows.opname != "STORE_NAME":
            continue
        if codes.is_class_body(code) or (
            codes.is_function_code(code) and code.co_name != "<lambda>"
        ):
            yield follows, code


def _end_of_class(instructions: list[dis.Instruction], made: int) -> int:
    """Index of the call that makes the class whose body was just made a function; -1 if unsure."""
    # On the stack: the builder of classes, a null, the body's function.
    depth = 3
    for at in range(made + 1, len(instructions)):
        instruction = instructions[at]
        if flow.is_jump(instruction):
            return -1
        depth += dis.stack_effect(instruction.opcode, instruction.arg)
        if depth == 1:
            return at
    return -1
