"""A dispatcher binds arguments as its function does, whatever the signature: the same answer, or
the same error.
"""

from __future__ import annotations

import contextvars
import inspect
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from zdpatch.patcher import swap
from zdpatch.patcher.versions import NEW, Change, Group

if TYPE_CHECKING:
    from types import FunctionType

NAMES = ("a", "b", "c", "self", "cls", "__d", "args", "V", "PIN", "f")


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """A list of parameters of every kind, some with defaults."""
    names = list(draw(st.permutations(NAMES)))
    counts = [draw(st.integers(0, 2)) for _ in range(3)]
    positional, plain, named = ([names.pop() for _ in range(count)] for count in counts)
    required = draw(st.integers(0, len(positional) + len(plain)))
    both = [
        name if at < required else f"{name}={at}" for at, name in enumerate([*positional, *plain])
    ]
    parts = both[: len(positional)] + ["/"] * bool(positional) + both[len(positional) :]
    rest = draw(st.booleans())
    parts += [f"*{names.pop()}"] if rest else ["*"] * bool(named)
    parts += [name if draw(st.booleans()) else f"{name}='n'" for name in named]
    parts += [f"**{names.pop()}"] if draw(st.booleans()) else []
    return ", ".join(parts)


def function(parameters: str, version: str) -> FunctionType:
    """A function that gives back its version and all its arguments."""
    space: dict[str, Any] = {}
    exec(f"def made({parameters}): return {version!r}, sorted(locals().items())", space)
    made: FunctionType = space["made"]
    return made


def outcome(made: FunctionType, given_: tuple[int, ...], words: dict[str, int]) -> object:
    """What a call gives, or the text of its error."""
    try:
        return made(*given_, **words)
    except TypeError as error:
        return str(error)


calls = st.tuples(
    st.lists(st.integers(), max_size=5).map(tuple),
    st.dictionaries(st.sampled_from([*NAMES, "other"]), st.integers(), max_size=4),
)


@given(signatures(), st.none() | signatures(), st.lists(calls, max_size=6))
def test_arguments_are_bound_as_without_a_dispatcher(
    old: str, other: str | None, asked: list[tuple[tuple[int, ...], dict[str, int]]]
) -> None:
    """Both versions, with equal and with different parameters and defaults."""
    # dispatchers leave a mark in the context of a thread, which no other test shall have
    contextvars.copy_context().run(_bound, old, other, asked)


def _bound(
    old: str, other: str | None, asked: list[tuple[tuple[int, ...], dict[str, int]]]
) -> None:
    new = old if other is None else other
    made, direct, fresh = function(old, "old"), function(old, "old"), function(new, "new")
    if other is None:
        fresh.__defaults__, fresh.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
    slots = {"__defaults__": fresh.__defaults__, "__kwdefaults__": fresh.__kwdefaults__}
    shown = inspect.signature(made)
    group = Group([Change.of(made, "m:made", fresh.__code__, slots)])
    swap.commit(group.steps_in())
    assert inspect.signature(made) == shown
    assert [outcome(made, *call) for call in asked] == [outcome(direct, *call) for call in asked]
    group.start()
    assert [outcome(made, *call) for call in asked] == [outcome(fresh, *call) for call in asked]
    swap.commit(group.steps_out(NEW))
    group.close()
