"""The verbs of the wire are this one table; every request ends in a reply or is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.agent import (
    answers,
    intake,
    messages,
    protocol,
    sources,
    transaction,
    trials,
    undo,
    wanting,
)
from zdpatch.agent.audit import Actor
from zdpatch.agent.here import LOG
from zdpatch.agent.identity import user_name
from zdpatch.agent.limits import Buckets
from zdpatch.agent.messages import MalformedError
from zdpatch.agent.protocol import HoldResult
from zdpatch.patcher.errors import BugError, OperatorError, ProcessError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from zdpatch.agent.here import Here
    from zdpatch.agent.messages import Request
    from zdpatch.agent.protocol import AgentState, Hold
    from zdpatch.agent.transport import Peer

    Verb = Callable[[Here, Any, Actor, bytes | None], msgspec.Struct | dict[str, Any]]


def _stage(here: Here, header: protocol.Stage, by: Actor, blob: bytes | None) -> msgspec.Struct:
    assert blob is not None
    return intake.stage(here, header, blob, by)


def _hold(here: Here, header: Hold, by: Actor, blob: bytes | None) -> HoldResult:
    del blob
    with here.journal.write("hold") as ledger:
        if header.on:
            ledger.hold(by, header.reason)
        else:
            ledger.lift()
        detail = header.reason if header.on else "lifted"
        ledger.note(by, "hold", "ok", detail=detail)
    return HoldResult(header.on)


_TABLE: Final[dict[str, Verb]] = {
    "hello": lambda here, _header, _by, _blob: answers.hello(here),
    "status": lambda here, header, _by, _blob: answers.status(here, header),
    "stage": _stage,
    "plan": lambda here, header, by, _blob: intake.plan(here, header, by),
    "apply": lambda here, header, by, _blob: transaction.apply(here, header, by),
    "want": lambda here, header, by, _blob: wanting.want(here, header, by),
    "confirm": lambda here, header, by, _blob: trials.confirm(here, header, by),
    "revert": lambda here, header, by, _blob: undo.revert(here, header, by),
    "hold": _hold,
    "history": lambda here, header, _by, _blob: answers.history(here, header),
    "source": sources.source,
}
_READ_ONLY: Final = frozenset({"hello", "status", "history", "source"})
assert {name.encode() for name in _TABLE} == set(protocol.VERBS)


class Counter:
    """Answers requests, one after the other, each user at a limited rate."""

    def __init__(self, here: Here) -> None:
        settings = here.settings
        self._here: Final = here
        self._requests: Final = Buckets(settings.rate_per_s, settings.rate_burst, here.clock)
        self._refusals: Final = Buckets(
            settings.refusals_per_s, settings.refusals_burst, here.clock
        )

    def answer(self, peer: Peer, frames: Sequence[bytes]) -> list[bytes] | None:
        """The reply to one request; None when there is nobody to address it to. Never raises."""
        here, by = self._here, Actor(peer.uid, user_name(peer.uid), peer.pid)
        try:
            request = messages.parse_request(frames)
        except MalformedError as error:
            if self._refusals.take(peer.uid):
                self._note(by, "malformed", error, "")
            return None if error.msgid is None else self._error(error.msgid, error)
        if not self._requests.take(peer.uid):
            busy = ProcessError("ZDP-405", f"{by} sends too many requests", next="wait a second")
            return messages.encode_error(here.identity.info("busy"), request.msgid, busy)
        return self._run(request, by)

    def busy(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """The reply when a transaction holds this process."""
        msgid = frames[1] if len(frames) > 1 else b""
        error = ProcessError("ZDP-204", "another transaction is in progress", next="try again")
        return messages.encode_error(self._here.identity.info("busy"), msgid, error)

    def carry_out(
        self, request: Request, by: Actor
    ) -> msgspec.Struct | dict[str, Any] | ZdpatchError:
        """The result of one request, or why there is none. Never raises."""
        try:
            return _TABLE[request.verb](self._here, request.header, by, request.blob)
        except ZdpatchError as error:
            self._refused(request, by, error)
            return error
        except Exception as error:  # noqa: BLE001 - one request must not end the agent
            LOG.exception("%s failed", request.verb)
            bug = BugError("ZDP-901", repr(error), state="See the log of the process.")
            self._refused(request, by, bug)
            return bug

    def state(self) -> AgentState:
        """What the agent says of itself in a reply."""
        return answers.state(self._here)

    def _run(self, request: Request, by: Actor) -> list[bytes]:
        result = self.carry_out(request, by)
        if isinstance(result, ZdpatchError):
            return self._error(request.msgid, result)
        return messages.encode_ok(self._here.identity.info(self.state()), request.msgid, result)

    def _error(self, msgid: bytes, error: ZdpatchError) -> list[bytes]:
        return messages.encode_error(self._here.identity.info(self.state()), msgid, error)

    def _refused(self, request: Request, by: Actor, error: ZdpatchError) -> None:
        if request.verb not in _READ_ONLY:
            header = cast("Any", request.header)
            subject = str(getattr(header, "digest", "") or getattr(header, "patch", ""))
            self.refuse(request.verb, by, error, subject)

    def refuse(self, verb: str, by: Actor, error: ZdpatchError, subject: str) -> None:
        """Tell log and audit trail of a refusal, unless there are too many of this user."""
        if self._refusals.take(by.uid):
            LOG.warning("%s of %s by %s refused: %s", verb, subject[:40], by, error)
            self._note(by, verb, error, subject)

    def _note(self, by: Actor, verb: str, error: ZdpatchError, subject: str) -> None:
        try:
            with self._here.journal.write("refusal") as ledger:
                ledger.note(by, verb, error.code, digest=subject, detail=error.cause)
        except OperatorError as failure:
            LOG.error("a refusal could not be recorded: %s", failure)
