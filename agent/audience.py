"""Whoever waits for a replacement hears each phase and how it ended; so does the log."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.agent import moves, passing, wire
from zdpatch.agent.announcing import Announcer
from zdpatch.agent.sockets import address_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from zdpatch.agent.child import Process
    from zdpatch.agent.fleet import Fleet
    from zdpatch.agent.handoff import Handoff
    from zdpatch.agent.posts import Posts

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Audience:
    """The operators who wait, by ticket; `say` is the log."""

    def __init__(
        self, fleet: Fleet, listeners: Sequence[socket.socket], say: Callable[[str], None]
    ) -> None:
        """Takes NOTIFY_SOCKET out of the environment."""
        self._announcer: Final = Announcer(os.environ)
        self._fleet: Final = fleet
        self._listeners: Final = listeners
        self._say: Final = say
        self._waiting: Final[dict[int, socket.socket]] = {}
        self._counts: Final[dict[int, tuple[int, int]]] = {}  # by old generation
        self._last_ticket = 0
        self._last = ""

    def nobody(self) -> int:
        """A ticket that nobody waits with."""
        self._last_ticket += 1
        return self._last_ticket

    def ticket(self, channel: socket.socket, *, wait: bool) -> int:
        """A ticket for whoever asks over `channel`; without `wait` it is told that it begins."""
        ticket = self.nobody()
        if wait:
            self._waiting[ticket] = channel
        else:
            self.reply(channel, wire.Event("begun", 0, 0, self._fleet.workers, ""))
        return ticket

    def ending(self) -> None:
        """It was told to end."""
        self._announcer.ending()

    def reply(self, channel: socket.socket, message: wire.Message) -> None:
        """The one and last answer."""
        with contextlib.suppress(OSError):
            passing.send(channel, wire.encode(message))
        channel.close()

    def count(self, generation: int, drained: wire.Drained) -> None:
        """What an old worker did with its connections."""
        handed, closed = self._counts.get(generation, (0, 0))
        self._counts[generation] = handed + drained.handed, closed + drained.closed

    def progress(self, move: moves.Progress) -> None:
        """Tell everybody."""
        event = wire.Event(move.phase, move.generation, move.done, move.of, move.detail)
        for ticket, channel in list(self._waiting.items()):
            try:
                passing.send(channel, wire.encode(event))
            except OSError:  # it went away; the replacement goes on
                self._waiting.pop(ticket).close()
        if move.phase == "boot" and not move.done:
            self._announcer.replacing()
        elif move.phase == "serves":
            self._announcer.serving(f"generation {move.generation}, {move.of} workers")
        if move.phase in ("lost", "back"):
            self._say(f"generation {move.generation}: {move.detail}")

    def outcome(self, move: moves.Outcome, output: str) -> None:
        """Tell those who waited for this one, and the log."""
        handed, closed = self._counts.pop(move.old, (0, 0))
        done = wire.Done(
            ok=move.ok,
            generation=move.generation,
            reason=move.reason,
            output=output,
            ready_s=move.ready_s,
            flip_ms=move.flip_ms,
            drain_s=move.drain_s,
            handed=handed,
            closed=closed,
            cut=move.cut,
        )
        self._last = words(done)
        self._say(self._last)
        if not move.ok:
            self._announcer.serving(self._last)
        for ticket in move.tickets:
            channel = self._waiting.pop(ticket, None)
            if channel is not None:
                self.reply(channel, done)

    def shown(
        self,
        handoff: Handoff,
        children: Mapping[int, Process],
        posts: Mapping[int, Posts],
        now: float,
    ) -> wire.Shown:
        """How the fleet is."""
        rows = [
            _row(unit, children[unit.key].pid, posts[unit.key], now)
            for unit in handoff.units.values()
            if unit.key in children and unit.key in posts
        ]
        return wire.Shown(
            name=self._fleet.name,
            pid=os.getpid(),
            generation=handoff.current,
            binds=[str(address_of(listener)) for listener in self._listeners],
            wanted=self._fleet.workers,
            workers=rows,
            warm=handoff.warm,
            last=self._last,
        )


def words(done: wire.Done) -> str:
    """How a replacement ended, in one line."""
    if not done.ok:
        return f"generation {done.generation} is not used: {done.reason}"
    return (
        f"generation {done.generation} serves: ready in {done.ready_s:.2f} s, flip"
        f" {done.flip_ms:.1f} ms, drained in {done.drain_s:.2f} s; {done.handed} connections"
        f" handed over, {done.closed} closed, {done.cut} workers cut"
    )


def _row(unit: moves.Unit, pid: int, posts: Posts, now: float) -> wire.WorkerRow:
    return wire.WorkerRow(
        pid=pid,
        generation=unit.generation,
        slot=unit.slot,
        state=str(unit.state),
        age_s=now - unit.since,
        adapter=posts.adapter,
        memory=_memory(pid),
        waits_for=_waits_for(unit, posts),
        started_with=posts.active,
        lacks=posts.lacks,
    )


def _waits_for(unit: moves.Unit, posts: Posts) -> str:
    match unit.state:
        case moves.State.BOOT:
            return "its server" if posts.adapter else "a server that can be told, or READY=1"
        case moves.State.READY:
            return "the other new workers"
        case moves.State.STOPPED:
            return "its time: it is kept warm" if unit.drained else "connections in flight"
        case moves.State.STOPPING | moves.State.ENDING:
            return "its process"
        case _:
            return ""


def _memory(pid: int) -> int:
    """Resident bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
