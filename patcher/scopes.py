"""A scope is one object for a request and for all that the request starts; it knows its epoch.

`PIN` holds it. Tasks and callbacks of an event loop copy their context and so carry it; what does
not is helped by the agent. A scope is *open* until its own block is left, and *carried* after that
for as long as anything can still see it: a task, a thread, a job, a timer. The object lives that
long and no longer, so reference counts and weak references tell, and nobody has to count.

An epoch is a number which `advance` raises when a consistent patch begins. Whoever waits for what
began before asks `older`. A scope is listed before it reads its epoch, and listed as carried
before it is no longer listed as open: whatever thread asks misses none.
"""

from __future__ import annotations

import itertools
import sys
from _thread import get_ident
from contextvars import ContextVar, Token
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UNDECIDED: Final = -1  # older than every epoch


class Scope(dict[int, int]):
    """Of a patch group's number: 0 where this scope runs the old code, 1 where it runs the new.

    Only dispatchers write that. `epoch` is that of its beginning, `key` the user (or tenant, or
    job) it works for, `began` a reading of `time.monotonic` and `thread` the thread it began in;
    `left` tells that its own block is over.
    """

    __slots__ = ("__weakref__", "began", "epoch", "key", "left", "thread")

    began: float
    epoch: int
    key: str | None
    left: bool
    thread: int

    # two scopes are never the same one, whatever they decided
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __repr__(self) -> str:
        state = "carried" if self.left else "open"
        return f"<scope {self.key!r} of epoch {self.epoch}, {state}, {dict(self)}>"


class Mark(Scope):
    """What stands for a scope outside of any, and says how a patch group goes on there."""

    __slots__ = ()


PIN: Final[ContextVar[Scope]] = ContextVar("zdpatch_scope")
"""The scope that this context works for; unset outside, or a mark."""

_numbers = itertools.count(1)
_epoch: Final = [0]
_open: Final[dict[int, Scope]] = {}
_carried: Final[dict[int, ref[Scope]]] = {}


def marking(decided: Mapping[int, int]) -> Mark:
    """A mark that says so."""
    mark = Mark(decided)
    mark.key, mark.left, mark.began, mark.thread = None, True, 0.0, 0
    mark.epoch = sys.maxsize
    return mark


def current() -> Scope | None:
    """The scope that this context works for."""
    scope = PIN.get(None)
    return None if type(scope) is Mark else scope


def now() -> int:
    """The epoch a scope would begin in."""
    return _epoch[0]


def advance() -> int:
    """Begin an epoch, and say which; whoever calls it lets nobody else do so meanwhile."""
    _epoch[0] = number = next(_numbers)
    return number


def older(epoch: int) -> list[Scope]:
    """Scopes which began before `epoch` and are open, or carried by something they started."""
    began = {id(scope): scope for scope in list(_open.values())}
    for each in list(_carried.values()):
        scope = each()
        if scope is not None:
            began[id(scope)] = scope
    return [scope for scope in began.values() if scope.epoch < epoch]


def name(key: str | None) -> None:
    """Say for whom the scope works that is open here, unless that is known: what stands around a
    server's request (another middleware, a job) is part of the same one.
    """
    if key is not None:
        scope = PIN.get(None)
        if scope is not None and scope.key is None and not scope.left:  # a mark was left
            scope.key = key


def begin(key: str | None) -> Scope | None:
    """A scope to `end`; None when this is part of the one that is open around it.

    It is part of that, unless it has a key and that one has another: what is done inside a
    request belongs to it, and somebody else's request does not.
    """
    outer = PIN.get(None)
    if outer is not None and not outer.left and (key is None or key == outer.key):
        return None
    scope = Scope()
    scope.key = key
    scope.left = False
    scope.began = monotonic()
    scope.thread = get_ident()
    scope.epoch = _UNDECIDED
    _open[id(scope)] = scope
    scope.epoch = _epoch[0]
    return scope


def end(scope: Scope) -> int:
    """Its own block is over; once more does nothing. How often it is referred to."""
    scope.left = True
    references = sys.getrefcount(scope)
    if references > _alone:
        _carried[id(scope)] = ref(scope, _Forget(id(scope)))
    _open.pop(id(scope), None)
    return references


def put_back(token: Token[Scope], scope: Scope) -> None:
    """Work of `scope` stops here: `token` is what `PIN.set(scope)` gave.

    It may be left in another context than it was entered in (a generator, gevent's timeouts). One
    that inherited the scope goes on with what was there before, and cannot be without any.
    """
    try:
        PIN.reset(token)
    except ValueError:
        if PIN.get(None) is scope and token.old_value is not Token.MISSING:
            PIN.set(token.old_value)


class Inside:
    """`with Inside(scope):` runs a part of what a scope stands for."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = PIN.set(self._scope)

    def __exit__(self, *_: object) -> None:
        put_back(self._token, self._scope)


class Request:
    """`with Request(key):` is a request: a scope of its own, unless it is part of one."""

    __slots__ = ("_scope", "_token", "key")

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self._token: Token[Scope] | None = None

    def __enter__(self) -> None:
        scope = begin(self.key)
        if scope is None:
            return
        if self._token is not None:
            end(scope)
            raise RuntimeError("this request was entered before, and not left")
        self._scope = scope
        self._token = PIN.set(scope)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        token = self._token
        if token is None:
            return
        scope = self._scope
        self._token = None
        del self._scope
        put_back(token, scope)
        end(scope)


def enter(key: str | None = None) -> Request:
    """Begin a request; `leave` what it returns."""
    entered = Request(key)
    entered.__enter__()
    return entered


def leave(entered: Request) -> None:
    """End it; once more does nothing."""
    entered.__exit__(None, None, None)


class Job:
    """A call with a scope around it, made elsewhere: `thread` is the one that makes it, or 0.

    What runs it (the thread of a pool) has no scope before, and has none after.
    """

    __slots__ = ("call", "scope", "thread")

    def __init__(self, scope: Scope, call: Callable[..., Any]) -> None:
        self.scope = scope
        self.call = call
        self.thread = 0

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the call has it
        with Inside(self.scope):
            self.thread = get_ident()
            try:
                return self.call(*args, **kwargs)
            finally:
                self.thread = 0


def forget_others() -> None:
    """In a child of a fork only what forked goes on: the parent's other threads and the tasks of
    its loops do not, and their scopes are the parent's.
    """
    mine = PIN.get(None)
    for number, scope in list(_open.items()):
        if scope is not mine:
            del _open[number]
    for number in list(_carried):
        if mine is None or number != id(mine):
            _carried.pop(number, None)


class _Forget:
    """What is carried no longer is listed no longer; called before the number can be another's."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, dead: ref[Scope]) -> None:
        if _carried.get(self._number) is dead:
            del _carried[self._number]


def _references_alone() -> int:
    """How often a scope that nobody carries is referred to when it ends."""
    scope = begin(None)
    assert scope is not None
    return end(scope)


_alone = 0
_alone = _references_alone()
