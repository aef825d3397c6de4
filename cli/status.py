"""`status` shows what every process says of itself, and is not content while processes differ."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.protocol import Status, StatusResult
from zdpatch.cli import errors
from zdpatch.cli.absent import absent
from zdpatch.cli.actions import no_agents
from zdpatch.cli.client import Answer, Client, label
from zdpatch.cli.fleet import IN_PLACE, facts
from zdpatch.cli.options import show_duration, timeout_option, to_option
from zdpatch.cli.output import Command, Output, clean, count, pass_output, table
from zdpatch.cli.select import chosen, discover, parse_selector
from zdpatch.cli.supervisors import fleet_lines, fleet_troubles, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zdpatch.agent.protocol import PatchRow

SCHEMA: Final = "zdpatch.status/v1"
Row = Answer[StatusResult]
_HEAD: Final = ("APP", "PID", "PY", "AGENT", "STATE", "PATCHES", "NOTE")


@click.command(
    "status",
    cls=Command,
    short_help="Show the running processes and their patches.",
    examples=[
        "zdpatch status",
        "zdpatch status --to app=shop --detail",
        "zdpatch status --require CVE-2025-27516",
    ],
)
@to_option
@click.option("--require", multiple=True, metavar="CVE", help="Exit 9 while a process lacks it.")
@click.option("--detail", is_flag=True, help="Every patch, and what still runs old code.")
@timeout_option
@pass_output
def status(
    output: Output,
    /,
    *,
    selector: str,
    require: tuple[str, ...],
    detail: bool,
    timeout_s: float,
) -> None:
    """Show the running processes and their patches, and the workers of each service.

    Exit 9 while processes of an application differ, one does not answer, or lacks a fix that
    --require names; 5 when there is none, and a journal has patches.
    """
    everyone = discover(output.home)
    selected = parse_selector(selector)
    agents = chosen(everyone, selected)
    if not agents and (require or selector):
        raise no_agents(output, selector, everyone)
    with Client(timeout_s=timeout_s) as client:
        rows = client.ask(agents, Status(detail=detail), StatusResult)
    lacking = {fix: [row for row in rows if not has_fix(row, fix)] for fix in require}
    gone = absent(output.home, selected, {ref.app for ref in everyone})
    fleets = [] if selector else shown(output.home)
    troubles = [*_troubles(rows, lacking), *fleet_troubles(fleets)]
    troubles += [one.words() for one in gone if one.wrong or not rows]
    state, code = ("degraded", errors.DEGRADED) if troubles else ("ok", errors.DONE)
    if gone and not rows:
        state, code = "unreached", errors.UNREACHED
    data: dict[str, object] = {
        "state": state,
        "troubles": troubles,
        "lacking": {fix: [row.ref.agent for row in who] for fix, who in lacking.items() if who},
        "agents": [agent_json(row) for row in rows],
        "absent": [one.json() for one in gone],
        "fleets": [msgspec.to_builtins(fleet) for fleet in fleets],
    }
    lines = _detail_lines(output, rows) if detail else _table(rows)
    lines += [line for fleet in fleets for line in fleet_lines(fleet)]
    output.result(SCHEMA, data, [*lines, *_closing(output, rows, troubles)])
    output.exit(code)


def has_fix(row: Row, fix: str) -> bool:
    """Whether a fix is in this process: by an active patch, or absorbed by its release."""
    wanted = fix.upper()
    return row.result is not None and any(
        patch.state in IN_PLACE
        and not patch.set_back
        and wanted in {name.upper() for name in patch.fixes}
        for patch in row.result.patches
    )


def agent_json(row: Row) -> dict[str, object]:
    """One process as `--json` shows it."""
    result: dict[str, Any] = {"patches": [], "held": None, "warnings": [], "children": []}
    if row.result is not None:
        result = msgspec.to_builtins(row.result)
    error = None if row.error is None else errors.error_json(row.error)["error"]
    return {**facts(row.ref, row.agent), **result, "error": error}


def _troubles(rows: Sequence[Row], lacking: dict[str, list[Row]]) -> list[str]:
    """What is not as it should be, as sentences."""
    found = [row.error.cause for row in rows if row.error is not None]
    for app in sorted({row.ref.app for row in rows}):
        sets = {_running(row) for row in rows if row.ref.app == app and row.result is not None}
        if len(sets) > 1:
            found.append(f"processes of {app} run different patches")
    for row in rows:
        patches = [] if row.result is None else row.result.patches
        if row.result is not None and (afresh := row.result.children):
            number = count(len(afresh), "child process runs", "child processes run")
            found.append(f"{label(row.ref)}: {number} the base, without any patch")
        found += [f"{label(row.ref)}: {words}" for patch in patches for words in _wrong(patch)]
    for fix, who in lacking.items():
        if who:
            found.append(f"ZDP-306: {fix} is missing in {', '.join(label(row.ref) for row in who)}")
    return found


def _wrong(patch: PatchRow) -> Iterator[str]:
    """What is not as is wanted of the application, or should not run."""
    if patch.state == "quarantined":
        yield f"{patch.id} is quarantined (zdpatch rollback {patch.id} acknowledges it)"
    elif patch.way is None and (patch.state in IN_PLACE) != (patch.wanted in IN_PLACE | WANTED_IN):
        yield f"{patch.id} is {patch.state} here, and {patch.wanted} for the application"
    if patch.overdue:
        yield f"{patch.id}: {patch.reason}"
    if patch.doubt:
        yield f"{patch.id} runs, and its bundle would be refused now: {patch.doubt}"
    if patch.set_back:
        yield f"{patch.id} is not all in any more; somebody has changed {', '.join(patch.set_back)}"
    for path in patch.damaged:
        yield f"{patch.id} serves {path}, and somebody has changed or removed that file since"


def _running(row: Row) -> frozenset[str]:
    assert row.result is not None
    return frozenset(patch.digest for patch in row.result.patches if patch.state in IN_PLACE)


def _table(rows: Sequence[Row]) -> list[str]:
    return table([_row(row) for row in rows], head=_HEAD)


def _row(row: Row) -> list[object]:
    ref = row.ref
    state = "?" if row.agent is None else row.agent.state
    if row.result is None:
        note = "no answer" if row.error is None else f"{row.error.code} {row.error.cause}"
        return [f"{ref.app} {ref.release}", ref.pid, ref.python, ref.agent, state, "?", note]
    here = [patch for patch in row.result.patches if patch.state in IN_PLACE or patch.way]
    shown = [_patch_word(patch) for patch in here]
    notes = list(row.result.warnings)
    if row.result.held is not None:
        notes.insert(0, f"held by {row.result.held.by}: {row.result.held.reason or 'no reason'}")
    patches = " ".join(shown) or "-"
    note = "; ".join(notes)
    return [f"{ref.app} {ref.release}", ref.pid, ref.python, ref.agent, state, patches, note]


def _patch_word(patch: PatchRow) -> str:
    kept = patch.state == "confirmed" and patch.way is None
    return patch.id if kept else f"{patch.id} ({_state_word(patch)})"


def _state_word(patch: PatchRow) -> str:
    if patch.way is not None:
        return "on its way out" if patch.way.leaves else "on its way in"
    if patch.state == "trial" and patch.until is not None:
        return f"trial, {show_duration(max(0.0, patch.until - time.time()))} left"
    return patch.state


def _detail_lines(output: Output, rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        release, python = clean(row.ref.release), clean(row.ref.python)
        head = f"{clean(label(row.ref))}  {clean(row.ref.agent)}  release {release}  {python}"
        lines.append(output.paint(head, "cyan", bold=True))
        if row.error is not None:
            lines.append(f"  {row.error.code} {clean(row.error.cause)}")
        if row.result is None:
            continue
        for patch in row.result.patches:
            lines += _patch_lines(patch)
        if row.result.held is not None:
            lines.append(f"  held by {clean(row.result.held.by)}: {clean(row.result.held.reason)}")
        lines += [f"  warning: {clean(warning)}" for warning in row.result.warnings]
    return lines


def _patch_lines(patch: PatchRow) -> list[str]:
    signers = sorted({keyid[:8] for keyids in patch.signed_by.values() for keyid in keyids})
    facts_of = [
        ("state", _state_word(patch)),
        ("digest", f"sha256:{patch.digest}  seq {patch.seq}"),
        ("from", " -> ".join(patch.origin.get(side, "?") for side in ("base", "new"))),
        ("modules", ", ".join(patch.modules)),
        ("fixes", ", ".join(patch.fixes)),
        ("signed by", ", ".join(signers)),
        ("reason", patch.reason),
        ("ship by", _day(patch.not_after)),
        *_way_facts(patch),
        *_left_facts(patch),
        *(("note", notice) for notice in patch.notices),
    ]
    lines = [f"  {clean(patch.id)}"]
    return lines + [f"    {name:10}{clean(value)}" for name, value in facts_of if value]


def _day(second: int | None) -> str:
    return "" if second is None else time.strftime("%Y-%m-%d", time.gmtime(second))


def _way_facts(patch: PatchRow) -> list[tuple[str, str]]:
    """Where a patch is that is on its way, and what is waited for."""
    way = patch.way
    if way is None:
        return []
    left = show_duration(max(0.0, way.until - time.time()))
    then = "then at once" if way.turned or way.on_limit == "flip" else "then it goes back"
    where = "goes back" if way.turned else "out" if way.leaves else "in"
    more = [f"and {way.more} more"] if way.more else []
    return [
        ("on its way", f"{where}; {left} left, {then}"),
        ("dispatched", ", ".join(way.group)),
        *(("together", why) for why in way.together),
        *(("waits for", name) for name in [*way.blockers, *more]),
    ]


def _left_facts(patch: PatchRow) -> list[tuple[str, str]]:
    """What runs the patch, and what is left of the code that it, or its undo, took away."""
    left = patch.left
    if left is None:
        return []
    whose = "old" if patch.state in IN_PLACE else "new"
    parts = [
        ("calls", left.frames),
        ("suspended", left.suspended),
        ("functions", left.functions),
        ("bound methods", left.bound),
        ("instances", left.instances),
        ("tables", left.tables),
    ]
    told = [f"{what} {path} ({n})" for what, counts in parts for path, n in sorted(counts.items())]
    told += [f"{name} waits to go" for name in left.waiting]
    return [
        ("runs it", ", ".join(left.runs)),
        (f"{whose} code", ", ".join(told) or "nothing is left of it"),
    ]


def _closing(output: Output, rows: Sequence[Row], troubles: Sequence[str]) -> list[str]:
    lines = [output.paint(clean(trouble), "red") for trouble in troubles]
    if not rows:
        return [*lines, f"No agents in {clean(output.home)}."]
    word = "not all is well" if troubles else "all in step"
    return [*lines, f"{count(len(rows), 'process', 'processes')}, {word}."]
