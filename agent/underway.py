"""A patch on its way in or out, consistently: dispatchers are in, and what has begun ends as it
began. One at a time; until it has arrived nothing else moves.

The intent is on disk before, the outcome is written when it has arrived. Killed on the way, the
next process comes up with what was wanted. The way has a limit: then it goes back, or on at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent.here import LOG
from zdpatch.agent.protocol import Way
from zdpatch.patcher.errors import ProcessError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.engine import Entered
    from zdpatch.agent.here import Here, Mine
    from zdpatch.agent.protocol import Consistently, OnLimit

_SHARE: Final = 20  # looking takes one part of so many of the time
_OFTEN_S: Final = 0.005
_SELDOM_S: Final = 1.0
_TOLD: Final = 20  # blockers by name; the rest is counted
_NOT_LEFT: Final = "ZDP-205"


@dataclass(slots=True, eq=False)
class Underway:
    """One way. `arrive` records the outcome of the last flip, `back` that there was none and why.

    `deadline` is a reading of the steady clock, `until` the same in unix seconds.
    """

    mine: Mine
    entered: Entered
    deadline: float
    until: float
    limit_s: float
    on_limit: OnLimit
    arrive: Callable[[Any], None]
    back: Callable[[ZdpatchError], None]
    look_at: float = 0.0
    turned: ZdpatchError | None = None
    blockers: list[str] = field(default_factory=list[str])

    @property
    def told(self) -> Way:
        """What others are told."""
        return Way(
            leaves=self.entered.leaves,
            turned=self.turned is not None,
            until=self.until,
            on_limit=self.on_limit,
            group=list(self.entered.group),
            together=list(self.entered.together),
            blockers=self.blockers[:_TOLD],
            more=max(0, len(self.blockers) - _TOLD),
        )


def set_off(  # noqa: PLR0913 - what, how, and who is told
    here: Here,
    mine: Mine,
    entered: Entered,
    wish: Consistently,
    *,
    arrive: Callable[[Any], None],
    back: Callable[[ZdpatchError], None],
) -> None:
    """The dispatchers are in; what comes next is due at once. Raises what `arrive` raises."""
    limit = float(wish.limit_s or here.settings.consistent_s)
    here.way = Underway(
        mine,
        entered,
        here.clock.steady() + limit,
        here.clock.wall() + limit,
        limit,
        wish.on_limit or here.settings.consistent_on_limit,
        arrive,
        back,
    )
    LOG.info("%s is on its way %s", mine.patch.id, _where(here.way))
    look(here)


def of(here: Here, digest: str) -> Underway | None:
    """The way that a patch is on."""
    way = here.way
    return way if way is not None and way.mine.patch.digest == digest else None


def tend(here: Here) -> bool:
    """Look, if it is time to; whatever fails is said. Whether it is over."""
    way = here.way
    if way is None:
        return True
    if way.look_at > here.clock.steady():
        return False
    try:
        look(here)
    except ZdpatchError as error:
        way.look_at = here.clock.steady() + here.settings.trial_retry_s
        here.say(f"{way.mine.patch.id} was on its way {_where(way)}: {error}", way.mine.patch.id)
    return here.way is None


def look(here: Here) -> None:
    """Go on if nothing is in the way any more; at the limit do what was wished."""
    way, clock = here.way, here.clock
    assert way is not None
    started = clock.steady()
    way.blockers = [str(each) for each in here.engine.blockers()]
    if not way.blockers and _ends(here, way, force=False):
        return
    if clock.steady() >= way.deadline and _limit(here, way):
        return
    pause = _SHARE * (clock.steady() - started)
    way.look_at = clock.steady() + min(_SELDOM_S, max(_OFTEN_S, pause))


def go_back(here: Here, error: ZdpatchError, *, at_once: bool) -> None:
    """Somebody wants it so. Consistently it takes as long again as the limit, at most."""
    way = here.way
    assert way is not None
    if at_once:
        here.engine.abort()
        _was_not(here, way, error)
    elif way.turned is None:
        _turn(here, way, error)


def go_on(here: Here) -> None:
    """At once, whatever is in the way. Raises what the flip, or its outcome, raises."""
    way = here.way
    assert way is not None
    _ends(here, way, force=True)


def _limit(here: Here, way: Underway) -> bool:
    """Whether it is over by that."""
    left = ", ".join(way.blockers[:3])
    code = "new" if way.turned else "old"
    error = ProcessError(
        _NOT_LEFT,
        f"{code} code had not left after {way.limit_s:g} s: {left}",
        next="zdpatch push --consistent with a longer --limit, or without --consistent",
    )
    if way.on_limit == "flip" or way.turned is not None:
        LOG.warning("%s goes %s at once: %s", way.mine.patch.id, _where(way), error)
        return _ends(here, way, force=True)
    _turn(here, way, error)
    return here.way is None


def _turn(here: Here, way: Underway, error: ZdpatchError) -> None:
    here.engine.turn()
    if here.engine.moving() is None:
        _was_not(here, way, error)
        return
    way.turned = error
    way.deadline = here.clock.steady() + way.limit_s
    way.until = here.clock.wall() + way.limit_s
    way.look_at = 0.0


def _ends(here: Here, way: Underway, *, force: bool) -> bool:
    """The last flip, and what came of it; False when something is in the way of it."""
    try:
        done = here.engine.finish(force=force)
    except ProcessError as error:
        if error.code == _NOT_LEFT:
            way.blockers = [error.cause]
            return False
        here.engine.abort()
        _was_not(here, way, error)
        raise
    here.way = None
    if done is None:
        assert way.turned is not None
        _was_not(here, way, way.turned)
    else:
        way.arrive(done)
    return True


def _was_not(here: Here, way: Underway, error: ZdpatchError) -> None:
    here.way = None
    way.back(error)


def _where(way: Underway) -> str:
    return "out" if way.entered.leaves else "in"
