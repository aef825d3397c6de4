"""`hold` stops every apply of an application; taking patches out stays possible."""

from __future__ import annotations

from typing import Final

import click

from zdpatch.agent.protocol import Hold, HoldResult
from zdpatch.cli.actions import Tally, find_agents
from zdpatch.cli.client import Client
from zdpatch.cli.options import reason_option, timeout_option, to_option
from zdpatch.cli.output import Command, Output, count, pass_output

SCHEMA: Final = "zdpatch.hold/v1"


@click.command(
    "hold",
    cls=Command,
    short_help="Refuse new patches for a while.",
    examples=['zdpatch hold --to app=shop -m "sale until Monday"', "zdpatch hold --off"],
)
@click.option("--off", is_flag=True, help="Allow patches again.")
@to_option
@reason_option
@timeout_option
@pass_output
def hold(output: Output, /, *, off: bool, selector: str, reason: str, timeout_s: float) -> None:
    """Refuse new patches until `hold --off`; those that are active stay, and can be taken out."""
    agents = find_agents(output, selector)
    with Client(timeout_s=timeout_s) as client:
        answers = client.ask(agents, Hold(on=not off, reason=reason), HoldResult)
    tally = Tally("hold", answers)
    tally.need()
    word = "takes patches again" if off else "is held"
    apps = ", ".join(sorted({ref.app for ref in agents}))
    data: dict[str, object] = {"held": not off, "targets": tally.json()}
    line = f"{apps} {word} ({count(len(agents), 'process', 'processes')})"
    output.result(SCHEMA, data, [line])
