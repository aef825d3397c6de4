"""Every error names who must act, has an id, a cause and the next command; the id's hundred says
how things stand.

Four roots, by who must act: the bundle's author, the operator, this process (it must be replaced,
or waits), and zdpatch itself (a bug). An id never changes its meaning; `docs/errors.md` lists them
all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNCHANGED: Final = "Nothing was changed."


class ZdpatchError(Exception):
    """One refused or failed action.

    `code` is an id of `CATALOGUE` ("ZDP-103"), `cause` says what is wrong in words,
    `state` says what state things are in, `next` is the command to try now (may be empty).
    """

    def __init__(self, code: str, cause: str, *, state: str = UNCHANGED, next: str = "") -> None:
        super().__init__(f"{code}: {cause}")
        self.code = code
        self.cause = cause
        self.state = state
        self.next = next

    @property
    def title(self) -> str:
        """The catalogue's short name of this error."""
        return CATALOGUE[self.code]


class AuthorError(ZdpatchError):
    """The author of the bundle must act: build it differently."""


class OperatorError(ZdpatchError):
    """The operator must act: keys, trust, configuration, choice of target."""


class ProcessError(ZdpatchError):
    """This process cannot take it: replace the process, or wait."""


class BugError(ZdpatchError):
    """An invariant of zdpatch broke; the only safe answer is to replace the worker."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to one edit, and why.

    `path` is "module:qualname", `line` the line in the new source (base if removed), `row` one of
    A (in place), Q (needs consistency), M (needs migration), R (replace the worker), X (refuse).
    """

    path: str
    line: int
    edit: str
    row: str
    reason: str
    remedy: str = ""


class Refused(AuthorError):  # noqa: N818 - a refusal is an outcome, and reads as one
    """A patch that cannot go in place here. Nothing was touched; `verdicts` says why, edit
    by edit.
    """

    def __init__(
        self, code: str, cause: str, verdicts: tuple[Verdict, ...] = (), *, next: str = ""
    ) -> None:
        super().__init__(code, cause, next=next)
        self.verdicts = verdicts


# 0xx usage (exit 2), 1xx bundle refused (3), 2xx not applicable (4), 3xx degraded (9),
# 4xx not reached (5), 5xx rolled back (6), 9xx bug (1).
CATALOGUE: Final[dict[str, str]] = {
    # usage and configuration
    "ZDP-001": "bad usage",
    "ZDP-002": "bad configuration",
    "ZDP-003": "base and new are the same",
    "ZDP-004": "source cannot be read",
    "ZDP-005": "source is of a kind that is not supported",
    "ZDP-006": "key file cannot be used",
    "ZDP-007": "bundle file cannot be read or written",
    "ZDP-008": "address cannot be listened on",
    "ZDP-009": "a supervisor of this name runs",
    # the bundle is refused
    "ZDP-101": "bundle is too large",
    "ZDP-102": "bundle is damaged",
    "ZDP-103": "signature does not match",
    "ZDP-104": "envelope or JSON is malformed",
    "ZDP-105": "manifest is malformed",
    "ZDP-106": "blobs do not match the manifest",
    "ZDP-107": "bundle is for another application",
    "ZDP-108": "bundle is for another Python",
    "ZDP-109": "bundle has expired",
    "ZDP-110": "bundle comes from the future",
    "ZDP-111": "bundle is older than what was accepted before",
    "ZDP-112": "bundle was revoked",
    "ZDP-113": "no trust",
    "ZDP-114": "trust file is not safe to use",
    "ZDP-115": "bundle asks for something this agent cannot do",
    "ZDP-116": "requirement or conflict of the bundle is not met",
    "ZDP-117": "chain of trust does not hold",
    "ZDP-118": "root of trust has expired",
    # not applicable in this process
    "ZDP-201": "running code differs from the base",
    "ZDP-202": "edit is not safe in place",
    "ZDP-203": "live value was changed at run time",
    "ZDP-204": "another patch is in the way",
    "ZDP-205": "old code never returns",
    "ZDP-206": "source does not compile",
    "ZDP-207": "new module or import fails",
    "ZDP-208": "new value cannot be evaluated",
    "ZDP-209": "undo would overwrite a later change",
    "ZDP-210": "this interpreter fails the self-test",
    "ZDP-211": "a file that cannot be served",
    "ZDP-212": "unknown or unstaged patch",
    "ZDP-213": "not possible in this state",
    "ZDP-214": "an audit hook makes the flip interruptible",
    "ZDP-215": "nothing of this patch is here",
    "ZDP-216": "part of the agent cannot be loaded",
    "ZDP-217": "a probe fails",
    "ZDP-218": "a migration fails",
    # degraded
    "ZDP-301": "journal cannot be read or written",
    "ZDP-302": "patch was superseded by another release",
    "ZDP-303": "patch was quarantined after crashes",
    "ZDP-304": "audit chain is broken",
    "ZDP-305": "targets are in different states",
    "ZDP-306": "a required fix is missing",
    "ZDP-307": "a migration could not be undone",
    # not reached
    "ZDP-401": "no agent matches",
    "ZDP-402": "agent does not answer",
    "ZDP-403": "agent refuses this user",
    "ZDP-404": "message is malformed or too large",
    "ZDP-405": "too many requests",
    "ZDP-406": "no supervisor answers",
    # rolled back
    "ZDP-501": "trial ran out and the patch was reverted",
    "ZDP-502": "one target failed and all were reverted",
    "ZDP-503": "new workers are not used",
    # bugs
    "ZDP-901": "internal error",
}
