"""What this one process is and has; only one transaction at a time changes it.

The memory says what runs here, the journal says what should: `mine` is written to the journal in
the same transaction that explains the change.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.agent.ledger import Applied
from zdpatch.agent.lifecycle import ACTIVE, WANTED_IN, move
from zdpatch.agent.native import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zdpatch.agent.audit import Actor
    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Settings
    from zdpatch.agent.engine import Engine
    from zdpatch.agent.identity import Identity, ProcessKey
    from zdpatch.agent.journal import Journal
    from zdpatch.agent.ledger import Ledger, Wanted
    from zdpatch.agent.lifecycle import State
    from zdpatch.agent.owed import Owed
    from zdpatch.agent.underway import Underway
    from zdpatch.agent.verifier import Verifier

LOG: Final = logging.getLogger("zdpatch")


@dataclass(slots=True)
class Mine:
    """One patch in this process. `until`: unix seconds; `deadline`: it on the steady clock.

    `overdue`: its trial is over, and it could not be taken out yet.
    """

    patch: Wanted
    state: State
    since: float
    until: float | None = None
    deadline: float | None = None
    overdue: bool = False
    not_after: int | None = None  # its fix should be in a release then
    reason: str = ""
    flip_us: float = 0.0
    functions: int = 0
    notices: Sequence[str] = ()


@dataclass(slots=True)
class Here:
    """This process: its parts; by digest what it has, and what the journal was not told of it.

    `probed`: which bundles have passed their probes with which patches in, and what was said.
    """

    identity: Identity
    journal: Journal
    engine: Engine
    verifier: Verifier
    clock: Clock
    settings: Settings
    gate: Callable[[str], None]
    no_apply: bool = False
    parent: ProcessKey | None = None  # the process that this one was forked from
    lock: Lock = field(default_factory=Lock)
    mine: dict[str, Mine] = field(default_factory=dict[str, Mine])
    owed: dict[str, Owed] = field(default_factory=dict[str, "Owed"])
    probed: dict[tuple[str, tuple[str, ...]], list[str]] = field(
        default_factory=dict[tuple[str, tuple[str, ...]], "list[str]"]
    )
    staged: dict[str, bytes] = field(default_factory=dict[str, bytes])
    way: Underway | None = None  # the patch that is on its way in or out
    notices: list[str] = field(default_factory=list[str])
    about: dict[str, str] = field(default_factory=dict[str, str])  # notice -> a patch's id

    def active(self) -> tuple[str, ...]:
        """Ids of the patches that run here."""
        return self.engine.active()

    def runs(self, digest: str) -> Mine | None:
        """What this process has of a patch, if its new code is what runs."""
        mine = self.mine.get(digest)
        return mine if mine is not None and mine.state in ACTIVE else None

    def state_of(self, patch: Wanted) -> State:
        """What a patch is in this process; one that is only wanted is no more than staged."""
        mine = self.mine.get(patch.digest)
        if mine is not None:
            return mine.state
        return "staged" if patch.state in WANTED_IN else patch.state

    def deadline_in(self, until: float | None) -> float | None:
        """A unix time as a reading of the steady clock."""
        return None if until is None else self.clock.steady() + until - self.clock.wall()

    def write(self, ledger: Ledger, mine: Mine, had: State | None, by: Actor) -> None:
        """Put `mine` into the journal's open transaction."""
        row = Applied(mine.patch.digest, mine.state, mine.since, mine.until, mine.reason)
        ledger.have(mine.patch, had, row, by)

    def outstanding(self, mine: Mine) -> Mapping[str, int]:
        """What still runs old code of a patch that is in."""
        return self.engine.outstanding(mine.patch.id)

    def say(self, sentence: str, about: str = "") -> None:
        """Tell the log, and everyone who asks for the status.

        `about` is the id of a patch whose next way in or out, in any build, makes it untrue.
        """
        LOG.warning("%s", sentence)
        if sentence not in self.notices:
            self.notices.append(sentence)
        if about:
            self.about[sentence] = about

    def take_back(self, sentence: str) -> None:
        """It is so no longer."""
        if sentence in self.notices:
            self.notices.remove(sentence)

    def moved(self, patch: str) -> None:
        """A patch came in or went out: what was said of it before is so no longer."""
        for sentence in [one for one, about in self.about.items() if about == patch]:
            del self.about[sentence]
            self.take_back(sentence)


def become(mine: Mine, state: State, since: float, reason: str = "") -> State:
    """Move `mine` in memory; what it was before."""
    before, mine.state = mine.state, move(mine.state, state)
    mine.since, mine.reason = since, reason
    if state != "trial":
        mine.until = mine.deadline = None
        mine.overdue = False
    return before
