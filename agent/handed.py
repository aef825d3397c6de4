"""What lies in the inbox is done once by each process, unless something later was decided.

A bundle goes the way of a push: verified, staged, planned, applied; an order that of a request. A
file stays where it is: a process that starts finds it, and what was decided about its patch after
the file was written counts more than the file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from zdpatch.agent import intake, messages, replay
from zdpatch.agent.audit import Actor
from zdpatch.agent.duties import Backoff
from zdpatch.agent.here import LOG
from zdpatch.agent.identity import user_name
from zdpatch.agent.inbox import BUNDLE, OPTIONS, ORDER, ChangingError, Inbox
from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.messages import Request
from zdpatch.agent.protocol import (
    MAX_TRIAL_S,
    Apply,
    Consistently,
    Header,
    Paths,
    Plan,
    Reason,
    Stage,
)
from zdpatch.agent.results import NAME, SCHEMA, Outcome, Results, Unsaid
from zdpatch.patcher import bundle
from zdpatch.patcher.errors import BugError, OperatorError, ProcessError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.config import Config
    from zdpatch.agent.here import Here
    from zdpatch.agent.home import Home
    from zdpatch.agent.inbox import Entry, Stamp
    from zdpatch.agent.ledger import Wanted
    from zdpatch.agent.verbs import Counter

_ORDERS: Final = frozenset({"status", "history", "confirm", "revert"})
_UNFINISHED: Final = frozenset({"ZDP-101", "ZDP-102", "ZDP-104", "ZDP-404"})
_PASSING: Final = frozenset({"ZDP-301"})  # the disk is full: it is done when there is room
_COARSE_S: Final = 0.02  # the file system's clock lags behind by so much


class Options(Header, frozen=True):
    """`fix.zdp.json`, how to apply `fix.zdp`: as the header of an apply; or only to `plan` it."""

    trial_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRIAL_S)] | None = None
    confirm: bool = False
    reason: Reason = ""
    adopt: Paths = msgspec.field(default_factory=list[str])
    replace: Paths = msgspec.field(default_factory=list[str])
    plan: bool = False
    consistent: Consistently | None = None


class AnsweredError(Exception):
    """A refusal of which the audit trail knows, or need not know."""

    def __init__(self, error: ZdpatchError) -> None:
        super().__init__(str(error))
        self.error = error


def watch(here: Here, config: Config, home: Home, counter: Counter) -> Handed | None:
    """The second way into a process, when there is one."""
    path, settings = config.inbox, config.settings
    if path is None:
        return None
    inbox = Inbox(path, home.gid, settings.inbox_names)
    places = (path / NAME, home.app_dir / NAME)
    return Handed(
        here, inbox, Results(places, home.gid, settings.results_s, settings.results_kept), counter
    )


class Handed:
    """The inbox of one process; used under `here.lock`."""

    def __init__(self, here: Here, inbox: Inbox, results: Results, counter: Counter) -> None:
        self._here: Final = here
        self._inbox: Final = inbox
        self._unsaid: Final = Unsaid(results)
        self._counter: Final = counter
        self._done: Final[dict[str, tuple[Stamp, ...]]] = {}
        self._backoff: Final = Backoff(here.settings)
        self._seen = -1  # the directory's own time when all in it was done
        self._full_look: float = 0.0  # steady: then the names are gone through again in any case
        self._due: float = 0.0  # steady
        self._said = ""
        self._postponed = False

    def at_start(self, limit_s: float) -> None:
        """Do what lies there before the process serves; what `limit_s` cuts off, while it does."""
        self._inbox.make()
        end = self._here.clock.steady() + limit_s
        while self.patience() == 0.0 and self._here.clock.steady() < end:
            self.tend()

    def patience(self) -> float:
        """Seconds until somebody should look."""
        return max(0.0, self._due - self._here.clock.steady())

    def tend(self) -> None:
        """Look, when it is time, and do one thing."""
        now = self._here.clock.steady()
        if now < self._due:
            return
        self._due = now + self._here.settings.inbox_look_s
        if self._unsaid.waits and not self._unsaid.again():
            self._due = now + self._backoff.pause()
            return
        changed = self._inbox.changed()
        if changed == self._seen and now < self._full_look:
            return
        try:
            entries = self._inbox.entries()
        except (OperatorError, OSError) as error:
            self._say(f"nothing is taken from the inbox: {error}")
            return
        self._say("")
        if not self._do_one(entries):
            # a name that comes in the same tick of the file system's clock does not change it
            quiet = self._here.clock.wall() - changed / 1e9 > self._here.settings.inbox_still_s
            self._seen = changed if quiet and not self._postponed else -1
            self._full_look = now + self._here.settings.inbox_full_s

    def _do_one(self, entries: Sequence[Entry]) -> bool:
        """The first thing that is new; False when nothing is."""
        self._postponed = False
        options = {entry.name: entry for entry in entries if entry.name.endswith(OPTIONS)}
        for gone in self._done.keys() - {entry.name for entry in entries}:
            del self._done[gone]
        for entry in entries:
            if entry.name in options:
                continue
            beside = options.get(entry.name + OPTIONS.removeprefix(BUNDLE))
            stamps = tuple(one.stamp for one in (entry, beside) if one is not None)
            if self._done.get(entry.name) == stamps:
                continue
            if self._do(entry, beside):
                self._done[entry.name] = stamps
                self._backoff.reset()
                self._due = self._here.clock.steady()
                return True
            self._postponed = True
        return False

    def _do(self, entry: Entry, beside: Entry | None) -> bool:
        """False when the file is not whole yet, or cannot be dealt with now."""
        raw = b""
        result: object = None
        error: ZdpatchError | None = None
        known = False
        try:
            raw = self._inbox.read(entry)
            options = b"" if beside is None else self._inbox.read(beside)
            if entry.name.endswith(ORDER):
                result = self._order(entry, raw)
            else:
                result = self._bundle(entry, raw, options)
        except (ChangingError, FileNotFoundError):
            return False
        except AnsweredError as answered:
            error, known = answered.error, True
        except Exception as failure:  # noqa: BLE001 - one file must not end the agent
            error = _explained(entry, failure)
        if error is not None and not self._final(entry, beside, error):
            return False
        if error is not None and not known:
            self._counter.refuse("inbox", self._actor(entry), error, entry.name)
        self._tell(entry, raw, result, error)
        return True

    def _final(self, entry: Entry, beside: Entry | None, error: ZdpatchError) -> bool:
        """Whether trying again soon cannot end otherwise."""
        if error.code in _PASSING:
            self._due = self._here.clock.steady() + self._backoff.pause()
            return False
        if error.code not in _UNFINISHED:
            return True
        still_s = self._here.settings.inbox_still_s
        written = max(one.written for one in (entry, beside) if one is not None)
        return not 0 <= self._here.clock.wall() - written < still_s

    def _bundle(self, entry: Entry, raw: bytes, options: bytes) -> object:
        wish = _options(entry, options)
        digest = bundle.parse_envelope(bundle.unpack(raw).envelope).digest
        with self._here.journal.read() as ledger:
            patch = ledger.find(digest)
        if patch is not None:
            self._check_later(entry, patch, patch.state not in ("reverted", "quarantined"))
        by = self._actor(entry)
        if self._here.runs(digest) is None:
            self._carry_out("stage", Stage(digest), by, raw)
        if wish.plan:
            question = Plan(digest, wish.adopt, wish.replace, wish.consistent is not None)
            return self._carry_out("plan", question, by)
        if (settled := self._settled(digest)) is not None:
            return settled
        reason = wish.reason or f"handed in as {entry.name}"
        header = Apply(
            digest,
            wish.trial_s,
            wish.confirm,
            reason[:500],
            wish.adopt,
            wish.replace,
            wish.consistent,
        )
        return self._carry_out("apply", header, by)

    def _settled(self, digest: str) -> object:
        """What this release has already, or cannot take, is known before anything is planned."""
        here = self._here
        if here.no_apply or here.runs(digest) is not None:
            return None
        patch, verified = intake.load(here, digest)
        mine = here.mine.get(digest)
        if mine is None:
            standing = here.engine.standing(verified.patch(), since=here.identity.started)
            if standing == "absorbed":
                replay.settle(here, patch, "absorbed", "this release has the fix already", "ok")
                mine = here.mine.get(digest)
        if mine is None or mine.state not in ("absorbed", "superseded"):
            return None
        if mine.state == "superseded":
            raise ProcessError("ZDP-302", f"{patch.id}: {mine.reason}", next="zdpatch build")
        return {"digest": digest, "id": patch.id, "state": mine.state, "notices": [mine.reason]}

    def _order(self, entry: Entry, raw: bytes) -> object:
        """`{"verb": "revert", "patch": "FIX-1"}`: a verb, and its header's fields."""
        try:
            fields = msgspec.json.decode(raw, type=dict[str, Any])
            verb = str(fields.pop("verb", ""))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise OperatorError("ZDP-404", f"{entry.name} is no order: {error}") from None
        if verb not in _ORDERS:
            known = ", ".join(sorted(_ORDERS))
            raise OperatorError("ZDP-001", f"{entry.name}: the verb is one of {known}")
        frames = [verb.encode(), bytes(messages.MSGID_BYTES), msgspec.json.encode(fields)]
        request = messages.parse_request(frames)
        reference = getattr(request.header, "patch", "")
        if reference:
            with self._here.journal.read() as ledger:
                patch = intake.find(ledger, reference)
            wanted_in = patch.state in WANTED_IN
            same = patch.state == "confirmed" if verb == "confirm" else not wanted_in
            self._check_later(entry, patch, same)
        return self._carry_out(verb, request.header, self._actor(entry))

    def _check_later(self, entry: Entry, patch: Wanted, same: bool) -> None:
        """A file that has lain there since before the last decision is no word about it.

        `same`: what the file asks for is what was decided. Raises AnsweredError with ZDP-213.
        """
        now = self._here.clock.wall()
        if same or patch.since <= entry.written + _COARSE_S <= now + _COARSE_S:
            return
        why = f" ({patch.reason})" if patch.reason else ""
        raise AnsweredError(
            ProcessError(
                "ZDP-213",
                f"{patch.id} was {patch.state} after {entry.name} was written{why}",
                next=f"touch {self._inbox.path / entry.name}   to hand it in again",
            )
        )

    def _carry_out(self, verb: str, header: Header, by: Actor, blob: bytes | None = None) -> object:
        answer = self._counter.carry_out(Request(verb, b"", header, blob), by)
        if isinstance(answer, ZdpatchError):
            raise AnsweredError(answer)
        return answer

    def _actor(self, entry: Entry) -> Actor:
        return Actor(entry.uid, user_name(entry.uid), 0)

    def _tell(self, entry: Entry, raw: bytes, result: object, error: ZdpatchError | None) -> None:
        here = self._here
        if error is not None:
            LOG.warning("%s in the inbox: %s", entry.name, error)
        self._unsaid.tell(
            Outcome(
                schema=SCHEMA,
                file=entry.name,
                sha256=hashlib.sha256(raw).hexdigest() if raw else "",
                at=here.clock.wall(),
                agent=here.identity.info(self._counter.state()),
                result=result,
                error=None if error is None else messages.error_body(error),
            )
        )

    def _say(self, trouble: str) -> None:
        """The inbox cannot be used, or can again."""
        if trouble != self._said:
            self._here.take_back(self._said)
            if trouble:
                self._here.say(trouble)
            self._said = trouble


def _explained(entry: Entry, failure: Exception) -> ZdpatchError:
    if isinstance(failure, ZdpatchError):
        return failure
    if isinstance(failure, OSError):
        return OperatorError("ZDP-007", f"{entry.name} cannot be read: {failure.strerror}")
    LOG.error("%s in the inbox failed", entry.name, exc_info=failure)
    return BugError("ZDP-901", repr(failure), state="See the log of the process.")


def _options(entry: Entry, raw: bytes) -> Options:
    if not raw:
        return Options()
    try:
        return msgspec.json.decode(raw, type=Options)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        cause = f"{entry.name}.json does not say how to apply {entry.name}: {error}"
        raise OperatorError("ZDP-404", cause, next="see docs/operations.md, 'The inbox'") from None
