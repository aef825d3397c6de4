"""`confirm` ends a trial: the patch stays wherever it is on trial."""

from __future__ import annotations

from typing import Final

import click

from zdpatch.agent.protocol import Confirm, ConfirmResult
from zdpatch.cli.actions import Tally, find_agents, look, only
from zdpatch.cli.client import Client
from zdpatch.cli.fleet import IN_PLACE
from zdpatch.cli.options import timeout_option, to_option
from zdpatch.cli.output import Command, Output, count, pass_output
from zdpatch.patcher.errors import ProcessError

SCHEMA: Final = "zdpatch.confirm/v1"


@click.command(
    "confirm",
    cls=Command,
    short_help="Keep a patch that is on trial.",
    examples=["zdpatch confirm SHOP-7", "zdpatch confirm 9f3c41aa --to app=shop"],
)
@click.argument("patch", metavar="PATCH")
@to_option
@timeout_option
@pass_output
def confirm(output: Output, /, *, patch: str, selector: str, timeout_s: float) -> None:
    """Keep PATCH (its id, or 8 characters of its digest) wherever it is on trial."""
    with Client(timeout_s=timeout_s) as client:
        survey = look(client, find_agents(output, selector))
        places = only(survey.found, patch)
        on_trial = [one for one in places if one.patch.state == "trial"]
        if not any(one.patch.state in IN_PLACE for one in places):
            states = ", ".join(sorted({one.patch.state for one in places}))
            raise ProcessError(
                "ZDP-213", f"{patch} is on trial nowhere: it is {states}", next="zdpatch status"
            )
        digest = places[0].patch.digest
        # confirmed everywhere, it may be on trial in a release that does not run now: one is asked
        having = [one for one in places if one.patch.state in IN_PLACE]
        refs = [one.ref for one in on_trial or having[:1]]
        answers = client.ask(refs, Confirm(digest), ConfirmResult)
    tally = Tally("confirm", answers, survey.silent)
    tally.need()
    name = places[0].patch.id
    data: dict[str, object] = {
        "state": "confirmed" if on_trial else "already",
        "id": name,
        "digest": digest,
        "targets": tally.json(),
    }
    number = count(len(on_trial) or len(places), "process", "processes")
    word = "confirmed" if on_trial else "already confirmed"
    output.result(SCHEMA, data, [output.paint(f"{name} is {word} in {number}", "green")])
