"""What dispatchers take for granted about this interpreter is tried first, once, on functions of
their own; where it does not hold, patches go in at one instant only.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from zdpatch.patcher import codes, scopes
from zdpatch.patcher.trampoline import versions_of
from zdpatch.patcher.versions import Change, Group

if TYPE_CHECKING:
    from types import CodeType

_SOURCE: Final = b"""
def plain(a, /, b=2, *rest, c, **others):
    return 'VERSION', a, b, rest, c, others
def items(n):
    for each in range(n):
        yield 'VERSION', each
async def later(n):
    return 'VERSION', n
async def stream(n):
    yield 'VERSION', n
def outer(x):
    def inner():
        return 'VERSION', x
    return inner
"""


def failed() -> list[str]:
    """What does not hold here, one sentence each; empty when all is as it must be."""
    # whatever request asks: the probes are part of none
    return list(contextvars.Context().run(_failed))


@functools.cache
def _failed() -> tuple[str, ...]:
    found: list[str] = []
    for probe in (_calls, _kinds, _closures, _requests, _stacks):
        trial = _Trial()
        try:
            problem = probe(trial)
        except Exception as error:  # noqa: BLE001 (whatever it is, the assumption does not hold)
            problem = f"{type(error).__name__}: {error}"
        finally:
            trial.close()
        if problem:
            found.append(f"{(probe.__doc__ or '').strip()} {problem}")
    return tuple(found)


class _Trial:
    """The functions of the source, with dispatchers in, on the way from "old" to "new"."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = {}
        exec(_compiled("old"), self.space)  # noqa: S102 - the source above
        self.space["inner"] = self.space["outer"](7)
        new = codes.flatten(_compiled("new"))
        names = {"inner": "outer.<locals>.inner"}
        live = {k: v for k, v in self.space.items() if type(v) is FunctionType}
        changes = [Change.of(f, k, new[names.get(k, k)][0], {}) for k, f in live.items()]
        self.group = Group(changes)
        for member in self.group.members:
            member.change.live().__code__ = member.code

    def close(self) -> None:
        """Without dispatchers: collection does not see what they hold."""
        for member in self.group.members:
            member.change.live().__code__ = member.change.old
        self.group.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - functions of any signature
        return self.space[name]


def _compiled(version: str) -> CodeType:
    return codes.compile_source(_SOURCE.replace(b"VERSION", version.encode()), "<zdpatch selftest>")


def _ended(coroutine: Any) -> object:  # noqa: ANN401 - a coroutine, or what is in its place
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    return None


def _calls(trial: _Trial) -> str:
    """A dispatcher hands all arguments on, and has the signature of its function."""
    shown = str(inspect.signature(trial.plain))
    before = trial.plain(1, c=3)
    trial.group.start()
    after = trial.plain(1, 4, 5, c=6, d=7)
    if shown != "(a, /, b=2, *rest, c, **others)":
        return shown
    told = (before, after) == (("old", 1, 2, (), 3, {}), ("new", 1, 4, (5,), 6, {"d": 7}))
    return "" if told else f"{before} {after}"


def _kinds(trial: _Trial) -> str:
    """A call of a dispatcher gives the very generator or coroutine of the version."""
    held = trial.items(1), trial.later(1), trial.stream(1)
    trial.group.start()
    new = trial.items(1), trial.later(1), trial.stream(1)
    found = [(next(a), _ended(b), _ended(c.__anext__())) for a, b, c in (held, new)]
    for _, coroutine, _ in (held, new):
        coroutine.close()
    if found != [(("old", 0), ("old", 1), ("old", 1)), (("new", 0), ("new", 1), ("new", 1))]:
        return f"{found}"
    asked = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    functions = (trial.items, trial.later, trial.stream)
    kept = all(ask(each) for ask, each in zip(asked, functions, strict=True))
    return "" if kept else "its function is of another kind"


def _closures(trial: _Trial) -> str:
    """A dispatcher keeps the closure, and is seen through."""
    code = trial.inner.__code__
    inner = list(trial.group.members).pop()
    if code.co_freevars != ("x",) or versions_of(code) != inner.versions:
        return "the closure is another one"
    trial.group.start()
    return "" if trial.inner() == ("new", 7) else "the closure is lost"


def _requests(trial: _Trial) -> str:
    """A request that began before runs old code to its end, one that began since new code."""
    with scopes.Request("zdpatch-selftest"):
        trial.group.start()
        old = trial.plain(1, c=1)[0]
    with scopes.Request("zdpatch-selftest"):
        new = trial.plain(1, c=1)[0]
    return "" if (old, new) == ("old", "new") else f"{old} {new}"


def _stacks(trial: _Trial) -> str:
    """What code of a version calls is of that version."""
    seen: list[str] = []

    class Asks:
        def __index__(self) -> int:
            seen.append(trial.plain(1, c=1)[0])
            return 0

    held = trial.items(Asks())
    trial.group.start()
    list(held)
    list(trial.items(Asks()))
    return "" if seen == ["old", "new"] else f"{seen}"
