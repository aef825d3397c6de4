"""Whoever asks for new workers may say which patches they must have; workers without them are not
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Needs:
    """What each ticket asks for."""

    def __init__(self) -> None:
        self._by_ticket: Final[dict[int, Sequence[str]]] = {}

    def note(self, ticket: int, patches: Sequence[str]) -> None:
        """This one asks for these."""
        if patches:
            self._by_ticket[ticket] = patches

    def forget(self, tickets: Collection[int]) -> None:
        """They have their answer."""
        for ticket in tickets:
            self._by_ticket.pop(ticket, None)

    def unmet(
        self, tickets: Collection[int], active: Collection[str], troubles: Sequence[str]
    ) -> str:
        """What a worker with these patches lacks, as a sentence with what its agent says of it; ""
        when it has all that the tickets ask for.
        """
        asked = {patch for ticket in tickets for patch in self._by_ticket.get(ticket, ())}
        lacking = sorted(asked.difference(active))
        if not lacking:
            return ""
        about = [said for said in troubles if any(patch in said for patch in lacking)]
        why = "; ".join(about or troubles) or "no agent brought it up: is there an --app?"
        return f"a new worker was ready without {', '.join(lacking)}: {why}"
