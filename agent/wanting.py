"""A patch can be wanted of workers that start from now on, while the ones that run stay as they
are: for edits that cannot go in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zdpatch.agent import intake, owed
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.preflight import preflight
from zdpatch.agent.protocol import WantResult
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.here import Here
    from zdpatch.agent.protocol import Want


def want(here: Here, header: Want, by: Actor) -> WantResult:
    """Want a staged patch, on trial: whoever starts brings it up. This process is not changed.

    Raises ProcessError ZDP-204, ZDP-212, ZDP-213, ZDP-303, Refused ZDP-217, what `stage` raises,
    and ZDP-301.
    """
    owed.settle(here)
    patch, bundle = intake.load(here, header.digest)
    intake.check_allowed(here, patch)
    preflight(here, bundle)
    with here.journal.write("want") as ledger:
        now = ledger.find(patch.digest)
        if now is None:
            raise ProcessError("ZDP-212", f"{patch.id} is not staged here any more")
        ledger.learn(now.digest, now.seq)
        until = ledger.now + (header.trial_s or here.settings.trial_s)
        if now.state not in WANTED_IN:
            ledger.take_place(now.digest)
            ledger.want(now, "applying", until=until, reason=header.reason, by=by)
            now = replace(now, state="applying", until=None)
        if now.state != "confirmed":
            until = max(until, now.until or 0)
            ledger.want(now, "trial", until=until, reason=header.reason, by=by)
            now = replace(now, state="trial", until=until)
        words = f"of workers that start from now on; {header.reason}".removesuffix("; ")
        ledger.note(by, "want", "ok", patch=now, detail=words)
    return WantResult(now.digest, now.id, now.state, now.until)
