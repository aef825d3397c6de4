"""A person gets an error's id, cause, state and next command; a program one object and a code.

The exit code is decided by the id's hundred alone, so it says what state things are in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.patcher.errors import (
    CATALOGUE,
    UNCHANGED,
    OperatorError,
    Refused,
    Verdict,
    ZdpatchError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ERROR_SCHEMA: Final = "zdpatch.error/v1"
DONE: Final = 0
BUG: Final = 1
USAGE: Final = 2
UNSAFE: Final = 4
ROLLED_BACK: Final = 6
STILL_GOING: Final = 8
DEGRADED: Final = 9
HAS_CHANGES: Final = 10
ABORTED: Final = 11
DETACHED: Final = 130
PIPE_CLOSED: Final = 141

_EXIT_BY_HUNDRED: Final = {"0": 2, "1": 3, "2": 4, "3": 9, "4": 5, "5": 6, "9": 1}


class FleetError(Refused):
    """What went wrong over several agents; `targets` tells it one by one, as JSON."""

    def __init__(  # noqa: PLR0913 - an error is all of these words
        self,
        code: str,
        cause: str,
        targets: list[dict[str, object]],
        *,
        verdicts: tuple[Verdict, ...] = (),
        state: str = UNCHANGED,
        next: str = "",
    ) -> None:
        super().__init__(code, cause, verdicts, next=next)
        self.state = state
        self.targets = targets


def exit_code(code: str) -> int:
    """The exit code of an id: `exit_code("ZDP-103") == 3`. An unknown id counts as a bug."""
    return _EXIT_BY_HUNDRED.get(code.removeprefix("ZDP-")[:1], BUG)


def title_of(error: ZdpatchError) -> str:
    """The catalogue's name of the error; a newer agent may know ids that this command does not."""
    return CATALOGUE.get(error.code, "unknown error")


def error_lines(error: ZdpatchError) -> list[str]:
    """The text for people: a headline, then cause, verdicts, state and next command indented."""
    body = error.cause.splitlines()
    if isinstance(error, Refused):
        body += verdict_lines(error.verdicts)
    tail = [error.state] if error.state else []
    if error.next:
        tail.append(f"Next:  {error.next}")
    lines = [f"error {error.code}: {title_of(error)}", *(f"  {line}" for line in body)]
    if tail:
        lines.append("  " + "  ".join(tail))
    return lines


def verdict_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """Two lines for each edit that cannot go in place: what and why, then the remedy."""
    lines: list[str] = []
    for verdict in verdicts:
        if verdict.row == "A":
            continue
        where = f"{verdict.row}  {verdict.path}:{verdict.line}"
        lines.append(f"{where}  {verdict.edit}: {verdict.reason}")
        if verdict.remedy:
            lines.append(f"   {verdict.remedy}")
    return lines


def error_json(error: ZdpatchError) -> dict[str, object]:
    """The object printed on stdout with `--json`, schema `zdpatch.error/v1`."""
    body: dict[str, object] = {
        "code": error.code,
        "title": title_of(error),
        "cause": error.cause,
        "state": error.state,
        "next": error.next,
        "exit": exit_code(error.code),
    }
    if isinstance(error, Refused) and error.verdicts:
        body["verdicts"] = [verdict_json(verdict) for verdict in error.verdicts]
    if isinstance(error, FleetError):
        body["targets"] = error.targets
    return {"schema": ERROR_SCHEMA, "error": body}


def verdict_json(verdict: Verdict) -> dict[str, object]:
    """One verdict as JSON."""
    return {
        "path": verdict.path,
        "line": verdict.line,
        "edit": verdict.edit,
        "row": verdict.row,
        "reason": verdict.reason,
        "remedy": verdict.remedy,
    }


def usage(cause: str, *, next: str = "") -> ZdpatchError:
    """The error for a command line that cannot be meant (ZDP-001)."""
    return OperatorError("ZDP-001", cause, state=UNCHANGED, next=next)
