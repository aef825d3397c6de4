"""A patch only ever makes the moves of one table; every other move is a bug and raises.

The same words serve twice: for what the operator wants of an application (`patches` in the journal)
and for what one process has (`applied`).
"""

from __future__ import annotations

from typing import Final, Literal

from zdpatch.patcher.errors import BugError

State = Literal[
    "staged",
    "applying",
    "trial",
    "confirmed",
    "reverted",
    "superseded",
    "absorbed",
    "quarantined",
    "refused",
]

MOVES: Final[dict[State, frozenset[State]]] = {
    "staged": frozenset({"applying", "refused", "absorbed", "superseded"}),
    # a failed flip leads back to where the patch was
    "applying": frozenset({"trial", "confirmed", "refused", "staged", "reverted", "quarantined"}),
    # a restarted process applies again; a crash counts against the patch
    "trial": frozenset(
        {"applying", "confirmed", "reverted", "quarantined", "superseded", "absorbed", "refused"}
    ),
    "confirmed": frozenset(
        {"applying", "reverted", "quarantined", "superseded", "absorbed", "refused"}
    ),
    "reverted": frozenset({"applying", "staged", "refused"}),
    "superseded": frozenset({"applying", "absorbed", "reverted", "refused"}),
    "absorbed": frozenset({"applying", "superseded", "reverted", "refused"}),
    "refused": frozenset({"applying", "staged", "reverted", "superseded", "absorbed"}),
    "quarantined": frozenset({"reverted"}),
}

ACTIVE: Final[frozenset[State]] = frozenset({"trial", "confirmed"})
"""What one process has: the new code is what runs."""

WANTED_IN: Final[frozenset[State]] = frozenset({"applying", "trial", "confirmed"})
"""What is wanted of an application: a process that starts brings these up."""


def move(old: State, new: State) -> State:
    """`new`, when a patch in state `old` may go there or is there; else BugError ZDP-901."""
    if new != old and new not in MOVES[old]:
        raise BugError("ZDP-901", f"a patch cannot go from {old} to {new}")
    return new
