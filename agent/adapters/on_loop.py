"""A server on asyncio, whichever it is: listeners come and go, connections go between two requests.

What the supervisor says comes on the worker's own thread, and is done on the loop.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Collection, Sequence

    from zdpatch.agent import wire, worker

_SWEEP_S: Final = 0.02
_QUIET: Final = 5  # sweeps without a connection: one that was accepted may not be announced yet


class OnLoop(abc.ABC):
    """One server that has started and does not listen. Made on its loop."""

    def __init__(self, here: worker.Worker, listeners: Sequence[socket.socket]) -> None:
        self._here: Final = here
        self._listeners: Final = list(listeners)
        self._loop: Final = asyncio.get_running_loop()
        self._servers: Final[list[asyncio.Server]] = []
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._parting: Final[set[int]] = set()  # WebSockets whose end is set
        self._limits: wire.Drain | None = None
        self._since = 0.0
        self._quiet = 0
        self._closed = 0

    # -- what a server is -----------------------------------------------------------------------

    tls: ssl.SSLContext | None = None
    backlog: int = 2048

    @abc.abstractmethod
    def make(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""

    @abc.abstractmethod
    def connections(self) -> Collection[Any]:
        """All that are open."""

    @abc.abstractmethod
    def websockets(self) -> Collection[Any]:
        """Those which can be told goodbye."""

    @abc.abstractmethod
    def rests(self, connection: Any) -> bool:
        """Whether it is plain HTTP/1.1, and nothing of a request or response is in this process."""

    @abc.abstractmethod
    def end(self, connection: Any) -> None:
        """Close one that rests."""

    @abc.abstractmethod
    def bye(self, websocket: Any) -> None:
        """Close it with 1012, service restart."""

    @abc.abstractmethod
    def say_last(self, last: bool) -> None:
        """Have responses say whether they are the last of their connection."""

    def busy(self) -> bool:
        """Whether something else is under way."""
        return False

    @abc.abstractmethod
    def adopted(self, connection: Any) -> None:
        """A connection came from an old worker."""

    def add(self, listeners: Sequence[socket.socket]) -> None:
        """It is to listen there too. To be called on its loop."""
        self._listeners.extend(listeners)
        if self._servers:
            self._keep(functools.partial(self._open, listeners))

    # -- what the supervisor says ---------------------------------------------------------------

    def go(self) -> None:
        """Accept."""
        self._loop.call_soon_threadsafe(self._keep, self._go)

    def stop(self) -> None:
        """Accept no more."""
        self._loop.call_soon_threadsafe(self._stop)

    def drain(self, limits: wire.Drain) -> None:
        """Hand over, or finish."""
        self._loop.call_soon_threadsafe(self._drain, limits)

    def adopt(self, connection: socket.socket, client: Any) -> None:
        """Serve it."""
        del client
        self._loop.call_soon_threadsafe(self._keep, functools.partial(self._adopt, connection))

    # -- on the loop ----------------------------------------------------------------------------

    def rested(self, connection: Any) -> None:
        """A request ended: the connection goes while nothing of the next one is read."""
        if self._limits is not None:
            self._loop.call_soon(self._part_if_it_rests, connection)

    def _keep(self, begin: Callable[[], Any]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(begin())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self) -> None:
        self._limits = None
        self.say_last(False)
        await self._open(self._listeners)

    async def _open(self, listeners: Sequence[socket.socket]) -> None:
        for listener in listeners:
            server = await self._loop.create_server(
                self.make, sock=listener.dup(), ssl=self.tls, backlog=self.backlog
            )
            self._servers.append(server)

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        _, protocol = await self._loop.connect_accepted_socket(self.make, connection)
        self.adopted(protocol)

    def _stop(self) -> None:
        for server in self._servers:
            if isinstance(self._loop, asyncio.BaseEventLoop):
                # a connection that was accepted just now is lost when its server is closed before
                # the loop has announced it (`Server._attach` asserts that it is open)
                for listener in server.sockets:
                    self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_SWEEP_S, server.close)
            else:
                server.close()
        self._servers.clear()
        self._here.stopped()

    def _drain(self, limits: wire.Drain) -> None:
        self._limits, self._since = limits, time.monotonic()
        self._quiet = self._closed = 0
        self._parting.clear()
        self._sweep(limits)

    def _sweep(self, limits: wire.Drain) -> None:
        if self._limits is not limits:
            return  # it serves again
        if not self._here.has_heir:
            self.say_last(True)
        for connection in list(self.connections()):
            self._part_if_it_rests(connection)
        websockets = [one for one in self.websockets() if id(one) not in self._parting]
        for index, one in enumerate(websockets):
            self._parting.add(id(one))
            self._loop.call_later(limits.spread_s * index / len(websockets), self._goodbye, one)
        self._quiet = 0 if self.connections() or self.busy() else self._quiet + 1
        if self._quiet == _QUIET:
            self._here.drained(self._closed)
        else:
            self._loop.call_later(_SWEEP_S, self._sweep, limits)

    def _part_if_it_rests(self, connection: Any) -> None:
        if self._limits is None or not self.rests(connection):
            return
        transport: asyncio.Transport = connection.transport
        if self._here.hand_over(transport.get_extra_info("socket").fileno()):
            transport.abort()  # closes this process's copy; the client sees nothing of it
        elif time.monotonic() - self._since >= self._limits.linger_s:
            self._closed += 1
            self.end(connection)

    def _goodbye(self, websocket: Any) -> None:
        if self._limits is not None and websocket in self.websockets():
            self._closed += 1
            self.bye(websocket)


def is_at_rest(transport: Any) -> bool:
    """Whether a transport is open, without TLS, and has written all."""
    return (
        transport is not None
        and not transport.is_closing()
        and transport.get_extra_info("sslcontext") is None
        and not transport.get_write_buffer_size()
    )
