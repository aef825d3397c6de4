"""`history` shows each move of each patch, `audit` who asked for what, and whether the chain holds.

Both are kept per application: one of its processes is asked, or where none answers, its journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from zdpatch.agent.protocol import History
from zdpatch.cli import errors
from zdpatch.cli.books import read_books
from zdpatch.cli.options import timeout_option, to_option
from zdpatch.cli.output import Command, Output, clean, pass_output, table
from zdpatch.cli.report import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.protocol import HistoryResult
    from zdpatch.cli.books import Book

HISTORY_SCHEMA: Final = "zdpatch.history/v1"
AUDIT_SCHEMA: Final = "zdpatch.audit/v1"


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
    books = read_books(output, selector, History(limit=limit), timeout_s)
    lines: list[str] = []
    for book in books:
        shown = [
            (
                clock(float(row["at"])),
                row["id"],
                f"{row['old'] or '-'} -> {row['new']}",
                f"pid {row['pid']}",
                row["by"],
                row["reason"],
            )
            for row in book.result.rows
        ]
        lines += [
            _title(output, book),
            *_indented(table(shown, head=("AT", "PATCH", "MOVE", "IN", "BY", "REASON"))),
        ]
    data: dict[str, object] = {
        "apps": {book.app: {"rows": book.result.rows, "source": _source(book)} for book in books}
    }
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
    books = read_books(output, selector, History(limit=limit, audit=True), timeout_s)
    lines: list[str] = []
    for book in books:
        rows = [_audit_row(row) for row in book.result.rows]
        head = ("N", "AT", "WHO", "WHAT", "PATCH", "IN", "OUTCOME")
        lines += [_title(output, book), *_indented(table(rows, head=head))]
        lines.append(f"  {_chain_words(output, book.result)}")
    data: dict[str, object] = {
        "apps": {
            book.app: {
                "rows": book.result.rows,
                "intact": book.result.intact,
                "broken_at": book.result.broken_at,
                "source": _source(book),
            }
            for book in books
        }
    }
    output.result(AUDIT_SCHEMA, data, lines)
    broken = any(book.result.intact is False for book in books)
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


def _title(output: Output, book: Book) -> str:
    if book.journal is None:
        return clean(book.app)
    words = f"no process of it answers; this is its journal, {clean(book.journal)}"
    return f"{clean(book.app)}: {output.paint(words, 'yellow')}"


def _source(book: Book) -> str:
    return "process" if book.journal is None else "journal"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines] or ["  nothing yet"]
