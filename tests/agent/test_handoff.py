"""The generations of a fleet, with a clock of their own and nobody started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.agent.handoff import Handoff
from zdpatch.agent.moves import (
    Drain,
    End,
    Finish,
    Go,
    Kill,
    Limits,
    Outcome,
    Progress,
    Start,
    State,
    Stop,
)
from zdpatch.agent.needs import Needs
from zdpatch.agent.roster import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zdpatch.agent.moves import Move


class Game:
    """A fleet of two, and everything that was decided so far."""

    def __init__(
        self, *, together: int = 2, workers: int = 2, serving: Sequence[Entry] = ()
    ) -> None:
        self.now = 0.0
        self.limits = Limits(together=together)
        self.handoff = Handoff(workers, self.limits)
        self.moves: list[Move] = []
        self.outcomes: list[Outcome] = []
        self.back = self.handoff.take_back(serving, self.now)
        self.take(self.handoff.begin(self.now))

    def take(self, moves: Iterable[Move]) -> list[Move]:
        """Keep them; those which change nothing are left out."""
        new = list(moves)
        self.outcomes += [move for move in new if isinstance(move, Outcome)]
        self.moves = [move for move in new if not isinstance(move, Outcome | Progress)]
        return self.moves

    def after(self, seconds: float) -> list[Move]:
        """Time goes by."""
        self.now += seconds
        return self.take(self.handoff.tick(self.now))

    def trigger(self, ticket: int = 1) -> list[Move]:
        """Somebody asks for new workers."""
        return self.take(self.handoff.trigger(ticket, self.now))

    def ready(self, *keys: int) -> list[Move]:
        """These get ready."""
        return [m for key in keys for m in self.take(self.handoff.ready(key, self.now))]

    def stopped(self, *keys: int) -> list[Move]:
        """These have stopped."""
        return [m for key in keys for m in self.take(self.handoff.stopped(key, self.now))]

    def drained(self, *keys: int) -> list[Move]:
        """These have nothing left."""
        return [m for key in keys for m in self.take(self.handoff.drained(key, self.now))]

    def exited(self, *keys: int) -> list[Move]:
        """These are gone."""
        return [m for key in keys for m in self.take(self.handoff.exited(key, "fell", self.now))]

    def serving(self) -> Game:
        """Both of the first generation serve."""
        assert self.ready(1, 2) == [Go(1), Go(2)]
        return self

    def replaced(self) -> Game:
        """And then both of the second one; the first is warm."""
        self.serving().trigger()
        self.ready(3, 4)
        self.stopped(1, 2)
        self.drained(1, 2)
        assert self.states(2) == [State.SERVING, State.SERVING]
        return self

    def states(self, generation: int) -> list[State]:
        """What its workers are doing."""
        units = self.handoff.units.values()
        return [unit.state for unit in units if unit.generation == generation]


def test_the_first_workers_serve_as_soon_as_each_is_ready() -> None:
    """The first one does not wait for the second."""
    game = Game()
    assert game.moves == [Start(1), Start(2)]
    assert game.ready(2) == [Go(2)]
    assert game.ready(1) == [Go(1)]


def test_a_replacement_stops_all_old_before_any_new_goes() -> None:
    """Start, all ready, stop all, go all, then drain; blue is kept until the window is over."""
    game = Game().serving()
    assert game.trigger() == [Start(3), Start(4)]
    assert game.ready(3) == []
    assert game.ready(4) == [Stop(1), Stop(2)]
    assert game.stopped(1) == []
    assert game.stopped(2) == [Go(3), Go(4), Drain(1, 3), Drain(2, 4)]
    assert game.drained(1) == []
    assert game.drained(2) == []
    (done,) = game.outcomes
    assert done.ok
    assert done.generation == 2
    assert (done.old, done.cut) == (1, 0)
    assert game.after(game.limits.warm_s) == [End(1), End(2)]
    assert game.exited(1, 2) == []
    assert game.handoff.patience(game.now) is None


def test_new_workers_start_a_few_at_a_time() -> None:
    """Those which serve keep their share of the machine."""
    game = Game(together=1)
    assert game.moves == [Start(1)]
    assert game.ready(1) == [Start(2), Go(1)]
    game.ready(2)
    assert game.trigger() == [Start(3)]
    assert game.ready(3) == [Start(4)]
    assert game.ready(4) == [Stop(1), Stop(2)]


def test_a_new_worker_that_ends_leaves_the_old_alone() -> None:
    """The others of its generation are killed, and whoever waits is told whose output to read."""
    game = Game().serving()
    game.trigger(7)
    game.ready(3)
    assert game.exited(4) == [Kill(3)]
    (done,) = game.outcomes
    assert (done.ok, list(done.tickets), done.unit) == (False, [7], 4)
    assert game.states(1) == [State.SERVING, State.SERVING]
    assert game.exited(3) == []


def test_a_new_worker_that_hangs_is_given_up() -> None:
    """It may say that it needs longer."""
    game = Game().serving()
    game.trigger()
    game.handoff.extend(3, 90.0, game.now)
    game.handoff.extend(4, 90.0, game.now)
    assert game.after(game.limits.ready_s) == []
    assert game.after(30.0) == [Kill(3), Kill(4)]
    assert not game.outcomes[0].ok


def test_a_new_worker_that_ends_during_the_flip() -> None:
    """Those which had stopped already serve again at once."""
    game = Game().serving()
    game.trigger()
    game.ready(3, 4)
    game.stopped(1)
    assert game.exited(3) == [Go(1), Go(2), Kill(4)]
    assert game.states(1) == [State.SERVING, State.SERVING]


def test_an_old_worker_that_does_not_stop_is_not_waited_for() -> None:
    """After a second the new ones go."""
    game = Game().serving()
    game.trigger()
    game.ready(3, 4)
    game.stopped(1)
    assert game.after(game.limits.flip_ack_s) == [Go(3), Go(4), Drain(1, 3), Drain(2, 4)]


def test_an_old_worker_that_ends_during_the_flip() -> None:
    """Nobody starts another one in its place."""
    game = Game().serving()
    game.trigger()
    game.ready(3, 4)
    game.stopped(1)
    assert game.exited(2) == [Go(3), Go(4), Drain(1, 3)]


def test_ten_triggers_are_two_replacements() -> None:
    """All that came after the first wait for one more."""
    game = Game().serving()
    for ticket in range(10):
        game.trigger(ticket)
    assert len(game.handoff.units) == 4
    game.ready(3, 4)
    game.stopped(1, 2)
    game.drained(1, 2)
    assert game.after(0.0) == [Start(5), Start(6)]
    game.ready(5, 6)
    game.stopped(3, 4)
    game.drained(3, 4)
    assert [list(done.tickets) for done in game.outcomes] == [[0], list(range(1, 10))]
    assert game.after(0.0) == []


def test_a_later_trigger_gives_up_what_is_not_ready() -> None:
    """Once: whoever asks again and again would else never get any."""
    game = Game().serving()
    game.trigger(1)
    game.now += game.limits.coalesce_s
    assert game.trigger(2) == [Kill(3), Kill(4), Start(5), Start(6)]
    game.now += game.limits.coalesce_s
    assert game.trigger(3) == []
    game.exited(3, 4)
    game.ready(5, 6)
    game.stopped(1, 2)
    game.drained(1, 2)
    assert [list(done.tickets) for done in game.outcomes] == [[1, 2]]


def test_a_worker_that_is_lost_is_started_again_later_and_later() -> None:
    """At once after it served a while; then after a pause that grows."""
    game = Game().serving()
    game.now += game.limits.steady_s
    game.exited(1)
    assert game.after(0.0) == [Start(3)]
    pauses: list[float] = []
    for key in range(3, 7):
        game.exited(key)
        pause = game.handoff.patience(game.now)
        assert pause is not None
        pauses.append(pause)
        game.after(pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_new_workers_that_end_again_and_again_give_way_to_the_old() -> None:
    """The warm ones serve again, and take what the bad ones have."""
    game = Game().replaced()
    game.exited(3)
    game.after(0.5)
    assert game.exited(4) == [Kill(5), Go(1), Go(2)]
    assert game.states(1) == [State.SERVING, State.SERVING]
    assert game.handoff.current == 1


def test_a_switch_back_waits_for_those_that_serve_to_stop() -> None:
    """As in any flip."""
    game = Game(workers=3, together=3)
    game.ready(1, 2, 3)
    game.trigger()
    game.ready(4, 5, 6)
    game.stopped(1, 2, 3)
    game.exited(4)
    assert game.exited(5) == [Stop(6)]
    assert game.stopped(6) == [Go(1), Go(2), Go(3), Drain(6, 1)]
    assert [done.ok for done in game.outcomes] == [False]
    assert game.drained(6) == [End(6)]


def test_what_is_in_flight_too_long_is_cut() -> None:
    """It is told to end, and killed when it does not; the outcome counts it."""
    game = Game().serving()
    game.trigger()
    game.ready(3, 4)
    game.stopped(1, 2)
    game.drained(1)
    assert game.after(game.limits.drain_s) == [End(2), End(1)]
    assert game.after(game.limits.term_s) == [Kill(1), Kill(2)]
    assert game.outcomes == []
    game.exited(2)
    (done,) = game.outcomes
    assert (done.ok, done.cut) == (True, 1)


def test_a_third_old_generation_cuts_the_oldest() -> None:
    """Streams that last for hours do not keep every generation there ever was."""
    game = Game(workers=1)
    game.ready(1)
    for key in (2, 3, 4):
        game.trigger()
        game.ready(key)
        game.stopped(key - 1)
    assert End(1) in game.moves
    assert [game.handoff.units[key].state for key in (1, 2, 3, 4)] == [
        State.ENDING,
        State.STOPPED,
        State.STOPPED,
        State.SERVING,
    ]


def test_at_the_end_everybody_finishes() -> None:
    """Those which serve stop and drain; those which boot are ended; then it is over."""
    game = Game().serving()
    game.trigger(5)
    assert game.take(game.handoff.end(game.now)) == [
        *(Kill(3), Kill(4)),
        *(Stop(1), Stop(2)),
    ]
    assert not game.outcomes[0].ok
    assert game.stopped(1, 2) == [Drain(1, None), Drain(2, None)]
    assert game.drained(1) == [End(1)]
    assert game.exited(3, 4, 1) == []
    assert game.after(game.limits.stop_s - game.limits.term_s) == [End(2)]
    assert game.after(game.limits.term_s) == [Kill(2)]
    assert game.exited(2) == [Finish()]
    game.trigger(6)
    assert not game.outcomes[1].ok


def test_a_first_generation_that_fails_is_tried_for_ever() -> None:
    """A supervisor does not end because workers fail; new ones are asked for meanwhile."""
    game = Game(workers=1)
    for key in range(1, 9):
        game.exited(key)
        game.after(60.0)
    assert game.moves == [Start(9)]
    assert game.trigger() == [Start(10)]
    assert game.ready(10) == [Kill(9), Go(10)]
    game.exited(9)
    assert [done.ok for done in game.outcomes] == [True]


def test_workers_that_serve_already_are_taken_back() -> None:
    """Those of the last generation; one that is missing, or does not answer, is started again."""
    old = Entry(unit=3, generation=4, slot=0, pid=1, ticks=1)
    one = Entry(unit=7, generation=5, slot=1, pid=2, ticks=1)
    game = Game(serving=[old, one])
    assert game.back == [one]
    assert game.handoff.current == 5
    assert game.moves == [Start(8)]
    assert game.ready(8) == [Go(8)]
    assert game.take(game.handoff.forsake(7, game.now)) == [End(7)]
    game.exited(7)
    assert game.after(1.0) == [Start(9)]
    game.ready(9)
    assert game.trigger() == [Start(10), Start(11)]
    assert game.states(6) == [State.BOOT, State.BOOT]


def test_a_worker_that_is_not_what_was_asked_for() -> None:
    """Its generation is given up, and the old workers have noticed nothing."""
    game = Game().serving()
    game.trigger()
    game.ready(3)
    assert game.take(game.handoff.unfit(4, "ready without FIX-1", game.now)) == [Kill(3), Kill(4)]
    assert [(one.ok, one.reason) for one in game.outcomes] == [(False, "ready without FIX-1")]
    assert game.states(1) == [State.SERVING, State.SERVING]
    assert game.take(game.handoff.unfit(1, "it serves", game.now)) == []


def test_what_new_workers_must_have() -> None:
    """What all tickets of a replacement ask for, with what the agent says of what is not there."""
    needs = Needs()
    needs.note(1, ["FIX-1"])
    needs.note(2, ["FIX-2", "FIX-1"])
    needs.note(3, [])
    assert needs.unmet((1, 2, 3), ["FIX-1", "FIX-2"], []) == ""
    said = needs.unmet((1, 2), ["FIX-1"], ["FIX-9 is held", "FIX-2 is refused: a reason"])
    assert said == "a new worker was ready without FIX-2: FIX-2 is refused: a reason"
    assert "--app" in needs.unmet((1,), [], [])
    needs.forget((1, 2))
    assert needs.unmet((1, 2, 3), [], []) == ""
