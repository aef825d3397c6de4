"""One whole generation serves at each instant; the next touches it when all of it is ready.

Only decisions: facts and a clock reading in, moves out. Green is the generation that gets ready,
the current one (blue) serves, `warm` is the one before it, kept to go back to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent.crew import Crew, Replacement
from zdpatch.agent.moves import Drain, Finish, Limits, Move, Outcome, State, Stop, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zdpatch.agent.roster import Entry


class Handoff:
    """The generations of one fleet. Each call returns the moves it leads to, in their order."""

    def __init__(
        self, workers: int, limits: Limits, jitter: Callable[[], float] = lambda: 1.0
    ) -> None:
        self.current = 1
        self.green: Replacement | None = None
        self.warm: int | None = None
        self.ending = False
        self._crew: Final = Crew(workers, limits, jitter)
        self._limits: Final = limits
        self._bad: Final[set[int]] = set()
        self._flaps = 0
        self._last_generation = 1
        self._flip_until: float | None = None
        self._warm_until = 0.0
        self._draining: Final[dict[int, Replacement]] = {}  # by the generation that goes
        self._queued: Final[list[int]] = []
        self._cancelled = False

    @property
    def units(self) -> Mapping[int, Unit]:
        """Every worker whose process is not known to be gone."""
        return self._crew.units

    # -- what happens ---------------------------------------------------------------------------

    def take_back(self, entries: Sequence[Entry], now: float) -> list[Entry]:
        """Workers serve already, since before this supervisor; those of the last generation count.

        Before `begin`. Returns those.
        """
        self.current = self._last_generation = max((e.generation for e in entries), default=1)
        taken = [entry for entry in entries if entry.generation == self.current]
        for entry in taken:
            self._crew.has(entry.unit, entry.generation, entry.slot, now)
        return taken

    def forsake(self, key: int, now: float) -> list[Move]:
        """One of those does not answer: it is ended, and another takes its slot."""
        self._crew.end(self._crew.units[key], now)
        return self._crew.taken()

    def begin(self, now: float) -> list[Move]:
        """Start the first generation, or what it lacks; each serves as soon as it is ready."""
        if not self.ending:
            self._crew.want(self.current, self._crew.missing(self.current), now)
            self._tell_when_whole()
        return self._crew.taken()

    def trigger(self, ticket: int, now: float) -> list[Move]:
        """Somebody wants new workers: at once, or once more after what is under way.

        Greens that are not ready after a while are given up for it, once: what keeps them from
        getting ready may be what was mended.
        """
        green = self.green
        if self.ending:
            self._crew.say(Outcome((ticket,), False, self.current, "the supervisor ends"))
        elif green is None:
            self._prepare([ticket], now)
        elif self._may_cancel(green, now):
            self._discard(green, now)
            self._prepare([*green.tickets, ticket], now)
            self._cancelled = True
        else:
            self._queued.append(ticket)
        return self._crew.taken()

    def ready(self, key: int, now: float) -> list[Move]:
        """A worker is ready, and accepts nothing yet."""
        unit = self.units[key]
        if unit.state is State.BOOT and not self.ending:
            unit.state, unit.until = State.READY, None
            self._crew.start_more(unit.generation, now)
            if self.green is not None and unit.generation == self.green.generation:
                self._count_ready(self.green, now)
            elif unit.generation == self.current and self._flip_until is None:
                self._crew.go(unit, now)
                self._tell_when_whole()
        return self._crew.taken()

    def stopped(self, key: int, now: float) -> list[Move]:
        """A worker accepts no more."""
        unit = self.units[key]
        if unit.state is State.STOPPING:
            unit.state = State.STOPPED
            if self.ending:
                self._crew.say(Drain(key, None))
            elif self._flip_until is not None:
                self._land_if_stopped(now)
        return self._crew.taken()

    def drained(self, key: int, now: float) -> list[Move]:
        """A worker that stopped has nothing left to finish."""
        unit = self.units[key]
        if unit.state is State.STOPPED and not unit.drained:
            unit.drained, unit.until = True, None
            if self.ending or unit.generation != self.warm:
                self._crew.end(unit, now)
            self._count_drained(unit.generation, now)
        return self._crew.taken()

    def unfit(self, key: int, reason: str, now: float) -> list[Move]:
        """A new worker is ready, and is not what was asked for."""
        green = self.green
        if green is not None and self.units[key].generation == green.generation:
            self._fail(green, now, reason, key)
        return self._crew.taken()

    def extend(self, key: int, seconds: float, now: float) -> None:
        """A worker that starts says that it needs longer."""
        unit = self.units[key]
        if unit.state is State.BOOT and unit.until is not None:
            unit.until = max(unit.until, now + seconds)

    def exited(self, key: int, why: str, now: float) -> list[Move]:
        """The process of a worker is gone."""
        unit = self._crew.units.pop(key)
        green = self.green
        if self.ending:
            self._finish()
        elif green is not None and unit.generation == green.generation:
            # of those that serve again enough are left, and the others are started afterwards
            if not green.back or not self._crew.of(green.generation, State.READY):
                self._fail(green, now, f"a new worker {why}", key)
        elif unit.generation == self.current:
            self._lost(unit, why, now)
        else:
            if unit.state is State.STOPPED and not unit.drained:
                self._count_cut(unit)
            self._count_drained(unit.generation, now)
        return self._crew.taken()

    def end(self, now: float) -> list[Move]:
        """The supervisor is told to end: everybody finishes."""
        if self.ending:
            return []
        self.ending = True
        if self.green is not None:
            self._crew.say(self.green.failed("the supervisor ends"))
            self._discard(self.green, now)
        self._crew.want_no_more()
        self._crew.restarts.clear()
        last = now + self._limits.stop_s - self._limits.term_s
        for unit in list(self.units.values()):
            if unit.state is State.SERVING:
                unit.state, unit.until = State.STOPPING, last
                self._crew.say(Stop(unit.key))
            elif unit.state in (State.STOPPED, State.STOPPING) and not unit.drained:
                unit.until = last if unit.until is None else min(unit.until, last)
            else:
                self._crew.end(unit, now)
        self._finish()
        return self._crew.taken()

    def tick(self, now: float) -> list[Move]:
        """Whatever is due by `now`."""
        if self._flip_until is not None and now >= self._flip_until:
            self._land(now)
        for unit in list(self.units.values()):
            if unit.until is not None and now >= unit.until:
                self._overdue(unit, now)
        restarts = self._crew.restarts
        for entry in [one for one in restarts if now >= one[0]]:
            restarts.remove(entry)
            self._crew.want(self.current, [entry[1]], now)
        if self.green is None and not self.ending:
            if self.warm is not None and now >= self._warm_until:
                self._let_go(now)
            if self._queued:
                tickets, self._queued[:] = self._queued[:], []
                self._prepare(tickets, now)
        return self._crew.taken()

    def patience(self, now: float) -> float | None:
        """Seconds until `tick` has something to do; None: only when something happens."""
        dues = [unit.until for unit in self.units.values() if unit.until is not None]
        dues += [due for due, _ in self._crew.restarts]
        if self._flip_until is not None:
            dues.append(self._flip_until)
        if self.green is None and not self.ending:
            dues += [self._warm_until] if self.warm is not None else []
            dues += [now] if self._queued else []
        return max(0.0, min(dues) - now) if dues else None

    def _tell_when_whole(self) -> None:
        if len(self._crew.of(self.current, State.SERVING)) == self._crew.workers:
            self._crew.tell("serves", self.current, self._crew.workers)

    # -- getting ready --------------------------------------------------------------------------

    def _prepare(self, tickets: Sequence[int], now: float) -> None:
        self._last_generation += 1
        self.green = Replacement(self._last_generation, tickets, now)
        self._cancelled = False
        self._crew.tell("boot", self.green.generation)
        self._crew.want(self.green.generation, range(self._crew.workers), now)

    def _count_ready(self, green: Replacement, now: float) -> None:
        ready = len(self._crew.of(green.generation, State.READY))
        self._crew.tell("boot", green.generation, ready)
        if ready == self._crew.workers and self._flip_until is None:
            self._flip(green, now)

    def _may_cancel(self, green: Replacement, now: float) -> bool:
        late = now - green.since >= self._limits.coalesce_s
        return late and not self._cancelled and self._flip_until is None

    def _fail(self, green: Replacement, now: float, reason: str, unit: int) -> None:
        if self._flip_until is not None:
            for blue in self._crew.of(self.current, State.STOPPING, State.STOPPED):
                self._crew.go(blue, now)
        self._bad.add(green.generation)
        self._crew.say(green.failed(reason, unit))
        self._discard(green, now)

    def _discard(self, green: Replacement, now: float) -> None:
        self.green, self._flip_until = None, None
        self._crew.want_no_more(green.generation)
        for unit in self._crew.of(green.generation):
            self._crew.kill(unit, now)

    # -- the flip -------------------------------------------------------------------------------

    def _flip(self, green: Replacement, now: float) -> None:
        """From here to `_land` nobody accepts, and the kernel keeps the clients' connections."""
        green.ready_at = now
        self._flip_until = now + self._limits.flip_ack_s
        self._crew.want_no_more(self.current)
        self._crew.restarts.clear()
        self._crew.tell("flip", green.generation)
        for unit in self._crew.of(self.current):
            if unit.state is State.SERVING:
                unit.state = State.STOPPING
                self._crew.say(Stop(unit.key))
            elif unit.state in (State.BOOT, State.READY):
                self._crew.kill(unit, now)
        self._land_if_stopped(now)

    def _land_if_stopped(self, now: float) -> None:
        if not self._crew.of(self.current, State.STOPPING):
            self._land(now)

    def _land(self, now: float) -> None:
        green = self.green
        assert green is not None
        old, self.current = self.current, green.generation
        self.green, self._flip_until = None, None
        self._crew.failures, self._flaps = 0, 0
        green.landed_at, green.old = now, old
        new = self._crew.of(self.current, State.READY)
        for unit in new:
            self._crew.go(unit, now)
        for slot in self._crew.missing(self.current):
            self._crew.retry(slot, now)
        self._let_go(now)
        going = self._crew.of(old, State.STOPPING, State.STOPPED)
        if old not in self._bad and going:
            self.warm, self._warm_until = old, now + self._limits.warm_s
        self._draining[old] = green
        for index, unit in enumerate(going):
            unit.state, unit.until = State.STOPPED, now + self._limits.drain_s
            self._crew.say(Drain(unit.key, new[index % len(new)].key))
        self._crew.tell("drain", green.generation)
        self._tell_when_whole()
        self._count_drained(old, now)
        self._cut_oldest(now)

    def _switch_back(self, warm: int, now: float) -> None:
        """The warm generation is ready already: a flip the other way."""
        self._bad.add(self.current)
        self.warm = None
        reason = "new workers ended again and again; the old ones serve again"
        begun = self._draining.pop(warm, None)
        if begun is not None:
            self._crew.say(begun.failed(reason))
        self._crew.tell("back", warm, detail=reason)
        self.green = Replacement(warm, (), now, back=True)
        for unit in self._crew.of(warm, State.STOPPED):
            unit.state, unit.until = State.READY, None
        self._flip(self.green, now)

    # -- afterwards -----------------------------------------------------------------------------

    def _lost(self, unit: Unit, why: str, now: float) -> None:
        """A worker of the serving generation is gone, and another takes its slot."""
        if self._flip_until is not None:
            self._land_if_stopped(now)
            return
        steady = unit.served_at is not None and now - unit.served_at >= self._limits.steady_s
        self._crew.failures = 0 if steady else self._crew.failures + 1
        self._crew.tell("lost", unit.generation, detail=f"a worker {why}", unit=unit.key)
        if self.warm is not None and self.green is None:
            self._flaps += 1
            if self._flaps >= self._limits.flaps and self._crew.of(self.warm, State.STOPPED):
                self._switch_back(self.warm, now)
                return
        self._crew.retry(unit.slot, now)

    def _count_drained(self, generation: int, now: float) -> None:
        replacement = self._draining.get(generation)
        # those which were told to end with something in flight may still finish it
        states = (State.STOPPED, State.STOPPING, State.ENDING)
        if replacement is not None and all(u.drained for u in self._crew.of(generation, *states)):
            del self._draining[generation]
            self._crew.say(replacement.done(now))

    def _count_cut(self, unit: Unit) -> None:
        replacement = self._draining.get(unit.generation)
        if replacement is not None:
            replacement.cut += 1

    def _cut_oldest(self, now: float) -> None:
        stopped = self._crew.of(None, State.STOPPED)
        going = sorted({unit.generation for unit in stopped if not unit.drained})
        for unit in stopped:
            if unit.generation in going[: -self._limits.draining] and not unit.drained:
                self._count_cut(unit)
                self._crew.end(unit, now)

    def _let_go(self, now: float) -> None:
        """Nobody goes back to the warm generation any more: who has finished ends."""
        warm, self.warm = self.warm, None
        for unit in [] if warm is None else self._crew.of(warm, State.STOPPED):
            if unit.drained:
                self._crew.end(unit, now)

    def _overdue(self, unit: Unit, now: float) -> None:
        green = self.green
        if unit.state is State.BOOT and green is not None and unit.generation == green.generation:
            reason = f"a new worker was not ready after {now - unit.since:.0f} s"
            self._fail(green, now, reason, unit.key)
        elif unit.state in (State.STOPPED, State.STOPPING):
            self._count_cut(unit)
            self._crew.end(unit, now)
        else:
            self._crew.kill(unit, now)

    def _finish(self) -> None:
        if self.ending and not self.units:
            self._crew.say(Finish())
