"""Random functions: lines do not matter, and every constant does."""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from zdpatch.patcher import codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType

Noise: TypeAlias = "Callable[[], Iterable[str]]"
NAMES = st.sampled_from(["a", "b", "c", "self.x", "d"])
CONSTANTS = st.one_of(
    st.integers(-300, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.booleans(),
    st.none(),
    st.tuples(st.integers(0, 3), st.text(max_size=2)),
)


@dataclass(frozen=True)
class Block:
    """A statement: its first line (with "%s" for a constant perhaps) and what is inside."""

    head: str
    inside: tuple[Block, ...] = ()
    tail: str = ""


LEAVES = st.one_of(
    st.tuples(NAMES, NAMES).map(lambda n: Block(f"{n[0]} = {n[1]} + 1")),
    st.tuples(NAMES, CONSTANTS).map(lambda n: Block(f"{n[0]} = {n[1]!r}")),
    NAMES.map(lambda n: Block(f"print([v for v in {n} if v], {{{n} for w in q}})")),
    NAMES.map(lambda n: Block(f"d = lambda z, y={n}: (z, y, {n})")),
    NAMES.map(lambda n: Block(f"assert {n} in {{'p', 'q', 'r'}}, f'{{{n}!r}}'")),
    st.just(Block("return a")),
    st.just(Block("pass")),
)
HEADS = st.sampled_from(
    [
        "def f(a, b=2, *c, d, **e):",
        "def g():",
        "class C(b):",
        "class D:",
        "for a in b:",
        "while a:",
        "if a:",
        "with a as b, c:",
        "async def h(self):",
        "try:",
    ]
)


def _compound(inside: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    def made(parts: tuple[str, list[Block]]) -> Block:
        head, blocks = parts
        tail = (
            "except (KeyError, E) as a:\n    b = a\nfinally:\n    c = 1" if head == "try:" else ""
        )
        return Block(head, tuple(blocks), tail)

    return st.tuples(HEADS, st.lists(inside, min_size=1, max_size=4)).map(made)


BLOCKS = st.lists(st.recursive(LEAVES, _compound, max_leaves=14), min_size=1, max_size=5)


def rendered(blocks: tuple[Block, ...], indent: str, noise: Noise) -> list[str]:
    """Source lines; `noise` gives what to put before each statement (comments, empty lines)."""
    lines: list[str] = []
    for block in blocks:
        lines += [indent + extra if extra else "" for extra in noise()]
        lines.append(indent + block.head)
        lines += rendered(block.inside, indent + "    ", noise)
        lines += [indent + line for line in block.tail.split("\n") if line]
    return lines


def source(blocks: list[Block], constant: object, noise: Noise = tuple) -> bytes:
    """A module with a function around the blocks, which also returns `constant`."""
    body = (*blocks, Block(f"return {constant!r}"))
    function = Block("def around(a, b, c, d, self, q, E):", body)
    return "\n".join(rendered((function,), "", noise)).encode()


def compiled(text: bytes) -> CodeType | None:
    """The module's code, or None where the random statements make no Python (a stray return)."""
    try:
        return codes.compile_source(text, "random.py")
    except SyntaxError:
        return None


@given(BLOCKS, CONSTANTS, st.data())
def test_lines_do_not_matter(blocks: list[Block], constant: object, data: st.DataObject) -> None:
    """Comments and empty lines anywhere, and a trip through marshal, leave the digest alone."""
    plain = compiled(source(blocks, constant))
    if plain is None:
        return
    lines = st.lists(st.sampled_from(["", "# moved", "    # deeper"]), max_size=3)
    moved = compiled(source(blocks, constant, lambda: data.draw(lines)))
    assert moved is not None
    assert codes.same(plain, moved)
    assert codes.same(plain, marshal.loads(marshal.dumps(plain)))
    for path, group in codes.flatten(plain).items():
        assert [codes.digest(c) for c in group] == [
            codes.digest(c) for c in codes.flatten(moved)[path]
        ]


@given(BLOCKS, CONSTANTS, CONSTANTS)
def test_every_constant_matters(blocks: list[Block], one: object, other: object) -> None:
    """Another constant, by type or by value, is another digest of its function, and no other's."""
    before, after = compiled(source([], one)), compiled(source([], other))
    assert before is not None
    assert after is not None
    assert codes.same(before, after) == (repr(one) == repr(other))
    bare, full = compiled(source(blocks, one)), compiled(source([Block("z = 12345"), *blocks], one))
    assert bare is None or full is None or not codes.same(bare, full)
