"""gunicorn's master takes the listeners by itself (LISTEN_FDS) and leads; its workers serve."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from zdpatch.agent import worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def install(module: ModuleType) -> None:
    """Say how many workers there will be, before the first is forked."""
    arbiter = module.Arbiter
    arbiter.start = _leading(arbiter.start)
    arbiter.maybe_promote_master = _looking(arbiter.maybe_promote_master)


def _leading(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def start(arbiter: Any) -> None:
        worker.lead("gunicorn", arbiter.cfg.workers)
        original(arbiter)

    return start


def _looking(original: Callable[..., None]) -> Callable[..., None]:
    """The master calls it in each round of its loop."""

    @functools.wraps(original)
    def maybe_promote_master(arbiter: Any) -> None:
        worker.look()
        original(arbiter)

    return maybe_promote_master


def keep_names(sockets: list[Any]) -> None:
    """Have listeners say the address they listen at also while their gate is closed."""
    for one in sockets:
        name = one.getsockname()
        one.getsockname = functools.partial(_same, name)


def _same(name: object) -> object:
    return name
