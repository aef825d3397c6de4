"""uvicorn: started whole without a listener; each connection between two requests can be handed on.

Also in gunicorn's uvicorn workers, which run the same `Server`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.adapters.uvicorn_http import is_handable, is_open_websocket, watched

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from uvicorn.server import Server

    from zdpatch.agent import wire

_SWEEP_S: Final = 0.02
_QUIET: Final = 5  # sweeps without a connection: one that was accepted may not be announced yet
_CLOSE: Final = (b"connection", b"close")


class Uvicorn:
    """One `uvicorn.Server` that has started, on its event loop."""

    def __init__(
        self, here: worker.Worker, server: Server, listeners: Sequence[socket.socket]
    ) -> None:
        self._here: Final = here
        self._server: Final = server
        self._listeners: Final = listeners
        self._loop: Final = asyncio.get_running_loop()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._parting: Final[set[int]] = set()  # WebSockets whose end is set
        self._limits: wire.Drain | None = None
        self._since = 0.0
        self._quiet = 0
        self._closed = 0
        config: Any = server.config
        config.http_protocol_class = watched(config.http_protocol_class, self._rests)

    # -- what the supervisor says, on the worker's own thread -----------------------------------

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

    def _keep(self, begin: Callable[[], Any]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(begin())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self) -> None:
        self._limits = None
        self._say_close(False)
        config = self._server.config
        for listener in self._listeners:
            self._server.servers.append(
                await self._loop.create_server(
                    self._protocol, sock=listener.dup(), ssl=config.ssl, backlog=config.backlog
                )
            )

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn's own `startup` makes them."""
        config: Any = self._server.config
        made: asyncio.Protocol = config.http_protocol_class(
            config=config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
        )
        return made

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        _, protocol = await self._loop.connect_accepted_socket(self._protocol, connection)
        made: Any = protocol
        if made.cycle is None and made.timeout_keep_alive_task is None:
            made.timeout_keep_alive_task = self._loop.call_later(
                made.timeout_keep_alive, made.timeout_keep_alive_handler
            )

    def _stop(self) -> None:
        for server in self._server.servers:
            server.close()
        self._server.servers.clear()
        self._here.stopped()

    def _drain(self, limits: wire.Drain) -> None:
        self._limits, self._since = limits, time.monotonic()
        self._quiet = self._closed = 0
        self._parting.clear()
        self._sweep(limits)

    def _sweep(self, limits: wire.Drain) -> None:
        if self._limits is not limits:
            return  # it serves again
        state = self._server.server_state
        if not self._here.has_heir:
            self._say_close(True)
        websockets = [one for one in state.connections if is_open_websocket(one)]
        for connection in list(state.connections):
            if is_handable(connection):
                self._part(connection, limits)
        for index, one in enumerate(websockets):
            if id(one) not in self._parting:
                self._parting.add(id(one))
                self._loop.call_later(limits.spread_s * index / len(websockets), self._bye, one)
        self._quiet = self._quiet + 1 if not state.connections and not state.tasks else 0
        if self._quiet == _QUIET:
            self._here.drained(self._closed)
        else:
            self._loop.call_later(_SWEEP_S, self._sweep, limits)

    def _rests(self, connection: Any) -> None:
        """A request ended: the connection goes while nothing of the next one is read."""
        if self._limits is not None:
            self._loop.call_soon(self._part_if_handable, connection)

    def _part_if_handable(self, connection: Any) -> None:
        if self._limits is not None and is_handable(connection):
            self._part(connection, self._limits)

    def _part(self, connection: Any, limits: wire.Drain) -> None:
        transport: asyncio.Transport = connection.transport
        if self._here.hand_over(transport.get_extra_info("socket").fileno()):
            transport.abort()  # closes this process's copy; the client sees nothing of it
        elif time.monotonic() - self._since >= limits.linger_s:
            self._closed += 1
            connection.shutdown()

    def _bye(self, one: Any) -> None:
        if self._limits is not None and one in self._server.server_state.connections:
            self._closed += 1
            one.shutdown()  # 1012, service restart

    def _say_close(self, last: bool) -> None:
        """Have responses say whether they are the last of their connection."""
        state, config = self._server.server_state, self._server.config
        for headers in (config.encoded_headers, state.default_headers):
            if last and _CLOSE not in headers:
                headers.append(_CLOSE)
            elif not last and _CLOSE in headers:
                headers.remove(_CLOSE)


def install(module: ModuleType) -> None:
    """Have `Server.startup` do everything but listen."""
    module.Server.startup = _starting(module.Server.startup)


def _starting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def startup(server: Server, sockets: list[socket.socket] | None = None) -> None:
        given = [one.dup() for one in sockets] if sockets else worker.listeners()
        here = worker.join("uvicorn", _lacks(server)) if given else None
        if here is None:
            await original(server, sockets)
            return
        await original(server, [])
        server.config.uds = None  # or uvicorn would remove the path when this worker ends
        worker.ready(here, Uvicorn(here, server, given))

    return startup


def _lacks(server: Server) -> str:
    if server.config.is_ssl:
        return "connections with TLS are not handed over: they end with their last response"
    return ""
