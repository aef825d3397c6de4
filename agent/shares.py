"""What peers have not finished takes memory: each user has a share of it, and each step its time.

Nobody waits for others' memory: who held most for longest ends, and never for somebody else's sake
where that is root or the service's own user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zdpatch.agent.clock import Clock


class Holder(Protocol):
    """A connection whose peer has not finished something."""

    @property
    def uid(self) -> int: ...
    @property
    def held(self) -> int:
        """Bytes in memory."""
        ...

    @property
    def since(self) -> float:
        """When the unfinished began, in seconds; now or later where nothing is."""
        ...


H = TypeVar("H", bound=Holder)


def one_to_end(
    holders: Iterable[H], now: float, *, share: int, total: int, first: frozenset[int]
) -> H | None:
    """Who must end, so that no user holds more than `share` bytes and all together `total`.

    Within a user's share it is one of that user's. Beyond the total, one of the user who holds
    most: users in `first` only when nobody else holds anything.
    """
    users: dict[int, list[H]] = {}
    for holder in holders:
        if holder.held:
            users.setdefault(holder.uid, []).append(holder)
    sums = {uid: sum(one.held for one in theirs) for uid, theirs in users.items()}
    for uid, held in sums.items():
        if held > share:
            return max(users[uid], key=lambda one: _weight([one], now))
    if sum(sums.values()) <= total:
        return None
    candidates = [users[uid] for uid in users if uid not in first] or list(users.values())
    heaviest = max(candidates, key=lambda theirs: _weight(theirs, now))
    return max(heaviest, key=lambda one: _weight([one], now))


def _weight(holders: Iterable[Holder], now: float) -> tuple[float, int]:
    """Byte seconds: whoever stalls grows heavier; then bytes."""
    theirs = list(holders)
    return (
        sum(one.held * max(0.0, now - one.since) for one in theirs),
        sum(one.held for one in theirs),
    )


class Rounds:
    """The time that peers were given: a round of reading counts, but for `most_s` at most.

    A process that was stopped, or busy with something else, read nothing meanwhile: that is no
    peer's fault. However slow the machine, a peer is read so often before its time is over.
    """

    def __init__(self, clock: Clock, most_s: float) -> None:
        self._clock: Final = clock
        self.most_s: Final = most_s
        self._last = clock.steady()
        self.now = 0.0

    def turn(self) -> None:
        """One more round ended."""
        at = self._clock.steady()
        self.now += min(at - self._last, self.most_s)
        self._last = at
