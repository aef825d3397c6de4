"""Nobody gets more than a stated rate, however many processes or connections they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zdpatch.agent.clock import Clock

_USERS: Final = 256  # users remembered at once


class Buckets:
    """One token bucket per user: `rate_per_s` sustained, `burst` at once."""

    def __init__(self, rate_per_s: float, burst: int, clock: Clock) -> None:
        self._rate: Final = rate_per_s
        self._burst: Final = burst
        self._clock: Final = clock
        self._levels: Final[dict[int, tuple[float, float]]] = {}

    def take(self, uid: int) -> bool:
        """One token of user `uid`; False when there is none."""
        now = self._clock.steady()
        level, at = self._levels.pop(uid, (float(self._burst), now))
        level = min(float(self._burst), level + (now - at) * self._rate)
        granted = level >= 1
        self._levels[uid] = (level - 1 if granted else level, now)
        if len(self._levels) > _USERS:
            del self._levels[next(iter(self._levels))]
        return granted
