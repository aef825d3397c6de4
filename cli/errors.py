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
UNREACHED: Final = 5
ROLLED_BACK: Final = 6
STILL_GOING: Final = 8
DEGRADED: Final = 9
HAS_CHANGES: Final = 10
ABORTED: Final = 11
DETACHED: Final = 130
PIPE_CLOSED: Final = 141

NEXT: Final[dict[str, str]] = {
    "ZDP-001": "zdpatch --help",
    "ZDP-002": "mend what is named, then the same command",
    "ZDP-003": "look at --from, --to, --only and --root",
    "ZDP-004": "zdpatch build --help",
    "ZDP-005": "give a wheel without compiled code, or a directory",
    "ZDP-006": "zdpatch keygen KEY",
    "ZDP-007": "look at the path, its mode and df -h, then the same command",
    "ZDP-008": "look at --bind and at who listens there:  ss -ltnp",
    "ZDP-009": "zdpatch replace NAME",
    "ZDP-101": "zdpatch build ... --only PACKAGE",
    "ZDP-102": "copy the file again, or  zdpatch build",
    "ZDP-103": "zdpatch inspect FILE",
    "ZDP-104": "zdpatch build",
    "ZDP-105": "zdpatch build --help",
    "ZDP-106": "copy the file again, or  zdpatch build",
    "ZDP-107": "zdpatch inspect FILE   and  zdpatch status",
    "ZDP-108": "zdpatch build ... --python TAG",
    "ZDP-109": "zdpatch build",
    "ZDP-110": "set the clock that is wrong, then  zdpatch build",
    "ZDP-111": "zdpatch build",
    "ZDP-112": "zdpatch rollback PATCH   where it still runs",
    "ZDP-113": "zdpatch trust init --key KEY.pub",
    "ZDP-114": "zdpatch trust show",
    "ZDP-115": "update zdpatch in the process, or  zdpatch build  without that",
    "ZDP-116": "zdpatch status",
    "ZDP-117": "zdpatch trust show",
    "ZDP-118": "zdpatch trust rotate",
    "ZDP-201": "zdpatch status --detail",
    "ZDP-202": "change the edit, or replace the worker",
    "ZDP-203": "zdpatch build  without that value, or replace the worker",
    "ZDP-204": "zdpatch status --detail",
    "ZDP-205": "replace the worker",
    "ZDP-206": "mend the line, then  zdpatch build",
    "ZDP-207": "put the module into the bundle, or install it with a release",
    "ZDP-208": "make it a literal, then  zdpatch build",
    "ZDP-209": "zdpatch status --detail",
    "ZDP-210": "replace the worker",
    "ZDP-211": "zdpatch build ... --only PACKAGE, or deploy the file with a release",
    "ZDP-212": "zdpatch status --detail",
    "ZDP-213": "zdpatch status",
    "ZDP-214": "replace the worker",
    "ZDP-215": "zdpatch inspect FILE   and  zdpatch status",
    "ZDP-216": "restart the process",
    "ZDP-217": "mend the patch, or the probe, then  zdpatch build",
    "ZDP-218": "mend the hooks, then  zdpatch build",
    "ZDP-301": "df -h; see docs/operations.md, 'The journal cannot be written'",
    "ZDP-302": "zdpatch build  for this release",
    "ZDP-303": "zdpatch history",
    "ZDP-304": "zdpatch audit",
    "ZDP-305": "zdpatch status",
    "ZDP-306": "zdpatch push FILE",
    "ZDP-307": "replace the worker",
    "ZDP-401": "zdpatch status",
    "ZDP-402": "zdpatch status",
    "ZDP-403": "become the service's user, or set ZDPATCH_GROUP for the service",
    "ZDP-404": "update the older side",
    "ZDP-405": "wait a second, then the same command",
    "ZDP-406": "zdpatch status",
    "ZDP-501": "zdpatch history",
    "ZDP-502": "zdpatch history",
    "ZDP-503": "mend what is said, then  zdpatch replace",
    "ZDP-901": "zdpatch status",
}
"""What to do where an error names nothing nearer: by id, as docs/errors.md says."""

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


def next_of(error: ZdpatchError) -> str:
    """The next command: the error's own word, else that of its id."""
    return error.next or NEXT.get(error.code, "zdpatch status")


def error_lines(error: ZdpatchError) -> list[str]:
    """The text for people: a headline, then cause, verdicts, state and next command indented."""
    body = error.cause.splitlines()
    if isinstance(error, Refused):
        body += verdict_lines(error.verdicts)
    tail = [error.state] if error.state else []
    tail.append(f"Next:  {next_of(error)}")
    head = f"error {error.code}: {title_of(error)}"
    return [head, *(f"  {line}" for line in body), "  " + "  ".join(tail)]


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
        "next": next_of(error),
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
