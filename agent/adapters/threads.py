"""Programs on socketserver (http.server, wsgiref, XML-RPC): their listener gets a gate.

It is taken by its address: `HTTPServer(("127.0.0.1", 8000), ...)` has what was bound with
--bind 127.0.0.1:8000, and a server at any other address is left alone.
"""

from __future__ import annotations

import functools
import os
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.gate import Gate
from zdpatch.agent.sockets import match, parse_local

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.agent import wire

_LACKS: Final = "only http.server's own handlers hand connections over; others finish theirs"


class Threads:
    """All servers of this process that have one of our listeners."""

    def __init__(self) -> None:
        self.draining = False
        self.linger_s = 0.0
        self._here: worker.Worker | None = None
        self._servers: Final[dict[socketserver.BaseServer, Gate]] = {}
        self._accepts = False
        self._lock: Final = threading.Lock()
        self._in_flight = 0
        self._bell: Final = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._adopted: Final[list[tuple[socket.socket, Any]]] = []

    # -- what the server meets ------------------------------------------------------------------

    def takes(self, server: socketserver.TCPServer) -> bool:
        """Give `server` its listener, if it is to listen where one is."""
        address = parse_local(server.address_family, server.server_address)
        found = match(worker.listeners(), [address] if address else [])
        if not found:
            return False
        (listener,) = found.values()
        os.dup2(listener.fileno(), server.socket.fileno(), inheritable=False)
        listener.close()
        server.server_address = server.socket.getsockname()
        self._servers[server] = Gate(server.socket.fileno())
        return True

    def has(self, server: socketserver.BaseServer) -> bool:
        """Whether it is one of them."""
        return server in self._servers

    def enters(self, server: socketserver.BaseServer) -> None:
        """It begins to serve: the process is ready with the first that does."""
        if self._here is None:
            self._here = worker.join("socketserver", _LACKS)
            if self._here is not None:
                worker.ready(self._here, self)
        if self._here is None or self._accepts:
            self._servers[server].open()

    def accepted(self) -> None:
        """One more connection."""
        with self._lock:
            self._in_flight += 1

    def finished(self) -> None:
        """One less."""
        with self._lock:
            self._in_flight -= 1
        self._look()

    def rests(self) -> None:
        """The serving thread has time for the connections that came from old workers."""
        while self._adopted:
            self._process(*self._adopted.pop(0))

    def hands_over(self, connection: socket.socket) -> bool:
        """Give an idle connection away; False when nobody takes it."""
        if self._here is None or not self._here.hand_over(connection.fileno()):
            return False
        os.close(connection.detach())
        return True

    @property
    def last(self) -> bool:
        """Whether a response must say that its connection ends with it."""
        return self.draining and (self._here is None or not self._here.has_heir)

    @property
    def bell(self) -> int:
        """Readable while connections are to go."""
        return self._bell

    # -- what the supervisor says ---------------------------------------------------------------

    def go(self) -> None:
        """Accept."""
        self._accepts, self.draining = True, False
        self._quiet()
        for gate in self._servers.values():
            gate.open()

    def stop(self) -> None:
        """Accept no more."""
        self._accepts = False
        for gate in self._servers.values():
            gate.close()
        assert self._here is not None
        self._here.stopped()

    def drain(self, limits: wire.Drain) -> None:
        """Idle connections go; those with a request finish it."""
        self.linger_s = limits.linger_s
        self.draining = True
        os.eventfd_write(self._bell, 1)
        self._look()

    def adopt(self, connection: socket.socket, client: Any) -> None:
        """Serve it, on a thread of its own where the server has those."""
        server = next(iter(self._servers))
        if isinstance(server, socketserver.ThreadingMixIn):
            self._process(connection, client)
        else:
            self._adopted.append((connection, client))

    def _process(self, connection: socket.socket, client: Any) -> None:
        server = next(iter(self._servers))
        connection.setblocking(True)
        self.accepted()
        server.process_request(connection, client)

    def _look(self) -> None:
        with self._lock:
            done = self.draining and self._in_flight == 0
        if done and self._here is not None:
            self._here.drained()

    def _quiet(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return


THREADS: Final = Threads()


def install(module: ModuleType) -> None:
    """Have servers meet their listener where they bind, and the gate where they wait."""
    tcp, base = module.TCPServer, module.BaseServer
    tcp.server_bind = _unless(tcp.server_bind, THREADS.takes)
    tcp.server_activate = _unless(tcp.server_activate, THREADS.has)
    base.serve_forever = _entering(base.serve_forever)
    base.handle_request = _entering(base.handle_request)
    tcp.get_request = _counting(tcp.get_request)
    tcp.close_request = _finishing(tcp.close_request)
    base.service_actions = _resting(base.service_actions)


def _unless(original: Callable[..., Any], ours: Callable[[Any], bool]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(server: socketserver.TCPServer) -> None:
        if not ours(server):
            original(server)

    return replaced


def _entering(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(server: socketserver.BaseServer, *given: Any, **named: Any) -> Any:
        if THREADS.has(server):
            THREADS.enters(server)
        return original(server, *given, **named)

    return replaced


def _counting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(server: socketserver.TCPServer) -> Any:
        request = original(server)
        if THREADS.has(server):
            THREADS.accepted()
        return request

    return replaced


def _finishing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(server: socketserver.TCPServer, request: Any) -> None:
        original(server, request)
        if THREADS.has(server):
            THREADS.finished()

    return replaced


def _resting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(server: socketserver.BaseServer) -> None:
        original(server)
        if THREADS.has(server):
            THREADS.rests()

    return replaced
