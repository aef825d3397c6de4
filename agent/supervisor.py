"""The supervisor's loop does not wait for anybody, and does not end because workers fail.

Facts come in through one selector; `handoff` decides; what it decides is done here.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from zdpatch.agent import moves, passing, wire
from zdpatch.agent.audience import Audience
from zdpatch.agent.boarding import ENVIRON
from zdpatch.agent.child import Child
from zdpatch.agent.handoff import Handoff
from zdpatch.agent.posts import Post, Posts
from zdpatch.agent.readiness import NotifySocket, is_in_tree
from zdpatch.agent.sockets import environment
from zdpatch.agent.worker import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.fleet import Fleet
    from zdpatch.agent.moves import Move

_LOOK_S: Final = 0.2  # how often what new workers print is shown
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Runs one fleet from its first worker to its last."""

    def __init__(self, fleet: Fleet, listeners: Sequence[socket.socket], clock: Clock) -> None:
        self._fleet: Final = fleet
        self._listeners: Final = listeners
        self._clock: Final = clock
        self._place: Final = wire.Place(fleet.directory)
        self._handoff: Final = Handoff(fleet.workers, fleet.limits, lambda: random.uniform(0.5, 1))  # noqa: S311
        self._children: Final[dict[int, Child]] = {}
        self._posts: Final[dict[int, Posts]] = {}
        self._audience: Final = Audience(fleet, listeners, self._say)
        self._selector: Final = selectors.DefaultSelector()
        self._notify: Final = NotifySocket()
        self._watched: Final[dict[object, Callable[[], None]]] = {}
        self._over = False

    def run(self) -> None:
        """Until it is told to end, and all workers have."""
        meeting = self._place.listen()
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _noted) for number in _SIGNALS}
        try:
            self._watch(meeting, lambda: self._meet(meeting))
            self._watch(woken, lambda: self._signalled(woken))
            self._watch(self._notify, self._heard_notice)
            self._do(self._handoff.begin(self._clock.steady()))
            while not self._over:
                self._turn()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for one in (meeting, woken, wake, self._notify, self._selector):
                one.close()

    def _turn(self) -> None:
        patience = self._handoff.patience(self._clock.steady())
        if any(unit.state is moves.State.BOOT for unit in self._handoff.units.values()):
            patience = _LOOK_S if patience is None else min(patience, _LOOK_S)
        for key, _ in self._selector.select(patience):
            then = self._watched.get(key.fileobj)
            if then is not None:  # what came before may have closed it
                then()
        self._show_output()
        self._do(self._handoff.tick(self._clock.steady()))

    def _watch(self, one: Any, then: Callable[[], None]) -> None:  # noqa: ANN401 - has fileno
        self._selector.register(one, selectors.EVENT_READ)
        self._watched[one] = then

    def _unwatch(self, one: Any) -> None:  # noqa: ANN401 - has fileno
        self._selector.unregister(one)
        del self._watched[one]

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
                for post in self._posts[unit]:
                    post.stopped = post.drained = False
                    post.say(wire.Go())
            case moves.Stop(unit):
                return self._stop(unit)
            case moves.Drain(unit, to):
                self._drain(unit, to)
            case moves.End(unit):
                self._children[unit].signal(signal.SIGTERM)
            case moves.Kill(unit):
                self._children[unit].signal(signal.SIGKILL, group=True)
            case moves.Progress():
                self._audience.progress(move)
            case moves.Outcome():
                child = None if move.unit is None else self._children.get(move.unit)
                self._audience.outcome(move, "" if child is None else child.output.tail)
            case moves.Finish():
                self._over = True
        return []

    def _start(self, unit: int) -> list[Move]:
        told = Told(
            place=str(self._fleet.directory),
            unit=unit,
            listeners=len(self._listeners),
            app=self._fleet.app,
        )
        environ = {
            **os.environ,
            **environment(self._listeners),
            **self._fleet.environ(),
            "NOTIFY_SOCKET": self._notify.environ_value,
            "ZDPATCH_GENERATION": str(self._handoff.units[unit].generation),
            ENVIRON: msgspec.json.encode(told).decode(),
        }
        self._posts[unit] = Posts()
        try:
            child = Child(self._fleet.command, environ, self._listeners)
        except OSError as error:
            del self._posts[unit]
            why = f"could not be started: {self._fleet.command[0]}: {error.strerror}"
            return self._handoff.exited(unit, why, self._clock.steady())
        self._children[unit] = child
        self._watch(child, lambda: self._ended(unit))
        return []

    def _stop(self, unit: int) -> list[Move]:
        posts = self._posts[unit]
        if posts.gated:
            for post in posts.serving:
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
            if takers:
                onward, incoming = passing.pair()
                with onward, incoming:
                    takers[index % len(takers)].say(wire.Adopt(), (incoming.fileno(),))
                    post.say(order, (onward.fileno(),))
            else:
                post.say(order)

    # -- what happens ---------------------------------------------------------------------------

    def _signalled(self, woken: socket.socket) -> None:
        numbers = set(woken.recv(256))
        if {signal.SIGTERM, signal.SIGINT} & numbers:
            self._do(self._handoff.end(self._clock.steady()))
        elif signal.SIGHUP in numbers:
            self._do(self._handoff.trigger(self._audience.nobody(), self._clock.steady()))
        if signal.SIGCHLD in numbers and os.getpid() == 1:
            self._reap_strangers()

    def _reap_strangers(self) -> None:
        """As process 1 it has children that it never started."""
        own = {child.pid for child in self._children.values()}
        while True:
            try:
                status = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if status is None or status.si_pid in own:
                return  # ours is reaped through its pidfd
            os.waitid(os.P_PID, status.si_pid, os.WEXITED)

    def _ended(self, unit: int) -> None:
        child = self._children[unit]
        ended = child.reap()
        if ended is None:
            return
        self._unwatch(child)
        self._show_output()
        posts, now = self._posts.pop(unit), self._clock.steady()
        if not posts.gated and self._handoff.units[unit].state is moves.State.STOPPED:
            self._do(self._handoff.drained(unit, now))  # it finished by itself
        for post in posts:
            self._unwatch(post)
        posts.close()
        self._do(self._handoff.exited(unit, str(ended), now))
        del self._children[unit]
        child.close()

    def _show_output(self) -> None:
        for child in self._children.values():
            new = child.output.take()
            if new:
                sys.stderr.buffer.write(new)
                sys.stderr.buffer.flush()

    def _heard_notice(self) -> None:
        while (notice := self._notify.receive()) is not None:
            unit = self._unit_of(notice.sender.pid)
            if unit is None:
                continue
            if notice.extend_s:
                self._handoff.extend(unit, notice.extend_s, self._clock.steady())
            if notice.ready:
                self._posts[unit].told_ready = True
                self._count_ready(unit)

    def _unit_of(self, pid: int) -> int | None:
        """Which worker a process belongs to, by descent."""
        for unit, child in self._children.items():
            if is_in_tree(pid, child.pid):
                return unit
        return None

    def _meet(self, meeting: socket.socket) -> None:
        channel, _ = meeting.accept()
        channel.setblocking(False)
        if passing.peer(channel).uid not in (0, os.geteuid()):
            channel.close()
            return
        self._watch(channel, lambda: self._introduced(channel))

    def _introduced(self, channel: socket.socket) -> None:
        """The first thing that is said tells a worker from an operator."""
        self._unwatch(channel)
        try:
            with passing.receive(channel) as packet:
                said = wire.decode(packet.data)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            channel.close()
            return
        if isinstance(said, wire.Ask):
            self._answer(channel, said)
        elif isinstance(said, wire.Hello):
            self._welcome(channel, said)
        else:
            channel.close()

    def _welcome(self, channel: socket.socket, hello: wire.Hello) -> None:
        pid = passing.peer(channel).pid
        unit = self._unit_of(pid)
        if unit is None or unit != hello.unit:
            channel.close()
            return
        post = Post(channel, pid, hello)
        self._posts[unit].add(post)
        self._watch(post, lambda: self._heard(unit, post))

    def _heard(self, unit: int, post: Post) -> None:
        try:
            with passing.receive(post.channel) as packet:
                said = None if packet.ended else wire.decode(packet.data)
        except BlockingIOError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            said = None
        now = self._clock.steady()
        if said is None:
            self._unwatch(post)
            self._posts[unit].remove(post)
            if not self._posts[unit].led:
                return  # its process says how it ended
        elif isinstance(said, wire.Ready):
            post.ready, post.active, post.agent = True, said.active, said.agent
            self._count_ready(unit, post)
            return
        elif isinstance(said, wire.Stopped):
            post.stopped = True
        elif isinstance(said, wire.Drained):
            post.drained = True
            self._audience.count(self._handoff.units[unit].generation, said)
        self._count_quiet(unit, now)

    def _count_ready(self, unit: int, post: Post | None = None) -> None:
        posts, state = self._posts[unit], self._handoff.units[unit].state
        if state is moves.State.BOOT and posts.ready:
            self._do(self._handoff.ready(unit, self._clock.steady()))
        elif post is not None and state is moves.State.SERVING:
            post.say(wire.Go())  # its leader made another one
        elif post is not None and state in (moves.State.STOPPING, moves.State.STOPPED):
            post.stopped = post.drained = True

    def _count_quiet(self, unit: int, now: float) -> None:
        posts = self._posts[unit]
        if posts.stopped:
            self._do(self._handoff.stopped(unit, now))
            if posts.drained and unit in self._handoff.units:
                self._do(self._handoff.drained(unit, now))

    # -- who asks -------------------------------------------------------------------------------

    def _answer(self, channel: socket.socket, ask: wire.Ask) -> None:
        now = self._clock.steady()
        match ask.what:
            case "status":
                shown = self._audience.shown(self._handoff, self._children, self._posts, now)
                self._audience.reply(channel, shown)
            case "replace":
                ticket = self._audience.ticket(channel, wait=ask.wait)
                self._do(self._handoff.trigger(ticket, now))
            case _:
                channel.close()

    def _say(self, line: str) -> None:
        sys.stderr.write(f"zdpatch: {line}\n")
        sys.stderr.flush()


def _noted(number: int, frame: object) -> None:
    """Python needs a handler to write to the wakeup descriptor."""
