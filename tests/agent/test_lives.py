"""Whatever operators do and whenever processes die, code and journal tell the same story."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zdpatch.agent import trials
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.protocol import History
from zdpatch.patcher.errors import BugError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.agent.conftest import Desk

ACTIONS = (
    "stage",
    "apply",
    "apply and confirm",
    "confirm",
    "revert",
    "wait",
    "crash",
    "leave",
    "hold",
    "lift",
)


def act(desk: Desk, action: str, raw: bytes, digest: str) -> Desk:
    """Do one thing; the desk of the process that lives after it."""
    if action == "stage":
        desk.stage(raw)
    elif action in ("apply", "apply and confirm"):
        desk.apply(digest, confirm=action != "apply", trial_s=100)
    elif action == "confirm":
        desk.confirm(digest)
    elif action == "revert":
        desk.revert(digest)
    elif action == "wait":
        desk.clock.tick(40)
        trials.expire(desk.here)
    elif action == "crash":
        return desk.restart()
    elif action == "leave":
        desk.leave()
        return desk.another()
    else:
        with desk.here.journal.write("hold") as ledger:
            (ledger.lift() if action == "lift" else ledger.hold(SYSTEM, "freeze"))
    return desk


def check(desk: Desk, digest: str) -> None:
    """Code, memory and journal agree."""
    runs = desk.state(digest) in ("trial", "confirmed")
    assert (desk.vat == b"VAT = 2\n") == runs
    assert desk.here.active() == (("FIX-1",) if runs else ())
    # one process only: what runs is what is wanted
    assert runs == (desk.wanted(digest) in ("trial", "confirmed"))
    assert (trials.next_deadline(desk.here) is not None) == (desk.state(digest) == "trial")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=16))
def test_any_life(new_desk: Callable[[], AbstractContextManager[Desk]], actions: list[str]) -> None:
    """After every action, refused or not, they agree; at the end the audit chain holds."""
    with new_desk() as first:
        desk = first
        raw = desk.fix()
        digest = desk.stage(raw)
        for action in actions:
            try:
                desk = act(desk, action, raw, digest)
            except BugError:
                raise
            except ZdpatchError:
                pass
            check(desk, digest)
        with desk.here.journal.read() as ledger:
            assert ledger.history(History(audit=True)).broken_at is None
        with contextlib.suppress(ZdpatchError):
            desk.revert(digest)
        assert desk.vat == b"VAT = 1\n"
