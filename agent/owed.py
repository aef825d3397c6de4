"""What came of a flip, and could not be written, is written before anything else is done.

The disk was full between an intent and its outcome: the memory knows what is so, and the journal
says what was meant. Until it is corrected it would bring up, at the next start, what was given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Owed:
    """One outcome: the name of its transaction, and what writes it."""

    name: str
    write: Callable[[Ledger], None]


def record(here: Here, digest: str, name: str, write: Callable[[Ledger], None]) -> None:
    """Write an outcome; when that cannot be done it is owed. Raises OperatorError ZDP-301."""
    try:
        with here.journal.write(name) as ledger:
            write(ledger)
    except OperatorError:
        here.owed[digest] = Owed(name, write)
        raise
    here.owed.pop(digest, None)


def settle(here: Here) -> None:
    """Write everything that is owed. Raises OperatorError ZDP-301: then the rest is owed still."""
    for digest, owed in list(here.owed.items()):
        record(here, digest, owed.name, owed.write)
