"""The words of a replacement: what a worker is doing, what is to be done next, how it ended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of a replacement. Times are seconds."""

    ready_s: float = 60.0  # a new worker that is not ready by then is not used
    flip_ack_s: float = 1.0  # an old worker that does not say it stopped is not waited for
    drain_s: float = 30.0  # what is in flight on an old worker is cut after this
    spread_s: float = 10.0  # WebSockets of an old worker are closed over so long
    linger_s: float = 5.0  # an idle connection that cannot be handed over is kept so long
    term_s: float = 5.0  # from SIGTERM to SIGKILL
    warm_s: float = 30.0  # old workers are kept so long, to go back to
    stop_s: float = 25.0  # all workers are gone by then when the supervisor is told to end
    coalesce_s: float = 1.0  # a trigger joins one that is so young, or waits for it
    retry_first_s: float = 0.5  # a worker that ended is started again after this
    retry_most_s: float = 60.0  # and after twice as long each time, up to this
    steady_s: float = 10.0  # a worker that served so long did not fail at its start
    flaps: int = 2  # new workers that end while the old are warm: the old serve again
    draining: int = 2  # old generations at once; the oldest is cut for a third
    together: int = field(default_factory=lambda: max(1, (os.cpu_count() or 2) // 2))
    orphan_s: float = 60.0  # workers serve on without a supervisor for so long


class State(StrEnum):
    """What one worker is doing."""

    BOOT = "boot"  # started, not ready
    READY = "ready"  # ready, and accepts nothing
    SERVING = "serving"
    STOPPING = "stopping"  # was told to accept no more
    STOPPED = "stopped"  # accepts no more; finishes, or is kept warm
    ENDING = "ending"  # was told to end


@dataclass(slots=True)
class Unit:
    """One worker that was started, of one generation, in one slot."""

    key: int
    generation: int
    slot: int
    since: float
    until: float | None  # its next deadline
    state: State = State.BOOT
    served_at: float | None = None
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start the worker `unit`."""

    unit: int


@dataclass(frozen=True, slots=True)
class Go:
    """Let it accept."""

    unit: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Let it accept no more; it answers."""

    unit: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Let it finish, and hand its idle connections to the worker `to`."""

    unit: int
    to: int | None


@dataclass(frozen=True, slots=True)
class End:
    """SIGTERM, once."""

    unit: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    unit: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A phase of a replacement, for people who watch it."""

    generation: int
    phase: str
    done: int = 0
    of: int = 0
    detail: str = ""
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the replacement that `tickets` wait for ended.

    `unit`: whose output tells why it failed; `old`: the generation that went.
    """

    tickets: Sequence[int]
    ok: bool
    generation: int
    reason: str = ""
    unit: int | None = None
    ready_s: float = 0.0
    flip_ms: float = 0.0
    drain_s: float = 0.0
    cut: int = 0
    old: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """All workers are gone after the supervisor was told to end."""


Move = Start | Go | Stop | Drain | End | Kill | Progress | Outcome | Finish
