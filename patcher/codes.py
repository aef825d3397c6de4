"""Two code objects have one digest exactly when they do the same thing, wherever their lines are.

Live code may be specialised by the interpreter, instrumented by `sys.monitoring`, loaded from a
`.pyc` or compiled a moment ago; none of it shows in a digest. File names, first lines, line tables
and the flags of `__future__` do not show either. Everything else does: instructions, constants by
type and value, names, arguments, kind, exception table, qualified name, and all nested code.
"""

from __future__ import annotations
import __future__

import dis
import struct
from bisect import bisect_left
from hashlib import blake2b
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    CO_ITERABLE_COROUTINE,
    CO_NEWLOCALS,
    CO_OPTIMIZED,
)
from types import CodeType
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast
from weakref import ref

from zdpatch.patcher import flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")
_DIGEST_SIZE: Final = 20  # bytes
_FEW: Final = 1_000  # answers about code that is gone, before they are looked for
_INLINE_SCOPES: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_GENERIC: Final = "<generic parameters of "
_KIND_FLAGS: Final = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_NO_MONITORING_EVENTS: Final = 0x2000000  # 3.13, not in `inspect`


def _ignored_flags() -> int:
    ignored = CO_ITERABLE_COROUTINE | _NO_MONITORING_EVENTS
    for name in __future__.all_feature_names:
        # nested_scopes has 0x10, which is CO_NESTED: that one is about the code itself.
        ignored |= getattr(__future__, name).compiler_flag & ~0x10
    return ignored


_IGNORED_FLAGS: Final = _ignored_flags()
# The jump back of an iteration goes to one of these.
_ITERATIONS: Final = frozenset({"FOR_ITER", "GET_ANEXT"})


def compile_source(source: bytes, filename: str) -> CodeType:
    """Compile a module's source with this process's own flags (-O, -OO) and no inherited future.

    Raises `SyntaxError` for every source that cannot be compiled, also for null bytes and for
    nesting too deep for the compiler, which CPython reports as other errors.
    """
    try:
        return compile(source, filename, "exec", dont_inherit=True, optimize=-1)
    except SyntaxError:
        raise
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"{filename}: {type(error).__name__}: {error}") from error


def is_function_code(code: CodeType) -> bool:
    """Whether functions are made of `code` that outlive the statement which makes them.

    True for def, async def and lambda (and the lazy value of a `type` statement); false for
    modules, class bodies, comprehensions, generator expressions and type parameter scopes.
    """
    return (
        code.co_flags & (CO_OPTIMIZED | CO_NEWLOCALS) == CO_OPTIMIZED | CO_NEWLOCALS
        and code.co_name not in _INLINE_SCOPES
        and not code.co_name.startswith(_GENERIC)
    )


def is_class_body(code: CodeType) -> bool:
    """Whether `code` is the body of a class statement."""
    return not code.co_flags & CO_OPTIMIZED and code.co_name != "<module>"


def walk(code: CodeType) -> Iterator[CodeType]:
    """`code` and all code nested in it, in order of appearance, outer before inner."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from walk(constant)


def functions_in(code: CodeType) -> Iterator[CodeType]:
    """The functions which `code` makes itself."""
    for each in code.co_consts:
        if isinstance(each, CodeType) and is_function_code(each):
            yield each


def _by_qualname(codes: Iterator[CodeType]) -> dict[str, list[CodeType]]:
    found: dict[str, list[CodeType]] = {}
    for code in codes:
        found.setdefault(code.co_qualname, []).append(code)
    return found


def flatten(code: CodeType) -> dict[str, list[CodeType]]:
    """Function-kind code objects inside `code` by `co_qualname`, several in order of appearance.

    Several share a qualname when they are overloads, lambdas of one scope, or alternatives of an
    `if`. Class bodies and comprehensions are passed through, not listed.
    """
    return _by_qualname(c for c in walk(code) if is_function_code(c))


def class_bodies(code: CodeType) -> dict[str, list[CodeType]]:
    """Bodies of class statements inside `code` by `co_qualname`, several in order of appearance."""
    return _by_qualname(c for c in walk(code) if is_class_body(c))


def expressions(code: CodeType, beside: CodeType | None = None) -> dict[str, list[CodeType]]:
    """Codes inside `code`, by `co_qualname`, of what can be suspended and is made by no function of
    its own: generator expressions, asynchronous comprehensions. Equal ones of `beside` are left
    out.
    """
    equal = set(map(told_apart, _expressions(beside))) if beside is not None else set[object]()
    return _by_qualname(c for c in _expressions(code) if told_apart(c) not in equal)


def _expressions(code: CodeType) -> Iterator[CodeType]:
    return (c for c in walk(code) if not is_function_code(c) and kind(c) != "function")


def told_apart(code: CodeType) -> object:
    """Its digest; itself where a type variable has been filled in, which no source has."""
    try:
        return digest(code)
    except TypeError:
        return id(code)


def kind(code: CodeType) -> str:
    """What a call of it gives: "function", "generator", "coroutine" or "async generator"."""
    flags = code.co_flags & _KIND_FLAGS
    names = {CO_GENERATOR: "generator", CO_COROUTINE: "coroutine", 0: "function"}
    return names.get(flags, "async generator")


def uses_class_cell(code: CodeType) -> bool:
    """Whether it needs a `__class__` cell (it says `super()` or `__class__`)."""
    return "__class__" in code.co_freevars


def loops(code: CodeType) -> bool:
    """Whether it can go round: a `for`, a `while`, or an inlined comprehension.

    Waiting for an awaitable or in `yield from` is not counted as a loop.
    """
    return bool(_loop_heads(code))


def endless(code: CodeType, offset: int = -1) -> bool:
    """Whether it can go round with no iterator to end it: it has a `while`.

    Nor does a stream end that an `async for` reads which a frame is in, at `offset` (`f_lasti`).
    """
    if flow.LOOP_OPCODES.isdisjoint(code.co_code[::2]):
        return False
    return any(
        head.opname not in _ITERATIONS
        or (head.opname == "GET_ANEXT" and head.offset <= offset <= jump.offset)
        for head, jump in flow.Flow.of(code).loops()
    )


def in_for(code: CodeType, offset: int) -> bool:
    """Whether a frame at `offset` (`f_lasti`) is in a `for`."""
    if flow.LOOP_OPCODES.isdisjoint(code.co_code[::2]):
        return False
    return any(
        head.opname == "FOR_ITER" and head.offset <= offset <= jump.offset
        for head, jump in flow.Flow.of(code).loops()
    )


def _loop_heads(code: CodeType) -> set[str]:
    if flow.LOOP_OPCODES.isdisjoint(code.co_code[::2]):
        return set()
    return {head.opname for head in flow.Flow.of(code).loop_heads()}


def position(code: CodeType) -> tuple[int, int, int]:
    """First line, last line, last column (0 if unknown): tells apart what shares a qualname."""
    ends = [(line or 0, column or 0) for _, line, _, column in code.co_positions()]
    last, column = max(ends)
    return code.co_firstlineno, last, column


def like_live(new: CodeType, live: CodeType) -> CodeType:
    """`new` with what `types.coroutine` did to `live`: it replaces the code of its function."""
    mark = live.co_flags & CO_ITERABLE_COROUTINE
    if not mark or not new.co_flags & CO_GENERATOR:
        return new
    return new.replace(co_flags=new.co_flags | mark)


class ByCode(Generic[_T]):
    """Answers about code objects, asked once for each that lives; an answer must not hold code.

    By identity: code is never changed, but compares and hashes by value, slowly.
    """

    def __init__(self, ask: Callable[[CodeType], _T]) -> None:
        self._ask = ask
        self._known: dict[int, tuple[ref[CodeType], _T]] = {}
        self._most = _FEW

    def of(self, code: CodeType) -> _T:
        """The answer for `code`."""
        known = self._known.get(id(code))
        if known is not None and known[0]() is code:
            return known[1]
        answer = self._ask(code)
        if len(self._known) >= self._most:
            alive = {key: each for key, each in [*self._known.items()] if each[0]() is not None}
            self._known, self._most = alive, 2 * len(alive) + _FEW
        self._known[id(code)] = ref(code), answer
        return answer


def digest(code: CodeType) -> bytes:
    """What `code` does, as 20 bytes; see the module's first sentence for what counts."""
    return _digests.of(code)


def _digest(code: CodeType) -> bytes:
    hashed = blake2b(digest_size=_DIGEST_SIZE)
    _feed(hashed, code)
    return hashed.digest()


_digests: Final = ByCode(_digest)


def body_digest(code: CodeType) -> bytes:
    """As `digest`, of a class body without the list of what its methods set on `self`."""
    hashed = blake2b(digest_size=_DIGEST_SIZE)
    _feed(hashed, code, static=False)
    return hashed.digest()


def same(a: CodeType, b: CodeType) -> bool:
    """Whether `a` and `b`, and all code nested in them, do the same, wherever their lines are."""
    return a is b or digest(a) == digest(b)


def _feed(hashed: blake2b, code: CodeType, *, static: bool = True) -> None:
    def put(tag: bytes, data: bytes) -> None:
        hashed.update(tag + len(data).to_bytes(8, "big"))
        hashed.update(data)

    def put_names(tag: bytes, names: tuple[str, ...]) -> None:
        put(tag, b"".join(map(_constant, names)))

    put(b"q", code.co_qualname.encode("utf-8", "surrogatepass"))
    put(b"N", code.co_name.encode("utf-8", "surrogatepass"))
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    put(b"a", struct.pack(">4I", *counts, code.co_flags & ~_IGNORED_FLAGS))
    put_names(b"v", code.co_varnames)
    put_names(b"f", code.co_freevars)
    put_names(b"c", code.co_cellvars)
    if is_class_body(code) and "__firstlineno__" in code.co_names:
        put(b"r", _resolved(code, static=static))
        return
    put_names(b"n", code.co_names)
    put(b"o", code.co_code)
    put(b"x", code.co_exceptiontable)
    put(b"k", b"".join(map(_constant, code.co_consts)))


def _constant(value: object) -> bytes:  # noqa: PLR0911 (one clause per type of constant)
    """An injective encoding: type, length, content."""
    kind_of = type(value)
    if kind_of is str:
        return _framed(b"s", str(value).encode("utf-8", "surrogatepass"))
    if isinstance(value, CodeType):
        return _framed(b"C", digest(value))
    if isinstance(value, tuple):
        return _framed(b"t", b"".join(map(_constant, cast("tuple[object, ...]", value))))
    if isinstance(value, frozenset):
        return _framed(b"z", b"".join(sorted(map(_constant, cast("frozenset[object]", value)))))
    if isinstance(value, bytes):
        return _framed(b"b", value)
    if isinstance(value, int):  # hex: a decimal of more than 4300 digits is refused
        return _framed(b"B" if kind_of is bool else b"i", hex(value).encode())
    if isinstance(value, float):  # the bits: -0.0 is not 0.0, nan is nan
        return _framed(b"d", struct.pack(">d", value))
    if isinstance(value, complex):
        return _framed(b"j", struct.pack(">2d", value.real, value.imag))
    if value is None or value is Ellipsis:
        return _framed(b"u", repr(value).encode())
    raise TypeError(f"{kind_of.__name__} is not a constant of code")


def _framed(tag: bytes, data: bytes) -> bytes:
    return tag + len(data).to_bytes(8, "big") + data


def _resolved(code: CodeType, *, static: bool) -> bytes:
    """A class body of 3.13 with its constants written out, its line number and hash order removed.

    From 3.13 a class body stores its own line in `__firstlineno__` and the attributes set on
    `self` in `__static_attributes__`, in an order that (in 3.13.0) changes from run to run. Both
    are constants that may coincide with others of the body, so indices into `co_consts` move too.
    """
    instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
    offsets = [i.offset for i in instructions]
    parts: list[bytes] = []
    for at, instruction in enumerate(instructions):
        after = instructions[at + 1] if at + 1 < len(instructions) else None
        stored = after.argval if after is not None and after.opname == "STORE_NAME" else None
        parts.append(_framed(b"I", instruction.opname.encode()))
        if instruction.opcode in dis.hasconst:
            known = static or stored != "__static_attributes__"
            parts.append(_class_constant(instruction.argval, stored) if known else b"")
        elif flow.is_jump(instruction):
            parts.append(_constant(bisect_left(offsets, instruction.argval)))
        elif instruction.opcode in dis.hasname or instruction.opcode in dis.hasfree:
            parts.append(_constant(instruction.argval))
            parts.append(_constant(_bits_beside_the_name(instruction)))
        else:
            parts.append(_constant(instruction.arg))
    for start, end, target, depth in flow.exception_entries(code):
        places = (bisect_left(offsets, offset) for offset in (start, end, target))
        parts.append(_constant((*places, depth)))
    return b"".join(parts)


def _class_constant(value: object, stored: object) -> bytes:
    if stored == "__firstlineno__":
        return b""
    if stored == "__static_attributes__" and isinstance(value, tuple):
        return _constant(frozenset(cast("tuple[object, ...]", value)))
    return _constant(value)


def _bits_beside_the_name(instruction: dis.Instruction) -> int:
    """Some instructions keep flags in the low bits, below the index of the name."""
    argument = instruction.arg or 0
    return {"LOAD_GLOBAL": 1, "LOAD_ATTR": 1, "LOAD_SUPER_ATTR": 3}.get(
        instruction.opname, 0
    ) & argument
