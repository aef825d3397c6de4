"""What an agent does without being asked: catch up with what is wanted, follow it, end trials.

Whatever cannot be done now (a full disk, a journal somebody moved) is tried again, each time after
a longer pause, and said meanwhile; it takes the word back when it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent import expiry, owed, replay, trials, underway
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.config import Settings
    from zdpatch.agent.here import Here


class Backoff:
    """Pauses between attempts, in seconds: each twice the one before, up to a limit."""

    def __init__(self, settings: Settings) -> None:
        self._first: Final = settings.retry_first_s
        self._most: Final = settings.retry_most_s
        self._next = self._first

    def pause(self) -> float:
        """How long to wait after one more failure."""
        now, self._next = self._next, min(self._most, 2 * self._next)
        return now

    def reset(self) -> None:
        """It worked."""
        self._next = self._first


class Duties:
    """Of one process; used under `here.lock`. `trouble` is why the journal cannot be followed."""

    def __init__(self, here: Here) -> None:
        self._here: Final = here
        self._backoff: Final = Backoff(here.settings)
        self._caught_up = False
        self._look_at: float | None = None  # what is wanted is gone through then (steady clock)
        self._young_until: Final = here.clock.steady() + here.settings.young_s
        self._undecided = False  # a push had begun when this process looked
        self._mend_at = 0.0  # files that patches serve are looked at then
        self._said = ""
        self.entered = False  # this process has rows in the journal
        self.trouble = ""

    def catch_up(self, limit_s: float | None) -> None:
        """Enter the journal, and have what is wanted; what `limit_s` cuts off comes in later."""
        here = self._here
        try:
            if not self.entered:
                replay.enter(here)
                self.entered = True
            owed.settle(here)
            if here.way is not None:
                self.look_again()
                return
            followed = replay.agree(here)
            complete = replay.bring_up(here, limit_s)
            self._undecided = replay.undecided(here)
        except ZdpatchError as error:
            self._fail(error)
            return
        self._recover()
        self._caught_up = True
        self._look_at = None
        if not complete:
            self.look_again()
        elif not followed:
            self._look_at = here.clock.steady() + here.settings.trial_retry_s

    def look_again(self) -> None:
        """What is wanted may have changed unnoticed: go through it at the next opportunity."""
        self._look_at = self._here.clock.steady()

    def tend(self) -> None:
        """Do what is due."""
        here = self._here
        if here.way is not None:
            if not underway.tend(here):
                return  # nothing else can move now
            self.look_again()
        if here.engine.waits:
            here.engine.settle()
        if here.owed and self._look_at is None:
            self.look_again()
        if self._look_at is None:
            self._follow()
        if self._look_at is not None and self._look_at <= here.clock.steady():
            self.catch_up(None)
        self._mend()
        expiry.warn(here)
        try:
            trials.expire(here)
        except Exception as error:  # noqa: BLE001 - the deadline was moved: it is tried again
            here.say(f"a trial could not be ended: {error}")

    def patience(self) -> float | None:
        """Seconds until something is due; None when nothing ever is."""
        here = self._here
        if here.way is not None:
            return max(0.0, here.way.look_at - here.clock.steady())
        due = [trials.next_deadline(here), self._look_at]
        if here.engine.waits or self._follows():
            due.append(here.clock.steady() + here.settings.follow_s)
        if here.owed and self._look_at is None:
            due.append(here.clock.steady())
        times = [at for at in due if at is not None]
        return max(0.0, min(times) - here.clock.steady()) if times else None

    def _mend(self) -> None:
        """Data files that patches serve are put back when somebody has changed them."""
        here = self._here
        if self._mend_at > here.clock.steady():
            return
        self._mend_at = here.clock.steady() + here.settings.follow_s
        for each in here.engine.mend():
            said = f"{each.patch}: somebody has changed or removed {each.path}, which it serves; "
            still = f"it cannot be put back: {each.why}"
            here.say(said + (still if each.why else "it was put back"), each.patch)

    def _follow(self) -> None:
        """A process that was stopped, or not asked, has what was taken out of the others; one that
        nobody found yet when a push began has what that brought.
        """
        here = self._here
        if not self._follows():
            return
        try:
            changed = here.journal.changed()
        except ZdpatchError as error:
            self._fail(error)
            return
        if changed:
            self.look_again()

    def _follows(self) -> bool:
        """Whether to look. A push asks the processes that it found when it began: one born then has
        to look itself. An idle process that nothing was pushed to wakes nobody.
        """
        here = self._here
        if self._undecided and here.clock.steady() < self._young_until:
            return True
        return any(here.runs(digest) for digest in here.mine)

    def _fail(self, error: ZdpatchError) -> None:
        begun = "what is wanted was not looked at" if self._caught_up else "no patch was brought up"
        said = f"{begun}: {error}"
        if said != self._said:
            self._here.take_back(self._said)
            self._here.say(said)
        self._said, self.trouble = said, str(error)
        self._look_at = self._here.clock.steady() + self._backoff.pause()

    def _recover(self) -> None:
        self._here.take_back(self._said)
        self._said = self.trouble = ""
        self._backoff.reset()
