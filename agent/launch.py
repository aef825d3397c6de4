"""There is one agent in a process, and starting it can fail only into a handle that says why."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Final

from zdpatch.agent import later
from zdpatch.agent.clock import SystemClock
from zdpatch.agent.engine import LoadedLater
from zdpatch.agent.handle import Handle
from zdpatch.agent.here import LOG
from zdpatch.agent.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Config
    from zdpatch.agent.engine import Engine

_current: Runtime | None = None
_hooked = False
_engine: Final = LoadedLater()


def launch(
    config: Config,
    engine: Engine | None = None,
    clock: Clock | None = None,
    gate: Callable[[str], None] | None = None,
) -> Handle:
    """Start the agent of this process. `gate` is called at each named step of the journal."""
    global _current  # noqa: PLW0603 - one agent in a process
    if _current is not None and _current.running:
        LOG.warning("the agent was started before, as %s", _current.config.app)
        return Handle(_current)
    later.keep()
    runtime = Runtime(config, engine or _engine, clock or SystemClock(), gate or _no_gate)
    if _current is not None:
        runtime.continue_from(_current)
    runtime.boot()
    _current = runtime
    _hook()
    runtime.launch(0.0 if config.now else config.settings.thread_delay_s)
    return Handle(runtime)


def active() -> tuple[str, ...]:
    """Ids of the patches that run in this process, in the order they came."""
    return () if _current is None else _current.here.active()


def _no_gate(step: str) -> None:
    del step


def _hook() -> None:
    """Hooks cannot be taken back, so they are set once and look at what is current."""
    global _hooked  # noqa: PLW0603 - one interpreter, one set of hooks
    if _hooked:
        return
    _hooked = True
    os.register_at_fork(
        before=lambda: _tell(Runtime.before_fork),
        after_in_parent=lambda: _tell(Runtime.after_fork_in_parent),
        after_in_child=lambda: _tell(Runtime.after_fork_in_child),
    )
    atexit.register(lambda: _tell(Runtime.stop))


def _tell(what: Callable[[Runtime], None]) -> None:
    if _current is not None:
        what(_current)
