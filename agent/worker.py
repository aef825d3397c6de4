"""A worker accepts when its supervisor says so, and not otherwise; nobody's request ends with it.

This is the child's side. An adapter gives its server to `serve`; one native thread listens to the
supervisor and calls the server's methods, which return at once. Without a supervisor a worker
serves on.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import traceback
from pathlib import Path
from typing import Final, Protocol

import msgspec

from zdpatch.agent import passing, wire
from zdpatch.agent.native import Lock, original, spawn
from zdpatch.agent.sockets import FIRST_FD

_SEND_S: Final = 1.0  # a green worker reads what it is handed well within this


class Told(msgspec.Struct, frozen=True):
    """What the supervisor says of a worker, in its environment."""

    place: str
    unit: int
    listeners: int
    app: str = ""


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

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that an old worker hands over: nothing of a request was read."""
        ...


class Worker:
    """This process as a worker, once it has a server."""

    def __init__(self, told: Told, hello: wire.Hello) -> None:
        self._told: Final = told
        self._channel: Final = _connected(told, hello)
        self._lock: Final = Lock()
        self._onward: socket.socket | None = None
        self._incoming: Final[list[socket.socket]] = []
        self._handed = 0

    def ready(self, server: Server) -> None:
        """Say that `server` could serve now; from here on the process prints for itself."""
        active, how = _patched(self._told.app)
        print_for_yourself(self._told)
        self._say(wire.Ready(active, how))
        spawn(lambda: self._listen(server))

    def stopped(self) -> None:
        """The server accepts no more."""
        self._say(wire.Stopped())

    def drained(self, closed: int = 0) -> None:
        """Nothing is in flight any more; `closed` connections had to be closed for that."""
        self._say(wire.Drained(self._handed, closed))

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
            sources = [self._channel, *self._incoming]
            waiting = original("poll", "select")()
            for source in sources:
                waiting.register(source, select.POLLIN)
            ready = {number for number, _ in waiting.poll()}
            for source in sources:
                if source.fileno() not in ready:
                    continue
                if source is not self._channel:
                    self._adopt(source, server)
                elif not self._obey(server):
                    return

    def _obey(self, server: Server) -> bool:
        """Do what the supervisor says; False when it is gone: then nothing changes here."""
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

    def _do(self, message: wire.Said, packet: passing.Packet, server: Server) -> None:
        match message:
            case wire.Go():
                self._hand_to(None)
                server.go()
            case wire.Stop():
                server.stop()
            case wire.Drain():
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
                    server.adopt(socket.socket(fileno=descriptor))
        except OSError:
            self._incoming.remove(source)
            source.close()


_told: Told | None = None
_pid = 0
"""The process that has joined; a fork is another one."""
_leading: socket.socket | None = None
"""The connection of a process that leads; what it forks closes its copy."""


def board(told: Told) -> None:
    """This process, and what it forks, are worker `told.unit`."""
    global _told  # noqa: PLW0603 - a process is one worker
    _told = told


def boarded() -> bool:
    """Whether this process was started by a supervisor."""
    return _told is not None


def listeners() -> list[socket.socket]:
    """New copies of the listeners; closing them changes nothing for others."""
    number = 0 if _told is None else _told.listeners
    copies = [os.dup(FIRST_FD + index) for index in range(number)]
    return [socket.socket(fileno=copy) for copy in copies]


def join(adapter: str, lacks: str = "") -> Worker | None:
    """Make this process a worker; it is one until it ends, so call this once it has its server.

    None for a second server in one process, and without a supervisor: those serve as always.
    """
    global _pid, _leading  # noqa: PLW0603 - as above
    if _told is None or _pid == os.getpid():
        return None
    _pid = os.getpid()
    if _leading is not None:
        _leading.close()
        _leading = None
    return Worker(_told, wire.Hello(unit=_told.unit, adapter=adapter, lacks=lacks))


def lead(adapter: str, number: int) -> None:
    """Make this process the leader of `number` others, which it forks and which serve."""
    global _leading  # noqa: PLW0603 - as above
    if _told is not None and _leading is None:
        _leading = _connected(_told, wire.Hello(unit=_told.unit, adapter=adapter, leads=number))
        _leading.setblocking(False)


def look() -> None:
    """A leader prints for itself as soon as its workers serve. To be called now and then."""
    if _told is None or _leading is None:
        return
    with contextlib.suppress(OSError), passing.receive(_leading) as packet:
        if not packet.ended and isinstance(wire.decode(packet.data), wire.Go):
            print_for_yourself(_told)


def print_for_yourself(told: Told) -> None:
    """Have stdout and stderr where the supervisor has them, and need it no more for that."""
    first = FIRST_FD + told.listeners
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it did so before
            os.dup2(first + number - 1, number)


def _connected(told: Told, hello: wire.Hello) -> socket.socket:
    channel = wire.Place(Path(told.place)).connect()
    passing.send(channel, wire.encode(hello))
    return channel


def _channel(packet: passing.Packet) -> socket.socket | None:
    fds = packet.claim()
    for extra in fds[1:]:
        os.close(extra)
    return socket.socket(fileno=fds[0]) if fds else None


def _patched(app: str) -> tuple[list[str], str]:
    """Start the agent when the application has a name: patches are in before it serves."""
    from zdpatch import agent  # noqa: PLC0415 - only a worker with an agent pays for it

    if app:
        handle = agent.start(app=app)
        status = handle.status()
        return list(status["active"]), str(status["reason"] if status["state"] == "off" else "")
    return list(agent.active()), ""
