"""A patch that goes in or out consistently is followed until it has arrived everywhere, or gone
back where it could not.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent.protocol import Status, StatusResult, Way
from zdpatch.cli.client import label
from zdpatch.cli.fleet import IN_PLACE
from zdpatch.cli.output import clean, count
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zdpatch.agent.home import AgentFile
    from zdpatch.agent.protocol import PatchRow
    from zdpatch.cli.client import Client
    from zdpatch.cli.fleet import Target

ON_THE_WAY: Final = "applying"
_FIRST_S, _MOST_S = 0.02, 1.0
_TOLD: Final = 3


def arrive(
    client: Client, digest: str, targets: Sequence[Target], told: Callable[[str], None]
) -> list[Target]:
    """Watch until no target is on its way. Outcomes: applied, failed, ended.

    Each agent has a limit, so it ends. `told` hears what is waited for, as that changes.
    """
    current = list(targets)
    going = [target.ref for target in current if target.state == ON_THE_WAY]
    for ref, row in watch(client, digest, going, told):
        at = next(i for i, target in enumerate(current) if target.ref is ref)
        current[at] = _arrived(current[at], row)
    return current


def watch(
    client: Client, digest: str, agents: Sequence[AgentFile], told: Callable[[str], None]
) -> Iterator[tuple[AgentFile, PatchRow | None]]:
    """Each agent as soon as the patch is on no way there; None when it does not answer, or the
    patch is not there.
    """
    going: list[AgentFile] = list(agents)
    pause_s, said = _FIRST_S, ""
    while going:
        answers = client.ask(going, Status(), StatusResult)
        ways: list[tuple[AgentFile, Way]] = []
        going = []
        for answer in answers:
            rows = [] if answer.result is None else answer.result.patches
            row = next((each for each in rows if each.digest == digest), None)
            if row is None or row.way is None:
                yield answer.ref, row
            else:
                going.append(answer.ref)
                ways.append((answer.ref, row.way))
        words = waiting(ways)
        if words and words != said:
            told(words)
            said = words
        if going:
            time.sleep(pause_s)
            pause_s = min(_MOST_S, pause_s * 1.5)


def waiting(ways: Sequence[tuple[AgentFile, Way]]) -> str:
    """What is waited for; "" when nothing is known yet."""
    named = [f"{label(ref)}: {name}" for ref, way in ways for name in way.blockers]
    if not named:
        return ""
    number = sum(len(way.blockers) + way.more for _, way in ways)
    more = f" and {number - _TOLD} more" if number > _TOLD else ""
    back = " (goes back)" if any(way.turned for _, way in ways) else ""
    where = count(len(ways), "process", "processes")
    return f"on the way in {where}{back}, waits for {clean(', '.join(named[:_TOLD]))}{more}"


def _arrived(target: Target, row: PatchRow | None) -> Target:
    if row is None:
        return replace(target, outcome="ended", state="")
    if row.state not in IN_PLACE:
        error = ProcessError("ZDP-205", row.reason or f"it is {row.state}")
        return replace(target, outcome="failed", state=row.state, error=error)
    applied = target.applied
    if applied is not None:
        applied = msgspec.structs.replace(applied, state=row.state, until=row.until, way=None)
    return replace(target, state=row.state, applied=applied)
