"""`history` shows each move of each patch, `audit` who asked for what, and whether the chain holds.

Both are kept per application, so one of its processes is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from zdpatch.agent.protocol import History, HistoryResult
from zdpatch.cli import errors
from zdpatch.cli.actions import find_agents
from zdpatch.cli.client import Answer, Client
from zdpatch.cli.options import timeout_option, to_option
from zdpatch.cli.output import Command, Output, pass_output, table
from zdpatch.cli.report import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORY_SCHEMA: Final = "zdpatch.history/v1"
AUDIT_SCHEMA: Final = "zdpatch.audit/v1"
Book = tuple[str, HistoryResult]


@click.command(
    "history",
    cls=Command,
    short_help="Show what happened to the patches of each process.",
    examples=["zdpatch history", "zdpatch history --to app=shop --limit 200 --json"],
)
@to_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@timeout_option
@pass_output
def history(output: Output, /, *, selector: str, limit: int, timeout_s: float) -> None:
    """Show each move of each patch, newest first: staged, trial, confirmed, reverted, ..."""
    books = _ask(output, selector, History(limit=limit), timeout_s)
    lines: list[str] = []
    for app, result in books:
        # A process's own move and the application's are two rows that say the same here.
        shown = {
            (
                clock(float(row["at"])),
                row["id"],
                f"{row['old'] or '-'} -> {row['new']}",
                f"pid {row['pid']}",
                row["by"],
                row["reason"],
            ): None
            for row in result.rows
        }
        lines += [
            app,
            *_indented(table(list(shown), head=("AT", "PATCH", "MOVE", "IN", "BY", "REASON"))),
        ]
    data: dict[str, object] = {"apps": {app: {"rows": result.rows} for app, result in books}}
    output.result(HISTORY_SCHEMA, data, lines)


@click.command(
    "audit",
    cls=Command,
    short_help="Show the audit trail and whether its chain holds.",
    examples=["zdpatch audit", "zdpatch audit --to app=shop --json"],
)
@to_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@timeout_option
@pass_output
def audit(output: Output, /, *, selector: str, limit: int, timeout_s: float) -> None:
    """Show who asked for what, newest first. Exit 9 when a row was changed or taken out."""
    books = _ask(output, selector, History(limit=limit, audit=True), timeout_s)
    lines: list[str] = []
    for app, result in books:
        rows = [_audit_row(row) for row in result.rows]
        head = ("N", "AT", "WHO", "WHAT", "PATCH", "IN", "OUTCOME")
        lines += [app, *_indented(table(rows, head=head)), f"  {_chain_words(output, result)}"]
    data: dict[str, object] = {
        "apps": {
            app: {"rows": result.rows, "intact": result.intact, "broken_at": result.broken_at}
            for app, result in books
        }
    }
    output.result(AUDIT_SCHEMA, data, lines)
    broken = any(result.intact is False for _, result in books)
    output.exit(errors.DEGRADED if broken else errors.DONE)


def _audit_row(row: dict[str, Any]) -> tuple[object, ...]:
    words = " ".join(filter(None, (str(row["outcome"]), str(row.get("detail") or ""))))
    what = row["patch"] or str(row["digest"])[:12]
    where = f"pid {row['pid']}"
    return (row["n"], clock(float(row["at"])), row["user"], row["verb"], what, where, words)


def _chain_words(output: Output, result: HistoryResult) -> str:
    if result.intact is None:
        return "the chain was not checked"
    if result.intact:
        return output.paint("the chain holds", "green")
    return output.paint(f"ZDP-304: the chain is broken at row {result.broken_at}", "red")


def _ask(output: Output, selector: str, header: History, timeout_s: float) -> list[Book]:
    """The answer for each application. Raises the error when none of its processes answers."""
    agents = find_agents(output, selector)
    with Client(timeout_s=timeout_s) as client:
        answers = client.ask(agents, header, HistoryResult)
    by_app: dict[str, list[Answer[HistoryResult]]] = {}
    for answer in answers:
        by_app.setdefault(answer.ref.app, []).append(answer)
    return [(app, _best(one)) for app, one in sorted(by_app.items())]


def _best(answers: Sequence[Answer[HistoryResult]]) -> HistoryResult:
    for answer in answers:
        if answer.result is not None:
            return answer.result
    return answers[0].need()


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines] or ["  nothing yet"]
