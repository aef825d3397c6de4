"""Every agent that was asked has one answer: its result, its error, or that it did not answer.

One ROUTER socket reaches all agents; each connection has a name that we gave it, so an answer can
only come from the agent that it is taken for. A client that is kept open answers warm.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

import msgspec
import zmq

from zdpatch.agent.identity import own_key
from zdpatch.agent.messages import MSGID_BYTES, encode_request, parse_reply, to_exception
from zdpatch.agent.protocol import History, Plan, Source, Status
from zdpatch.cli.select import has_ended
from zdpatch.patcher.errors import UNCHANGED, OperatorError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from zdpatch.agent.home import AgentFile
    from zdpatch.agent.protocol import AgentInfo, Header

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_ANSWER: Final = 16 * 1024 * 1024
UNKNOWN: Final = "What it did is unknown."
_TICK_MS: Final = 100  # how often it is looked whether a silent process still lives
_READ_ONLY: Final = (Status, Plan, History, Source)

R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """What one agent said: `result` or `error`. `agent` is None when it did not answer."""

    ref: AgentFile
    agent: AgentInfo | None = None
    result: R | None = None
    error: ZdpatchError | None = None

    def need(self) -> R:
        """The result. Raises the error there is instead."""
        if self.result is None:
            raise self.error or OperatorError("ZDP-402", f"{label(self.ref)} did not answer")
        return self.result


class Client:
    """Asks agents, many at once. Not thread-safe; use it as a context manager or `close` it."""

    def __init__(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._names: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets. What was sent and not answered stays unanswered."""
        self._socket.close()
        self._context.term()

    def ask(  # noqa: PLR0913 - the words of one request
        self,
        agents: Sequence[AgentFile],
        header: Header,
        kind: type[R],
        blob: bytes | None = None,
        *,
        timeout_s: float | None = None,
        heard: Callable[[Answer[R]], None] | None = None,
    ) -> list[Answer[R]]:
        """Ask all `agents` at once and wait for each, `timeout_s` seconds at most.

        `kind` is the struct of the verb's result. Returns one answer per agent, in the order of
        `agents`; `heard` is called as they come in. Raises nothing for what agents do or do not do.
        """
        exchange = _Exchange(header, kind, heard)
        _allow_descriptors(len(agents))
        for ref in agents:
            msgid = os.urandom(MSGID_BYTES)
            try:
                name = self._name(ref)
                self._socket.send_multipart([name, *encode_request(header, msgid, blob)])
            except zmq.ZMQError as error:
                exchange.silent(ref, str(error))
            else:
                exchange.pending[msgid] = ref
        self._collect(exchange, timeout_s or self.timeout_s)
        return [exchange.answers[ref.agent] for ref in agents]

    def _collect(self, exchange: _Exchange[R], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        here = own_key()
        while exchange.pending:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                break
            if self._socket.poll(min(left_ms, _TICK_MS)):
                self._receive(exchange)
                continue
            for ref in exchange.give_up(lambda ref: has_ended(ref, here), "its process has ended"):
                self._drop(ref)
        # A fresh connection next time: this one may still hold what was not delivered.
        for ref in exchange.give_up(lambda _: True, f"it said nothing for {timeout_s:g} s"):
            self._drop(ref)

    def _receive(self, exchange: _Exchange[R]) -> None:
        """Take every answer that is there. What nobody asked for, or too late, is dropped."""
        while True:
            try:
                name, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            msgid = frames[1] if len(frames) > 1 else b""
            ref = exchange.pending.get(msgid)
            if ref is not None and self._names.get(ref.endpoint) == name:
                exchange.take(msgid, frames)

    def _name(self, ref: AgentFile) -> bytes:
        """The name of the connection to this agent; made at the first use."""
        name = self._names.get(ref.endpoint)
        if name is None:
            name = os.urandom(8).hex().encode()
            self._socket.setsockopt(zmq.CONNECT_ROUTING_ID, name)
            self._socket.connect(ref.endpoint)
            self._names[ref.endpoint] = name
        return name

    def _drop(self, ref: AgentFile) -> None:
        if self._names.pop(ref.endpoint, None) is not None:
            self._socket.disconnect(ref.endpoint)


class _Exchange(Generic[R]):
    """One question to many: who still has to answer, and the answers so far."""

    def __init__(
        self, header: Header, kind: type[R], heard: Callable[[Answer[R]], None] | None
    ) -> None:
        self.pending: dict[bytes, AgentFile] = {}
        self.answers: dict[str, Answer[R]] = {}
        self._header = header
        self._kind = kind
        self._heard = heard

    def take(self, msgid: bytes, frames: list[bytes]) -> None:
        """Settle one request with its reply, whatever the frames hold."""
        ref = self.pending.pop(msgid)
        try:
            reply = parse_reply(frames, msgid)
            if reply.error is not None:
                self._settle(Answer(ref, reply.agent, error=to_exception(reply.error)))
            else:
                raw = b"" if reply.result is None else bytes(reply.result)
                self._settle(Answer(ref, reply.agent, msgspec.json.decode(raw, type=self._kind)))
        except (ZdpatchError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            cause = f"{label(ref)} sent an answer that cannot be read: {error}"
            self._settle(Answer(ref, error=OperatorError("ZDP-404", cause, state=self._state)))

    def give_up(self, ended: Callable[[AgentFile], bool], why: str) -> list[AgentFile]:
        """Settle those which will not answer; returns them."""
        gone = {msgid: ref for msgid, ref in self.pending.items() if ended(ref)}
        for msgid, ref in gone.items():
            del self.pending[msgid]
            self.silent(ref, why)
        return list(gone.values())

    def silent(self, ref: AgentFile, why: str) -> None:
        """Settle one that did not answer."""
        cause = f"{label(ref)} ({ref.agent}): {why}"
        error = OperatorError("ZDP-402", cause, state=self._state, next="zdpatch status")
        self._settle(Answer(ref, error=error))

    @property
    def _state(self) -> str:
        return UNCHANGED if isinstance(self._header, _READ_ONLY) else UNKNOWN

    def _settle(self, answer: Answer[R]) -> None:
        self.answers[answer.ref.agent] = answer
        if self._heard is not None:
            self._heard(answer)


def label(ref: AgentFile) -> str:
    """How an agent is named to people: "shop pid 4121"."""
    return f"{ref.app} pid {ref.pid}"


def _allow_descriptors(agents: int) -> None:
    """Raise this process's limit of open files when so many connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * agents + 128
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, soft), hard))
