"""`replace` ends well when new workers serve, and says what became of the old ones' connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from zdpatch.agent import wire
from zdpatch.cli import errors
from zdpatch.cli.output import Command, Output, clean, pass_output
from zdpatch.cli.supervisors import find_supervisor, heard
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Final = "zdpatch.replace/v1"


@click.command(
    "replace",
    cls=Command,
    short_help="Replace the workers of a service.",
    examples=["zdpatch replace", "zdpatch replace shop --wait"],
)
@click.argument("name", default="")
@click.option("--wait", is_flag=True, help="Until the last old connection is served.")
@pass_output
def replace(output: Output, /, *, name: str, wait: bool) -> None:
    """Replace the workers of a service that `zdpatch run` started.

    The old workers serve until all new ones are ready, and if those do not get ready, they serve
    on (exit 6).
    """
    place = find_supervisor(output.home, name)
    for message in heard(place, wire.Ask("replace", wait=wait)):
        if isinstance(message, wire.Done):
            _end(output, message)
            return
        if isinstance(message, wire.Event):
            if not wait:
                data: dict[str, object] = {"begun": True, "done": None}
                output.result(SCHEMA, data, ["begun:  zdpatch status"])
                return
            output.progress(clean(phase_line(message)))
    raise ProcessError(
        "ZDP-406",
        "the supervisor ended before it answered",
        state="What it did is unknown.",
        next="zdpatch status",
    )


def phase_line(event: wire.Event) -> str:
    """One phase, for people."""
    phases = {
        "boot": f"generation {event.generation}: {event.done} of {event.of} workers ready",
        "flip": f"generation {event.generation}: all ready; the old workers stop accepting",
        "drain": "the old workers finish",
        "serves": f"generation {event.generation} serves",
    }
    return phases.get(event.phase, f"generation {event.generation}: {event.detail}")


def _end(output: Output, done: wire.Done) -> None:
    if not done.ok:
        lines = [done.reason, *done.output.splitlines()[-20:]]
        raise ProcessError(
            "ZDP-503",
            "\n".join(clean(line) for line in lines),
            state="Nothing was replaced.",
        )
    data = {"begun": True, "done": msgspec.to_builtins(done)}
    output.result(SCHEMA, data, list(done_lines(done)))
    output.exit(errors.DONE)


def done_lines(done: wire.Done) -> Iterator[str]:
    """How a replacement ended, for people."""
    yield f"generation {done.generation} serves"
    yield f"  ready in {done.ready_s:.2f} s, flip {done.flip_ms:.1f} ms"
    yield f"  drained in {done.drain_s:.2f} s"
    yield f"  connections: {done.handed} handed over, {done.closed} closed"
    yield f"  workers cut with something in flight: {done.cut}"
