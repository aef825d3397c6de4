"""The workers there are: each is started, let go, ended and killed here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent.moves import End, Go, Kill, Limits, Move, Outcome, Progress, Start, State, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Replacement:
    """One under way, from its trigger to the last old connection.

    `back`: its workers are not new, they were kept warm and serve again.
    """

    def __init__(
        self, generation: int, tickets: Sequence[int], now: float, *, back: bool = False
    ) -> None:
        self.generation: Final = generation
        self.tickets: Final = tuple(tickets)
        self.since: Final = now
        self.back: Final = back
        self.ready_at = now
        self.landed_at = now
        self.cut = 0
        self.old = 0

    def done(self, now: float) -> Outcome:
        """That it is done, and how long each part took."""
        return Outcome(
            tickets=self.tickets,
            ok=True,
            generation=self.generation,
            ready_s=self.ready_at - self.since,
            flip_ms=(self.landed_at - self.ready_at) * 1000,
            drain_s=now - self.landed_at,
            cut=self.cut,
            old=self.old,
        )

    def failed(self, reason: str, unit: int | None = None) -> Outcome:
        """That the old workers serve, and why."""
        return Outcome(self.tickets, False, self.generation, reason, unit)


class Crew:
    """All workers by key, the slots that wait for one, and the moves that were decided."""

    def __init__(self, workers: int, limits: Limits, jitter: Callable[[], float]) -> None:
        self.workers: Final = workers
        self.limits: Final = limits
        self.units: Final[dict[int, Unit]] = {}
        self.restarts: Final[list[tuple[float, int]]] = []  # when, and which slot
        self.failures = 0  # starts that failed since one served steadily
        self._waiting: Final[dict[int, list[int]]] = {}  # slots, by generation
        self._jitter: Final = jitter
        self._moves: list[Move] = []
        self._last = 0

    def of(self, generation: int | None, *states: State) -> list[Unit]:
        """The workers of a generation, or of all, in these states, or in any."""
        return [
            unit
            for unit in self.units.values()
            if generation in (None, unit.generation) and (not states or unit.state in states)
        ]

    def missing(self, generation: int) -> list[int]:
        """The slots of a generation without a worker."""
        taken = {unit.slot for unit in self.of(generation) if unit.state is not State.ENDING}
        return [slot for slot in range(self.workers) if slot not in taken]

    def want(self, generation: int, slots: Sequence[int], now: float) -> None:
        """Start workers for these slots, as many at once as `together` says."""
        self._waiting.setdefault(generation, []).extend(slots)
        self.start_more(generation, now)

    def start_more(self, generation: int, now: float) -> None:
        """No more at once than leaves the serving workers their share of the machine."""
        waiting = self._waiting.get(generation, [])
        while waiting and len(self.of(generation, State.BOOT)) < self.limits.together:
            self._last += 1
            until = now + self.limits.ready_s
            self.units[self._last] = Unit(self._last, generation, waiting.pop(0), now, until)
            self.say(Start(self._last))

    def has(self, key: int, generation: int, slot: int, now: float) -> None:
        """One serves already."""
        self._last = max(self._last, key)
        unit = Unit(key, generation, slot, now, None, State.SERVING, served_at=now)
        self.units[key] = unit

    def want_no_more(self, generation: int | None = None) -> None:
        """Start nobody else of this generation, or of any."""
        for one in [generation] if generation is not None else list(self._waiting):
            self._waiting.pop(one, None)

    def retry(self, slot: int, now: float) -> None:
        """Start another one in this slot: at once, or later the more often that failed."""
        pause = 0.0
        if self.failures:
            # beyond that exponent the product is more than any limit
            doubled = self.limits.retry_first_s * 2 ** min(self.failures - 1, 20)
            pause = min(self.limits.retry_most_s, doubled) * self._jitter()
        self.restarts.append((now + pause, slot))

    def go(self, unit: Unit, now: float) -> None:
        """Let it accept."""
        unit.state, unit.until, unit.drained, unit.served_at = State.SERVING, None, False, now
        self.say(Go(unit.key))

    def end(self, unit: Unit, now: float) -> None:
        """SIGTERM, once."""
        if unit.state is not State.ENDING:
            unit.state, unit.until = State.ENDING, now + self.limits.term_s
            self.say(End(unit.key))

    def kill(self, unit: Unit, now: float) -> None:
        """SIGKILL; a process in the kernel's hands may take a while to go."""
        unit.state, unit.until = State.ENDING, now + self.limits.term_s
        self.say(Kill(unit.key))

    def say(self, move: Move) -> None:
        """Have it done, after those before."""
        self._moves.append(move)

    def tell(
        self, phase: str, generation: int, done: int = 0, detail: str = "", unit: int | None = None
    ) -> None:
        """Have people told."""
        self.say(Progress(generation, phase, done, self.workers, detail, unit))

    def taken(self) -> list[Move]:
        """The moves since the last call."""
        moves, self._moves = self._moves, []
        return moves
