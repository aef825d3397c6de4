"""The supervisor's loop does not wait for anybody, and does not end because workers fail.

Facts come in through one selector; `handoff` decides; what it decides is done here.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from zdpatch.agent import launching, moves, roster, sockets, wire
from zdpatch.agent.audience import Audience
from zdpatch.agent.handoff import Handoff
from zdpatch.agent.identity import start_ticks
from zdpatch.agent.loop import Loop, reap_strangers
from zdpatch.agent.needs import Needs
from zdpatch.agent.posts import Posts, introduce
from zdpatch.agent.readiness import is_in_tree
from zdpatch.agent.reception import Reception
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from zdpatch.agent.child import Process
    from zdpatch.agent.clock import Clock
    from zdpatch.agent.fleet import Fleet
    from zdpatch.agent.moves import Move
    from zdpatch.agent.posts import Post
    from zdpatch.agent.readiness import Notice

_LOOK_S: Final = 0.2  # how often what new workers print is shown
_SERVE: Final = (moves.State.SERVING, moves.State.STOPPING)
_KNOCKING_S: Final = 3.0  # workers without a supervisor knock five times a second


class Supervisor:
    """Runs one fleet from its first worker to its last."""

    def __init__(self, fleet: Fleet, listeners: list[socket.socket], clock: Clock) -> None:
        """`listeners`: those which systemd handed over. Raises OSError."""
        self._fleet: Final = fleet
        self._listeners: Final = listeners
        self._clock: Final = clock
        self._handoff: Final = Handoff(fleet.workers, fleet.limits, lambda: random.uniform(0.5, 1))  # noqa: S311
        self._children: Final[dict[int, Process]] = {}
        self._posts: Final[dict[int, Posts]] = {}
        self._audience: Final = Audience(fleet, listeners, self._say)
        self._loop: Final = Loop()
        self._reception: Final = Reception(wire.Place(fleet.directory), self._loop, self)
        self._early: Final[list[int]] = []  # tickets from before it began
        self._needs: Final = Needs()
        self._begun = False
        self._over = False

    def run(self) -> None:
        """Until it is told to end, and all workers have. Raises ZDP-008 before the first starts."""
        try:
            with self._loop.signals(self._signalled):
                self._take_back()
                self._listen()
                self._do(self._handoff.begin(self._clock.steady()))
                self._begun = True
                for ticket in self._early:
                    self._trigger(ticket)
                while not self._over:
                    self._turn()
        finally:
            self._reception.close()
            self._loop.close()
            if self._over:
                sockets.shut(self._listeners)
            else:  # workers may serve on with these
                sockets.forget(self._listeners)

    def _turn(self) -> None:
        patience = self._handoff.patience(self._clock.steady())
        if any(unit.state is moves.State.BOOT for unit in self._handoff.units.values()):
            patience = _LOOK_S if patience is None else min(patience, _LOOK_S)
        self._loop.turn(patience)
        self._show_output()
        self._do(self._handoff.tick(self._clock.steady()))

    # -- what a killed supervisor left ----------------------------------------------------------

    def _take_back(self) -> None:
        """Workers that serve without a supervisor knock: wait for those, and their listeners."""
        entries = roster.living(self._fleet.directory)
        now = self._clock.steady()
        for entry in self._handoff.take_back(entries, now):
            process = entry.process()
            if process is None:
                self._do(self._handoff.exited(entry.unit, "ended", now))
                continue
            self._children[entry.unit], self._posts[entry.unit] = process, Posts()
            self._loop.watch(process, self._ending(entry.unit))
        end = now + _KNOCKING_S
        while (left := end - self._clock.steady()) > 0:
            if all(posts.ready for posts in self._posts.values()):
                break
            self._loop.turn(left)
        for unit in [unit for unit, posts in self._posts.items() if not posts.ready]:
            self._do(self._handoff.forsake(unit, self._clock.steady()))
        if entries:
            back = sum(posts.ready for posts in self._posts.values())
            self._say(f"took {back} of {len(entries)} workers back that served without supervisor")

    def _listen(self) -> None:
        """Listeners of systemd first, then as --bind says: given back by a worker, or bound now."""
        back = sockets.match(self._reception.returned or [], self._fleet.binds)
        self._reception.returned = None
        self._listeners.extend(
            back.pop(address) if address in back else sockets.bind(address)
            for address in self._fleet.binds
        )
        if not self._listeners:
            raise OperatorError(
                "ZDP-001", "there is nothing to listen on", next="zdpatch run --bind ADDR ..."
            )

    # -- what is decided is done ----------------------------------------------------------------

    def _do(self, decided: Iterable[Move]) -> None:
        """Do these moves, and those that doing them leads to."""
        waiting = deque(decided)
        while waiting:
            waiting.extend(self._one(waiting.popleft()))

    def _one(self, move: Move) -> list[Move]:
        match move:
            case moves.Start(unit):
                return self._start(unit)
            case moves.Go(unit):
                self._enter()
                for post in self._posts[unit]:
                    post.stopped = post.drained = False
                    post.say(wire.Go())
            case moves.Stop(unit):
                return self._stop(unit)
            case moves.Drain(unit, to):
                self._drain(unit, to)
            case moves.End(unit) | moves.Kill(unit):
                child = self._children.get(unit)  # None: it could not be started meanwhile
                if child is not None and isinstance(move, moves.End):
                    child.signal(signal.SIGTERM)
                elif child is not None:
                    child.signal(signal.SIGKILL, group=True)
            case moves.Progress():
                self._audience.progress(move)
            case moves.Outcome():
                child = None if move.unit is None else self._children.get(move.unit)
                self._audience.outcome(move, "" if child is None else child.output.tail)
                self._needs.forget(move.tickets)
            case moves.Finish():
                self._over = True
        return []

    def _start(self, unit: int) -> list[Move]:
        self._posts[unit] = Posts()
        row, notify = self._handoff.units[unit], self._reception.environ_value
        try:
            child = launching.start(self._fleet, row, self._listeners, notify)
        except OSError as error:
            del self._posts[unit]
            why = f"could not be started: {self._fleet.command[0]}: {error.strerror}"
            return self._handoff.exited(unit, why, self._clock.steady())
        self._children[unit] = child
        self._loop.watch(child, self._ending(unit))
        return []

    def _enter(self) -> None:
        """Have it on the disk who serves."""
        entries: list[roster.Entry] = []
        for key, child in self._children.items():
            unit, ticks = self._handoff.units.get(key), start_ticks(child.pid)
            if unit is not None and ticks and unit.state in _SERVE:
                entry = roster.Entry(key, unit.generation, unit.slot, child.pid, ticks)
                entries.append(entry)
        roster.write(self._fleet.directory, entries)

    def _stop(self, unit: int) -> list[Move]:
        posts = self._posts[unit]
        if posts.gated:
            for post in posts:
                post.say(wire.Stop())
            return []
        # it cannot be told; it stops when it is told to end
        return self._handoff.stopped(unit, self._clock.steady())

    def _drain(self, unit: int, to: int | None) -> None:
        posts = self._posts[unit]
        if not posts.gated:
            self._children[unit].signal(signal.SIGTERM)
            return
        limits = self._fleet.limits
        order = wire.Drain(limits.spread_s, limits.linger_s)
        takers = [] if to is None else self._posts[to].serving
        for index, post in enumerate(posts.serving):
            if not takers or not introduce(post, order, takers[index % len(takers)]):
                post.say(order)
        for post in posts:
            if post not in posts.serving:
                post.say(order)  # who leads them knows how it is

    # -- what happens ---------------------------------------------------------------------------

    def _signalled(self, numbers: set[int]) -> None:
        if {signal.SIGTERM, signal.SIGINT} & numbers:
            self._audience.ending()
            self._do(self._handoff.end(self._clock.steady()))
        elif signal.SIGHUP in numbers:
            self._trigger(self._audience.nobody())
        if signal.SIGCHLD in numbers:
            self._reap_strangers()

    def _reap_strangers(self) -> None:
        if os.getpid() == 1:
            reap_strangers({child.pid for child in self._children.values()})

    def _ending(self, unit: int) -> Callable[[], None]:
        return lambda: self._ended(unit)

    def _ended(self, unit: int) -> None:
        child = self._children[unit]
        ended = child.reap()
        if ended is None:
            return
        self._loop.unwatch(child)
        self._show_output()
        posts, now = self._posts.pop(unit), self._clock.steady()
        if not posts.gated and self._handoff.units[unit].state is moves.State.STOPPED:
            self._do(self._handoff.drained(unit, now))  # it finished by itself
        for post in posts:
            self._loop.unwatch(post)
        posts.close()
        self._do(self._handoff.exited(unit, str(ended), now))
        del self._children[unit]
        self._enter()
        child.close()
        self._reap_strangers()  # those behind it

    def _show_output(self) -> None:
        for child in self._children.values():
            new = child.output.take()
            if new:
                sys.stderr.buffer.write(new)
                sys.stderr.buffer.flush()

    def noted(self, unit: int, notice: Notice) -> None:
        """It needs longer, or is ready."""
        if notice.extend_s:
            self._handoff.extend(unit, notice.extend_s, self._clock.steady())
        if notice.ready:
            self._posts[unit].told_ready = True
            self._count_ready(unit)

    def unit_of(self, pid: int) -> int | None:
        """Which worker a process belongs to, by descent."""
        for unit, child in self._children.items():
            if is_in_tree(pid, child.pid):
                return unit
        return None

    def came(self, unit: int, post: Post) -> None:
        """One more process of a worker."""
        self._posts[unit].add(post)

    def left(self, unit: int, post: Post) -> None:
        """One less: when it is all of the worker, that says how it ended."""
        self._posts[unit].remove(post)
        if self._posts[unit].led:
            self._count_quiet(unit)

    def said(self, unit: int, post: Post, said: wire.Said) -> None:
        """Ready, stopped, drained."""
        match said:
            case wire.Ready():
                post.ready, post.active, post.agent = True, said.active, said.agent
                self._count_ready(unit, post)
            case wire.Stopped():
                post.stopped = True
                self._count_quiet(unit)
            case wire.Drained():
                post.drained = True
                self._audience.count(self._handoff.units[unit].generation, said)
                self._count_quiet(unit)
            case wire.Worn():
                self._relieve(unit, said.reason)
            case _:
                pass

    def _relieve(self, unit: int, reason: str) -> None:
        """A worker that serves asks for a successor: all get one, once."""
        serves = self._handoff.units[unit].generation == self._handoff.current
        if serves and self._handoff.green is None:
            self._say(f"workers are replaced: {reason}")
            self._trigger(self._audience.nobody())

    def _count_ready(self, unit: int, post: Post | None = None) -> None:
        posts, state = self._posts[unit], self._handoff.units[unit].state
        if state is moves.State.BOOT and posts.ready:
            green, now = self._handoff.green, self._clock.steady()
            tickets = () if green is None else green.tickets
            if unmet := self._needs.unmet(tickets, posts.active, posts.troubles):
                self._do(self._handoff.unfit(unit, unmet, now))
            if unit in self._handoff.units:
                self._do(self._handoff.ready(unit, now))
        elif post is not None and state is moves.State.SERVING:
            if not post.hello.orphan:
                post.say(wire.Go())  # its leader made another one
        elif post is not None and state in (moves.State.STOPPING, moves.State.STOPPED):
            post.stopped = post.drained = True

    def _count_quiet(self, unit: int) -> None:
        posts, now = self._posts[unit], self._clock.steady()
        if posts.stopped:
            self._do(self._handoff.stopped(unit, now))
            if posts.drained and unit in self._handoff.units:
                self._do(self._handoff.drained(unit, now))

    # -- who asks -------------------------------------------------------------------------------

    def asked(self, channel: socket.socket, ask: wire.Ask) -> None:
        """Answer, at once or when it is done."""
        now = self._clock.steady()
        match ask.what:
            case "status":
                shown = self._audience.shown(self._handoff, self._children, self._posts, now)
                self._audience.reply(channel, shown)
            case "replace":
                ticket = self._audience.ticket(channel, wait=ask.wait)
                self._needs.note(ticket, ask.needs)
                self._trigger(ticket)
            case _:
                channel.close()

    def _trigger(self, ticket: int) -> None:
        if self._begun:
            self._do(self._handoff.trigger(ticket, self._clock.steady()))
        else:
            self._early.append(ticket)

    def _say(self, line: str) -> None:
        sys.stderr.write(f"zdpatch: {line}\n")
        sys.stderr.flush()
