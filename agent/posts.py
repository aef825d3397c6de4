"""A connection of a worker is known by its process; a worker is all its connections together.

One worker may be one process, or a leader and those which it forks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.agent import passing, wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Post:
    """One process that serves, or leads those which do."""

    channel: socket.socket
    pid: int
    hello: wire.Hello
    ready: bool = False
    stopped: bool = False
    drained: bool = False
    active: list[str] = field(default_factory=list[str])
    agent: list[str] = field(default_factory=list[str])

    def fileno(self) -> int:
        """For a selector."""
        return self.channel.fileno()

    def say(self, message: wire.Message, fds: tuple[int, ...] = ()) -> bool:
        """Say it; False when nobody hears: its process is ending."""
        try:
            passing.send(self.channel, wire.encode(message), fds)
        except OSError:
            return False
        return True


class Posts:
    """The connections of one worker."""

    def __init__(self) -> None:
        self._leader: Post | None = None
        self.serving: Final[list[Post]] = []
        self.told_ready = False  # it said so by itself, with NOTIFY_SOCKET
        self.gated = False  # it accepts when it is told, and not before

    def __iter__(self) -> Iterator[Post]:
        yield from self.serving
        if self._leader is not None:
            yield self._leader

    def add(self, post: Post) -> None:
        """One more."""
        if post.hello.leads:
            self._leader = post
        else:
            self.serving.append(post)
            self.gated = post.hello.gated

    def remove(self, post: Post) -> None:
        """Its process ended, or is ending."""
        if post is self._leader:
            self._leader = None
        else:
            self.serving.remove(post)
        post.channel.close()

    def close(self) -> None:
        """The worker is gone."""
        for post in self:
            with contextlib.suppress(OSError):
                post.channel.close()

    @property
    def led(self) -> bool:
        """Whether those which serve may end, and it goes on."""
        return self._leader is not None

    @property
    def ready(self) -> bool:
        """Whether all of it that is to serve could."""
        wanted = 1 if self._leader is None else self._leader.hello.leads
        if not self.serving and self._leader is None:
            return self.told_ready  # by itself: it has no adapter
        return sum(post.ready for post in self.serving) >= wanted

    @property
    def stopped(self) -> bool:
        """Whether none of it accepts; one that ended accepts nothing."""
        return all(post.stopped for post in self.serving)

    @property
    def drained(self) -> bool:
        """Whether none of it has anything in flight."""
        return all(post.drained for post in self.serving)

    @property
    def adapter(self) -> str:
        """Its adapter's name; "" while it has not said anything."""
        return next((post.hello.adapter for post in self), "")

    @property
    def lacks(self) -> str:
        """What its adapter cannot do."""
        return next((post.hello.lacks for post in self if post.hello.lacks), "")

    @property
    def troubles(self) -> list[str]:
        """What its agents say is not as it should be, each once."""
        return list(dict.fromkeys(said for post in self.serving for said in post.agent))

    @property
    def active(self) -> list[str]:
        """The patches that all of it has."""
        sets = [set(post.active) for post in self.serving]
        return sorted(sets[0].intersection(*sets[1:])) if sets else []


def introduce(post: Post, order: wire.Drain, taker: Post) -> bool:
    """Have `post` drain into `taker`; False when there is no descriptor left for that."""
    try:
        onward, incoming = passing.pair()
    except OSError:
        return False
    with onward, incoming:
        heard = taker.say(wire.Adopt(), (incoming.fileno(),))
        return heard and post.say(order, (onward.fileno(),))
