"""A patch that is past its end is debt, and is said to be; it is never taken out for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.agent.lifecycle import ACTIVE
from zdpatch.patcher.trust import stale

if TYPE_CHECKING:
    from zdpatch.agent.here import Here


def warn(here: Here) -> None:
    """Tell log and status, once for each patch, that its fix should be in a release by now."""
    now = here.clock.wall()
    for mine in here.mine.values():
        if mine.state in ACTIVE and mine.not_after is not None and mine.not_after < now:
            sentence = stale(mine.patch.id, mine.not_after)
            if sentence not in here.notices:
                here.say(sentence, mine.patch.id)
            here.about[sentence] = mine.patch.id  # a replay says it before the patch is in
