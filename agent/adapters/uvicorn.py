"""uvicorn: started whole without a listener; each connection between two requests can be handed on.

Also in gunicorn's uvicorn workers, which run the same `Server`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.adapters.on_loop import OnLoop, is_at_rest
from zdpatch.agent.adapters.uvicorn_http import is_open_websocket, stands, watched

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Collection, Sequence
    from types import ModuleType

    from uvicorn.server import Server

_CLOSE: Final = (b"connection", b"close")


class Uvicorn(OnLoop):
    """One `uvicorn.Server` that has started."""

    def __init__(
        self, here: worker.Worker, server: Server, listeners: Sequence[socket.socket]
    ) -> None:
        super().__init__(here, listeners)
        self._server: Final = server
        config: Any = server.config
        self.tls, self.backlog = config.ssl, config.backlog
        config.http_protocol_class = watched(config.http_protocol_class, self.rested)

    def make(self) -> asyncio.BaseProtocol:
        """As uvicorn's own `startup` makes them."""
        config: Any = self._server.config
        made: asyncio.BaseProtocol = config.http_protocol_class(
            config=config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
        )
        return made

    def connections(self) -> Collection[Any]:
        """Of HTTP and WebSockets."""
        return self._server.server_state.connections

    def websockets(self) -> Collection[Any]:
        """Those after their handshake: before, they would be refused with an error."""
        return [one for one in self.connections() if is_open_websocket(one)]

    def rests(self, connection: Any) -> bool:
        """Whether parser and application have nothing of it."""
        transport = getattr(connection, "transport", None)
        return is_at_rest(transport) and stands(connection)

    def end(self, connection: Any) -> None:
        """As uvicorn does it."""
        connection.shutdown()

    def bye(self, websocket: Any) -> None:
        """uvicorn says 1012 by itself."""
        websocket.shutdown()

    def busy(self) -> bool:
        """Whether requests are served, or what they left in the background."""
        return bool(self._server.server_state.tasks)

    def adopted(self, connection: Any) -> None:
        """It may stay as long as any that is idle."""
        if connection.cycle is None and connection.timeout_keep_alive_task is None:
            connection.timeout_keep_alive_task = self._loop.call_later(
                connection.timeout_keep_alive, connection.timeout_keep_alive_handler
            )

    def say_last(self, last: bool) -> None:
        """In uvicorn's default headers, now and when it makes them again."""
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
