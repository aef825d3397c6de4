"""A worker accepts when its supervisor says so, and not otherwise; nobody's request ends with it.

One native thread listens to the supervisor and calls the server's methods, which return at once.
Without a supervisor a worker that serves goes on, and knocks until there is one again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from zdpatch.agent import passing, wire
from zdpatch.agent.native import Lock, original, spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEND_S: Final = 1.0  # a green worker reads what it is handed well within this
_KNOCK_S: Final = 0.2  # how often a worker looks whether there is a supervisor again


class Told(msgspec.Struct, frozen=True):
    """What the supervisor says of a worker, in its environment."""

    place: str
    unit: int
    generation: int
    slot: int
    listeners: int
    app: str = ""
    orphan_s: float = 60.0


class Server(Protocol):
    """What an adapter does with its server. Called on the worker's own thread; must not block."""

    def go(self) -> None:
        """Accept, or accept again."""
        ...

    def stop(self) -> None:
        """Accept no more, and call `Worker.stopped` as soon as that is so."""
        ...

    def drain(self, limits: wire.Drain) -> None:
        """Hand over or finish every connection, and call `Worker.drained` when that is done."""
        ...

    def adopt(self, connection: socket.socket, client: Any) -> None:  # noqa: ANN401 - its address
        """Serve a connection that an old worker hands over: nothing of a request was read."""
        ...


class Worker:
    """This process as a worker, once it has a server."""

    def __init__(
        self, told: Told, hello: wire.Hello, listeners: Sequence[int], *, alone: bool
    ) -> None:
        """Say hello. Raises OSError when nobody listens, unless it is to serve `alone`."""
        self._told: Final = told
        self._hello: Final = hello
        self._listeners: Final = listeners
        self._state: Literal["ready", "serving", "stopped", "draining"] = "ready"
        self._deserted_at: float | None = None
        try:
            self._channel = connected(told, hello)
        except OSError:
            if not alone:
                raise
            self._state, self._deserted_at = "serving", time.monotonic()
            self._channel = original("socket", "socket")()
        self._ready: wire.Ready | None = None
        self._lock: Final = Lock()
        self._onward: socket.socket | None = None
        self._incoming: Final[list[socket.socket]] = []
        self._handed = 0

    def ready(self, server: Server, active: list[str], agent: list[str]) -> None:
        """Say that `server` could serve now, with these patches."""
        self._ready = wire.Ready(active, agent)
        self._say(self._ready)
        if self._deserted_at is not None:
            server.go()
        spawn(lambda: self._listen(server))

    def stopped(self) -> None:
        """The server accepts no more."""
        self._say(wire.Stopped())

    def drained(self, closed: int = 0) -> None:
        """Nothing is in flight any more; `closed` connections had to be closed for that."""
        self._say(wire.Drained(self._handed, closed))
        if self._deserted_at is not None:
            os.kill(os.getpid(), signal.SIGTERM)

    def worn(self, reason: str) -> None:
        """A new worker would be as it should, and this one cannot."""
        if self._state == "serving":
            self._say(wire.Worn(reason))

    @property
    def has_heir(self) -> bool:
        """Whether a new worker takes connections."""
        return self._onward is not None

    def hand_over(self, descriptor: int) -> bool:
        """Give a connection that stands between two requests to a new worker; False: nobody.

        The caller then closes its own descriptor, and must not shut the connection down.
        """
        with self._lock:
            if self._onward is None:
                return False
            try:
                passing.send(self._onward, b"c", [descriptor])
            except OSError:
                self._onward.close()
                self._onward = None
                return False
            self._handed += 1
            return True

    def _say(self, message: wire.Message) -> None:
        with contextlib.suppress(OSError):
            passing.send(self._channel, wire.encode(message))

    # -- the thread -----------------------------------------------------------------------------

    def _listen(self, server: Server) -> None:
        while True:
            deserted = self._deserted_at is not None
            sources = [*([] if deserted else [self._channel]), *self._incoming]
            waiting = original("poll", "select")()
            for source in sources:
                waiting.register(source, select.POLLIN)
            patience = _KNOCK_S * 1000 if deserted and self._state == "serving" else None
            ready = {number for number, _ in waiting.poll(patience)}
            for source in sources:
                if source.fileno() not in ready:
                    continue
                if source is not self._channel:
                    self._adopt(source, server)
                elif not self._obey(server):
                    self._deserted(server)
            if self._deserted_at is not None and self._state == "serving":
                self._knock(server, self._deserted_at)

    def _obey(self, server: Server) -> bool:
        """Do what the supervisor says; False when it is gone."""
        try:
            with passing.receive(self._channel) as packet:
                if packet.ended:
                    return False
                self._do(wire.decode(packet.data), packet, server)
        except OSError:
            return False
        except Exception:  # noqa: BLE001 - an adapter that fails does not end the service
            traceback.print_exc(file=sys.stderr)
        return True

    def _deserted(self, server: Server) -> None:
        """The supervisor is gone: who serves goes on, and the others end when they can."""
        self._deserted_at = time.monotonic()
        self._channel.close()
        if self._state == "ready":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._state == "stopped":  # in the middle of a flip: nobody else serves
            self._state = "serving"
            server.go()

    def _knock(self, server: Server, since: float) -> None:
        """Look for a supervisor, and give it the listeners; leave when none came for long."""
        try:
            hello = msgspec.structs.replace(self._hello, orphan=True)
            self._channel = connected(self._told, hello, self._listeners)
            self._deserted_at = None
            if self._ready is not None:
                self._say(self._ready)
        except OSError:
            if time.monotonic() - since >= self._told.orphan_s:
                self._state = "draining"
                server.stop()
                server.drain(wire.Drain())

    def _do(self, message: wire.Said, packet: passing.Packet, server: Server) -> None:
        match message:
            case wire.Go():
                self._state = "serving"
                self._hand_to(None)
                server.go()
            case wire.Stop():
                self._state = "stopped"
                server.stop()
            case wire.Drain():
                if self._state == "serving":  # it was without supervisor, and others serve
                    server.stop()
                self._state = "draining"
                self._handed = 0
                self._hand_to(_channel(packet))
                server.drain(message)
            case wire.Adopt():
                incoming = _channel(packet)
                if incoming is not None:
                    self._incoming.append(incoming)
            case _:
                pass

    def _hand_to(self, onward: socket.socket | None) -> None:
        with self._lock:
            if self._onward is not None:
                self._onward.close()
            self._onward = onward
            if onward is not None:
                onward.settimeout(_SEND_S)

    def _adopt(self, source: socket.socket, server: Server) -> None:
        try:
            with passing.receive(source) as packet:
                if packet.ended:
                    self._incoming.remove(source)
                    source.close()
                for descriptor in packet.claim():
                    connection = socket.socket(fileno=descriptor)
                    try:
                        client = connection.getpeername()
                    except OSError:  # it is gone already
                        connection.close()
                    else:
                        server.adopt(connection, client)
        except OSError:
            self._incoming.remove(source)
            source.close()


def connected(told: Told, hello: wire.Hello, fds: Sequence[int] = ()) -> socket.socket:
    """A connection to the supervisor, which has said hello. Raises OSError when nobody listens."""
    channel = wire.Place(Path(told.place)).connect()
    passing.send(channel, wire.encode(hello), fds)
    return channel


def _channel(packet: passing.Packet) -> socket.socket | None:
    fds = packet.claim()
    for extra in fds[1:]:
        os.close(extra)
    return socket.socket(fileno=fds[0]) if fds else None
