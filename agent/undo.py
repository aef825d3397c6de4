"""A patch goes out whole, and its way out waits for nothing: not for a journal, not for room.

An undo is wanted from the moment its intent is on disk. Where nothing can be written, the patch
goes out of this process all the same; the journal is owed it, and the answer says so.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent import intake, owed, underway
from zdpatch.agent.here import LOG, Mine, become
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.protocol import RevertResult
from zdpatch.patcher.errors import OperatorError, ProcessError, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.engine import Undone
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger, Wanted
    from zdpatch.agent.lifecycle import State
    from zdpatch.agent.protocol import Consistently, Revert

# it cannot be taken out of this process, and so must not come up in the next
_STUCK = frozenset({"ZDP-209", "ZDP-218"})
_INTENDED = "wanted out in the journal."
_UNWRITTEN = (
    "still in by the journal, until there is room to correct that: a process that starts before"
    " brings it up."
)


@dataclass(frozen=True, slots=True)
class _Exit:
    """Who takes what out, by which verb ("revert" or "expire"), and why.

    `over`: the time of its trial is over. `since`: of an exit that is written later, when what was
    wanted then had been decided.
    """

    mine: Mine
    by: Actor
    verb: str
    reason: str
    over: bool = True
    since: float | None = None

    def intend(self, ledger: Ledger) -> Wanted:
        """The patch is not wanted any more, unless that was decided anew since; what was before."""
        now = ledger.find(self.mine.patch.digest)
        assert now is not None
        ends = self.verb == "revert" or self._is_last(ledger, now)
        decided_anew = self.since is not None and now.since != self.since
        if now.state in WANTED_IN and ends and not decided_anew:
            ledger.want(now, "reverted", until=None, reason=self.reason, by=self.by)
            if self.verb == "revert":
                ledger.want_elsewhere(now.digest, "reverted", self.by)
        ledger.note(self.by, self.verb, "begun", patch=now, detail=self.reason)
        return now

    def _is_last(self, ledger: Ledger, now: Wanted) -> bool:
        """Whether the end of this process's trial is that of the application's: nobody confirmed
        it, and nobody has time left, whatever the clock of the day says.
        """
        over = now.until is None or now.until <= ledger.now + 1
        alone = self.over and not ledger.others_have(now.digest)
        return now.state != "confirmed" and (over or alone)


def revert(here: Here, header: Revert, by: Actor) -> RevertResult:
    """Take a patch out, and want it out.

    Raises ProcessError ZDP-204, ZDP-212, nothing changed; ZDP-209, only what is wanted; and
    OperatorError ZDP-301, the patch out.
    """
    with contextlib.suppress(OperatorError):
        owed.settle(here)
    try:
        patch = _find(here, header.patch)
    except ProcessError:
        return _out_of_sleeping(here, header.patch, by)
    if underway.of(here, patch.digest) is not None:
        return _redirect(here, patch, header, by)
    mine = here.runs(patch.digest)
    if mine is None:
        owed.settle(here)
        return _want_out(here, patch, by)
    if header.consistent is not None:
        return _set_off(here, mine, header.consistent, by)
    return _told(here, mine, take_out(here, mine, by=by, verb="revert", reason=""))


def _redirect(here: Here, patch: Wanted, header: Revert, by: Actor) -> RevertResult:
    """A patch that is on its way in goes back; one that is on its way out goes on."""
    way = underway.of(here, patch.digest)
    assert way is not None
    if not way.entered.leaves:
        error = ProcessError("ZDP-205", f"{by} took it back on its way in")
        underway.go_back(here, error, at_once=header.consistent is None)
        if here.way is None:
            return _want_out(here, patch, by)
    elif header.consistent is None:
        underway.go_on(here)
    return _told(here, way.mine, None)


def _set_off(here: Here, mine: Mine, wish: Consistently, by: Actor) -> RevertResult:
    """Take a patch out by and by. It is wanted out from now on, and at the limit it goes at once.
    Raises as `take_out`, and Refused.
    """
    leaving = _Exit(mine, by, "revert", "")
    with here.journal.write("revert.intent") as ledger:
        before = leaving.intend(ledger)
    try:
        entered = here.engine.begin_revert(mine.patch.id)
    except Exception as error:
        _stay(here, leaving, before, error)
        raise
    here.gate("revert.entered")
    mine.deadline = None  # it is on its way out already
    done: list[Undone] = []

    def arrive(undone: Undone) -> None:
        done.append(undone)
        _went_out(here, leaving, intended=True)

    def back(error: ZdpatchError) -> None:
        mine.deadline = here.deadline_in(mine.until)
        _stay(here, leaving, before, error)

    forced = msgspec.structs.replace(wish, on_limit="flip")
    underway.set_off(here, mine, entered, forced, arrive=arrive, back=back)
    return _told(here, mine, done[0] if done else None)


def _told(here: Here, mine: Mine, undone: Undone | None) -> RevertResult:
    way = underway.of(here, mine.patch.digest)
    return RevertResult(
        mine.patch.digest,
        mine.patch.id,
        mine.state,
        0.0 if undone is None else undone.flip_us,
        {} if undone is None else dict(undone.born_on_trial),
        None if way is None else way.told,
    )


def _find(here: Here, ref: str) -> Wanted:
    """In the journal; one that cannot be read hides nothing that runs here."""
    try:
        with here.journal.read() as ledger:
            return intake.find(ledger, ref)
    except OperatorError:
        running = [mine.patch for mine in here.mine.values() if here.runs(mine.patch.digest)]
        named = [one for one in running if ref.upper() == one.id or ref.lower() == one.digest]
        if len(named) != 1:
            raise
        return named[0]


def _out_of_sleeping(here: Here, ref: str, by: Actor) -> RevertResult:
    """A patch that this release has never seen, and another one wants of which no process runs.
    Raises ProcessError ZDP-212.
    """
    with here.journal.read() as ledger:
        sleeping = [one for release in ledger.sleeping() for one in ledger.wanted(release)]
    wanted = {one.digest: one for one in sleeping if one.state in WANTED_IN}
    patch = intake.named([*wanted.values()], ref)
    with here.journal.write("revert.intent") as ledger:
        ledger.want_elsewhere(patch.digest, "reverted", by)
        ledger.note(by, "revert", "ok", patch=patch, detail="no process of its release runs")
    return RevertResult(patch.digest, patch.id, "reverted", 0.0, {})


def _want_out(here: Here, patch: Wanted, by: Actor) -> RevertResult:
    """The patch does not run here; a process that starts later must not bring it back."""
    state: State = "staged" if patch.state == "staged" else "reverted"
    with here.journal.read() as ledger:
        elsewhere = ledger.asleep_with(patch.digest)
    if patch.state != state or patch.digest in here.mine or elsewhere:
        with here.journal.write("revert.intent") as ledger:
            now = ledger.find(patch.digest)
            assert now is not None
            if now.state not in ("staged", "reverted"):
                ledger.want(now, "reverted", until=None, reason="", by=by)
            ledger.want_elsewhere(patch.digest, "reverted", by)
            ledger.lose(patch.digest)
            ledger.note(by, "revert", "ok", patch=now, detail="it did not run here")
        here.mine.pop(patch.digest, None)
        here.moved(patch.id)
    return RevertResult(patch.digest, patch.id, state, 0.0, {})


def take_out(  # noqa: PLR0913 - what, who, why
    here: Here, mine: Mine, *, by: Actor, verb: str, reason: str, over: bool = True
) -> Undone:
    """Undo a patch that runs here. `verb` is "revert", or "expire": its trial is `over`, or the
    agent ends before.

    Raises ProcessError ZDP-209, the process unchanged; OperatorError ZDP-301, the patch out.
    """
    leaving = _Exit(mine, by, verb, reason, over=over)
    try:
        with here.journal.write(f"{verb}.intent") as ledger:
            before = leaving.intend(ledger)
    except OperatorError as error:
        LOG.error("%s goes out, and that cannot be written: %s", mine.patch.id, error)
        leaving = replace(leaving, since=_decided(here, mine))
        return _undo(here, leaving, None, intended=False)
    return _undo(here, leaving, before, intended=True)


def _decided(here: Here, mine: Mine) -> float | None:
    """When what is wanted of a patch was decided; None when that cannot be read either."""
    try:
        with here.journal.read() as ledger:
            now = ledger.find(mine.patch.digest)
    except OperatorError:
        return None
    return None if now is None else now.since


def follow(here: Here, mine: Mine, reason: str) -> bool:
    """Take out what is not wanted any more; False when it is wanted again. Raises as `take_out`."""
    with here.journal.write("revert.intent") as ledger:
        now = ledger.find(mine.patch.digest)
        if now is None or now.state in WANTED_IN:
            return False
        ledger.note(SYSTEM, "revert", "begun", patch=now, detail=reason)
    leaving = _Exit(mine, SYSTEM, "revert", reason)
    _undo(here, leaving, None, intended=True)
    return True


def _undo(here: Here, leaving: _Exit, before: Wanted | None, *, intended: bool) -> Undone:
    """The flip between intent and outcome. One that fails leaves wanted what was `before`, unless
    only another process can be without the patch.
    """
    mine = leaving.mine
    try:
        undone = here.engine.revert(mine.patch.id)
    except Exception as error:
        stuck = leaving.verb == "revert" and getattr(error, "code", "") in _STUCK
        if stuck and isinstance(error, ZdpatchError):
            rest = "out of what starts from now on." if intended else _UNWRITTEN
            error.state = f"{mine.patch.id} is in this process, and {rest}"
        if intended:
            _stay(here, leaving, None if stuck else before, error)
        raise
    _went_out(here, leaving, intended=intended)
    return undone


def _went_out(here: Here, leaving: _Exit, *, intended: bool) -> None:
    """The outcome of a flip. Raises OperatorError ZDP-301, the patch out."""
    mine = leaving.mine
    here.gate(f"{leaving.verb}.flipped")
    had = become(mine, "reverted", here.clock.wall(), leaving.reason)
    here.moved(mine.patch.id)
    LOG.info("%s is out", mine.patch.id)
    _record_exit(here, leaving, had, intended=intended)


def _stay(here: Here, leaving: _Exit, before: Wanted | None, error: Exception) -> None:
    """The undo failed: what was wanted is wanted again. None: it is wanted out all the same."""
    patch, verb = leaving.mine.patch, leaving.verb
    code = error.code if isinstance(error, ZdpatchError) else "ZDP-901"

    def write(ledger: Ledger) -> None:
        now = ledger.find(patch.digest)
        if before is not None and now is not None and now.state in ("reverted", before.state):
            ledger.restore(before)
        ledger.note(leaving.by, verb, code, patch=patch, detail=str(error))

    try:
        owed.record(here, patch.digest, f"{verb}.outcome", write)
    except OperatorError as failure:
        LOG.error("the journal still says that %s goes out: %s", patch.id, failure)


def _record_exit(here: Here, leaving: _Exit, had: State, *, intended: bool) -> None:
    mine, verb = leaving.mine, leaving.verb

    def write(ledger: Ledger) -> None:
        if not intended:
            leaving.intend(ledger)
        here.write(ledger, mine, had, leaving.by)
        outcome = "ZDP-501" if verb == "expire" else "ok"
        ledger.note(leaving.by, verb, outcome, patch=mine.patch, detail=mine.reason)

    try:
        owed.record(here, mine.patch.digest, f"{verb}.outcome", write)
    except OperatorError as error:
        raise OperatorError(
            error.code,
            error.cause,
            state=f"{mine.patch.id} is out of this process, and"
            f" {_INTENDED if intended else _UNWRITTEN}",
            next=error.next,
        ) from error
