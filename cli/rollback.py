"""`rollback` takes a patch out wherever it runs, and wherever the application wants it.

A process that does not run it now may bring it up at its next start: it is asked as well, so that
"out" is true of what starts later. The newest active patch is meant if none is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from zdpatch.agent.lifecycle import ACTIVE, WANTED_IN
from zdpatch.agent.protocol import Revert, RevertResult
from zdpatch.cli.actions import Found, Tally, find_agents, look, named, only
from zdpatch.cli.arrivals import watch
from zdpatch.cli.client import Answer, Client, label
from zdpatch.cli.errors import usage
from zdpatch.cli.options import consistent_options, consistently, timeout_option, to_option
from zdpatch.cli.output import Command, Output, clean, count, pass_output
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.home import AgentFile

SCHEMA: Final = "zdpatch.rollback/v1"


@click.command(
    "rollback",
    cls=Command,
    short_help="Take a patch out again.",
    examples=["zdpatch rollback", "zdpatch rollback SHOP-7 --to app=shop --consistent"],
)
@click.argument("patch", metavar="[PATCH]", required=False)
@to_option
@consistent_options
@timeout_option
@pass_output
def rollback(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    patch: str | None,
    selector: str,
    consistent: bool,
    limit_s: float | None,
    timeout_s: float,
) -> None:
    """Take PATCH out wherever it is active, or wanted at the next start, or quarantined.

    PATCH is its id, or 8 characters of its digest; without it, the newest active one is meant. It
    goes out at once, without a question; with --consistent what has begun on it ends on it before.
    """
    wish = consistently(limit_s, wanted=consistent)
    with Client(timeout_s=timeout_s) as client:
        agents = find_agents(output, selector)
        survey = look(client, agents)
        if patch is not None and not any(named(one.patch, patch) for one in survey.found):
            silent = {one.ref.agent for one in survey.silent}
            heard = [ref for ref in agents if ref.agent not in silent]
            _sleeping(output, client, heard, patch)
            return
        places = newest(survey.found) if patch is None else only(survey.found, patch)
        concerned = [one for one in places if _runs(one) or _is_wanted(one) or _is_out(one)]
        digest, name = places[0].patch.digest, places[0].patch.id
        # out everywhere, it may be wanted of a release that does not run now: one is asked
        refs = [one.ref for one in concerned or places[:1]]
        asked = client.ask(refs, Revert(digest, wish), RevertResult)
        going = [one.ref for one in asked if one.result is not None and one.result.way is not None]
        for _ in watch(client, digest, going, output.progress):
            pass
        answers = [one for one in asked if concerned or one.error is not None]
    tally = Tally("rollback", answers, survey.silent)
    tally.need()
    data: dict[str, object] = {
        "state": "reverted" if concerned else "already",
        "id": name,
        "digest": digest,
        "targets": tally.json(),
    }
    output.result(SCHEMA, data, _lines(output, name, answers, len(places)))


def _sleeping(output: Output, client: Client, agents: Sequence[AgentFile], name: str) -> None:
    """A patch of a release of which no process runs: one of the application is asked to want it no
    more. Raises ProcessError ZDP-212.
    """
    apps = sorted({ref.app for ref in agents})
    answer = client.ask(agents[:1], Revert(name), RevertResult)[0] if len(apps) == 1 else None
    if answer is None or answer.result is None:
        narrower = f"zdpatch rollback {name} --to app={apps[0]}" if apps else ""
        follow = narrower if len(apps) > 1 else "zdpatch status"
        raise ProcessError("ZDP-212", f"no process has a patch {name}", next=follow)
    found = answer.result
    data: dict[str, object] = {
        "state": "reverted",
        "id": found.id,
        "digest": found.digest,
        "targets": Tally("rollback", [answer]).json(),
    }
    words = f"{found.id} ran in no process, and no release wants it any more"
    output.result(SCHEMA, data, [output.paint(clean(words), "green")])


def newest(found: Sequence[Found]) -> list[Found]:
    """Where the newest active patch is; if none runs, the newest that would come back.

    Raises ZDP-213 (there is none), ZDP-001 (applications differ).
    """
    active = [one for one in found if _runs(one)] or [
        one for one in found if _is_wanted(one) and one.patch.state != "absorbed"
    ]
    if not active:
        raise ProcessError("ZDP-213", "no patch is active", next="zdpatch status")
    apps = sorted({one.ref.app for one in active})
    if len(apps) > 1:
        raise usage(
            f"patches are active in {', '.join(apps)}; say which one goes out",
            next=f"zdpatch rollback --to app={apps[0]}",
        )
    last = max(active, key=lambda one: (one.patch.since, one.patch.seq))
    return [one for one in found if one.patch.digest == last.patch.digest]


def _runs(one: Found) -> bool:
    return one.patch.state in ACTIVE


def _is_wanted(one: Found) -> bool:
    """Whether a process that starts would bring it up, or try to."""
    return one.patch.wanted in WANTED_IN


def _is_out(one: Found) -> bool:
    """Whether it was quarantined: taking it out by hand says that somebody knows."""
    return "quarantined" in (one.patch.state, one.patch.wanted)


def _lines(
    output: Output, name: str, answers: Sequence[Answer[RevertResult]], places: int
) -> list[str]:
    if not answers:
        return [f"{name} is out already in {count(places, 'process', 'processes')}"]
    flips = [answer.result.flip_us for answer in answers if answer.result is not None]
    took = f", flip {max(flips):.0f} µs" if any(flips) else ""
    number = count(len(answers), "process", "processes")
    done = f"is out of {number}{took}"
    if not any(flips):
        done = f"ran in none of {number}, and is not wanted any more"
    lines = [output.paint(f"{name} {done}", "green")]
    for answer in answers:
        born = {} if answer.result is None else answer.result.born_on_trial
        if born:
            what = ", ".join(f"{clean(path)} ({n})" for path, n in sorted(born.items()))
            lines.append(f"born on trial and still there in {label(answer.ref)}: {what}")
    return lines
