"""A thread, a job of an executor and a greenlet carry the scope in which they were begun; no more.

Tasks and callbacks of event loops copy the whole context by themselves. Here only the scope is
carried: for a job as long as the job runs, so that nothing stays in the pool's thread, and for a
thread as long as it runs, unless it is somebody's worker. What was there before is called each
time, with the same arguments, and comes back with `remove`.
"""

from __future__ import annotations

import concurrent.futures.thread
import functools
import importlib
import os
import sys
import threading
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent.native import Lock
from zdpatch.patcher.scopes import PIN, Job, Request, current, forget_others
from zdpatch.patcher.workers import is_worker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Request", "install", "remove"]

_FIRST: Final = "_bootstrap"
"""What a new thread calls first: the only thing that runs before `run`, whoever overrode that."""


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """`owner.name` was `before`, and is `after`."""

    owner: type
    name: str
    before: Callable[..., Any]
    after: Callable[..., Any]


class _Carrying:
    """Whether it is done here, and what was replaced for it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.wrapped: list[_Wrapped] = []
        self.gevent: Any = None
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.lock = Lock()
        forget_others()

    def wrap(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a method; at most once."""
        before = getattr(owner, name)
        if not any(each.owner is owner and each.name == name for each in self.wrapped):
            after = functools.wraps(before)(make(before))
            self.wrapped.append(_Wrapped(owner, name, before, after))
            setattr(owner, name, after)


_carrying: Final = _Carrying()


def install() -> None:
    """Begin; again does only what could not be done the first time, before gevent was there.

    With `ZDPATCH_CARRY=off` it does nothing: only what copies contexts by itself carries scopes.
    """
    if os.environ.get("ZDPATCH_CARRY", "").strip().lower() in ("off", "0", "false", "no"):
        return
    with _carrying.lock:
        _carrying.wrap(threading.Thread, "start", _start)
        _carrying.wrap(concurrent.futures.thread.ThreadPoolExecutor, "submit", _submit)
        if "gevent" in sys.modules and _carrying.gevent is None:
            greenlet = importlib.import_module("gevent.greenlet").Greenlet
            greenlet.add_spawn_callback(_spawned)
            _carrying.gevent = greenlet
            pool = importlib.import_module("gevent.threadpool").ThreadPool
            _carrying.wrap(pool, "spawn", _submit)


def remove() -> None:
    """Put back what was there, unless somebody wrapped it since: then ours stays below theirs."""
    with _carrying.lock:
        for each in list(_carrying.wrapped):
            if getattr(each.owner, each.name) is each.after:
                setattr(each.owner, each.name, each.before)
                _carrying.wrapped.remove(each)
        if _carrying.gevent is not None:
            _carrying.gevent.remove_spawn_callback(_spawned)
            _carrying.gevent = None


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: object, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> object:
        scope = current()
        return original(self, fn if scope is None else Job(scope, fn), *args, **kwargs)

    return submit


def _start(original: Callable[..., None]) -> Callable[..., None]:
    def start(self: threading.Thread) -> None:
        scope = current()
        if scope is None or not _takes_along(self):
            original(self)
            return
        own = vars(self)
        own[_FIRST] = Job(scope, getattr(self, _FIRST))
        try:
            original(self)
        finally:
            # it runs by now, or never will: a thread that holds itself would not be collected
            own.pop(_FIRST, None)

    return start


def _takes_along(thread: threading.Thread) -> bool:
    """Whether a thread that is started here works for the request that starts it."""
    if not hasattr(thread, _FIRST) or _FIRST in vars(thread):
        return False
    run, target = type(thread).run, vars(thread).get("_target")
    return not (is_worker(run) or is_worker(target))


def _spawned(greenlet: Any) -> None:  # noqa: ANN401 - gevent is not known here
    scope = current()
    # one with a context of its own was given it by somebody who meant it
    if scope is not None and not greenlet.gr_context and _goes_along(greenlet):
        context = Context()
        context.run(PIN.set, scope)
        greenlet.gr_context = context


def _goes_along(greenlet: Any) -> bool:  # noqa: ANN401 - as above
    """Whether it works for who spawned it; where threads are greenlets, that is decided before."""
    run: object = getattr(greenlet, "_run", None)
    is_thread = isinstance(run, Job) or isinstance(getattr(run, "__self__", None), threading.Thread)
    return not is_thread and not is_worker(run)
