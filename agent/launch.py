"""There is one agent in a process, and starting it can fail only into a handle that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent import later
from zdpatch.agent.clock import SystemClock
from zdpatch.agent.engine import LoadedLater
from zdpatch.agent.handle import Handle
from zdpatch.agent.here import LOG
from zdpatch.agent.home import files_of
from zdpatch.agent.runtime import Runtime
from zdpatch.agent.seat import SEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Config
    from zdpatch.agent.engine import Engine

_engine: Final = LoadedLater()


def launch(
    config: Config,
    engine: Engine | None = None,
    clock: Clock | None = None,
    gate: Callable[[str], None] | None = None,
) -> Handle:
    """Start the agent of this process. `gate` is called at each named step of the journal.

    Raises TimeoutError when another thread takes too long to do the same.
    """
    with SEAT.taken():
        before = SEAT.runtime
        if before is not None and before.running:
            LOG.warning("the agent was started before, as %s", before.config.app)
            return Handle(before)
        later.keep()
        _engine.keep_files(files_of(config))
        runtime = Runtime(config, engine or _engine, clock or SystemClock(), gate or _no_gate)
        if before is not None:
            runtime.continue_from(before)
        runtime.boot()
        SEAT.runtime = runtime
        runtime.launch(0.0 if config.now else config.settings.thread_delay_s)
        return Handle(runtime)


def active() -> tuple[str, ...]:
    """Ids of the patches that run in this process, in the order they came."""
    return () if SEAT.runtime is None else SEAT.runtime.here.active()


def _no_gate(step: str) -> None:
    del step
