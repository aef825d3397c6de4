"""A name goes only when no call in flight can still read it.

New code needs no name that goes, so all of it flips first. A call which began before runs old code
to its end, and would fail on a name that went with the flip: such names leave by a second flip,
when no frame of code that reads them is left.
"""

from __future__ import annotations

import builtins
import time
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.errors import ProcessError
from zdpatch.patcher.inflight import in_flight
from zdpatch.patcher.slots import MISSING, Step, differing
from zdpatch.patcher.swap import Undo, commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_POLL_S: Final = 0.002


@dataclass(frozen=True, eq=False)
class Departure:
    """Names that wait to go, and the code whose frames may read them."""

    steps: tuple[Step, ...]
    readers: tuple[CodeType, ...]

    @property
    def what(self) -> str:
        return ", ".join(step.what for step in self.steps)

    def due(self) -> bool:
        """Whether no frame that may read one of the names is left."""
        suspended = any(codes.kind(code) != "function" for code in self.readers)
        return not in_flight(self.readers, heap=suspended)

    def settle(self, seconds: float, undos: list[Undo] | None = None) -> bool:
        """Take the names away as soon as they are due; False when they are not within `seconds`.

        What was done is added to `undos`.
        """
        deadline = time.monotonic() + seconds
        while not self.due():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return self.force(undos)

    def force(self, undos: list[Undo] | None = None) -> bool:
        """Take the names away now; those that somebody has bound again stay.

        False, with nothing done, when something makes a flip impossible for the moment.
        """
        steps = [step for step in self.steps if not differing([step])]
        try:
            undo = commit(steps)
        except ProcessError:
            return False
        if undos is not None:
            undos.append(undo)
        return True


def parted(steps: Iterable[Step]) -> tuple[list[Step], Departure | None]:
    """The steps of the first flip, and the names that go after it, if there are any."""
    first = list(steps)
    readers = {id(code): code for step in first for code in _leaving(step)}
    late = [
        step
        for step in first
        if step.value is MISSING
        and not _shows_another(step)
        and any(step.name in code.co_names for code in readers.values())
    ]
    if not late:
        return first, None
    names = {step.name for step in late}
    named = tuple(code for code in readers.values() if names & {*code.co_names})
    kept = {id(step) for step in late}
    return [step for step in first if id(step) not in kept], Departure(tuple(late), named)


def _leaving(step: Step) -> Iterator[CodeType]:
    """Code that a step takes away: of a function that gets another, or of what a name loses."""
    if step.kind == "function" and step.name == "__code__":
        yield from _all_of(cast("CodeType", step.expected))
    elif step.value is MISSING:
        held = step.expected
        if reach.is_a(held, type):
            values = [value for _, value in reach.items(reach.class_dict(cast("type", held)))]
        else:
            values = [held]
        for value in values:
            for function in reach.inner_functions(value):
                if type(function) is FunctionType:
                    yield from _all_of(function.__code__)


def _all_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_of(constant)


def _shows_another(step: Step) -> bool:
    """Whether something else answers to the name when it is gone: then it must go with the flip."""
    name = step.name
    if step.kind == "class":
        mro = type.mro(cast("type", step.target))
        hooks = ("__getattr__", "__getattribute__")
        inherited = any(name in reach.class_dict(base) for base in mro[1:])
        hooked = any(hook in reach.class_dict(base) for base in mro[:-1] for hook in hooks)
        return inherited or hooked or (str(name).startswith("__") and str(name).endswith("__"))
    if step.kind != "item":
        return True
    space = cast("dict[str, object]", step.target)
    hooked = "__getattr__" in space or "__builtins__" not in space  # or it is no namespace
    return hooked or name in vars(builtins) or reach.is_a(step.expected, ModuleType)
