"""hypercorn on asyncio: it asks for servers, and gets them when it may accept."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.adapters.hypercorn_tcp import CONNECTIONS, is_open_websocket, say_goodbye, stands
from zdpatch.agent.adapters.on_loop import OnLoop, is_at_rest

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Collection, Sequence
    from types import ModuleType

_CLOSE: Final = (b"connection", b"close")
_LACKS: Final = "connections with TLS or HTTP/2 are not handed over"


class Hypercorn(OnLoop):
    """What one `worker_serve` serves. `serve` is its callback for a new connection."""

    def __init__(
        self, here: worker.Worker, serve: Callable[..., Any], listeners: Sequence[socket.socket]
    ) -> None:
        super().__init__(here, listeners)
        self._serve: Final = serve
        self._last = False
        CONNECTIONS.rested = self.rested

    def make(self) -> asyncio.BaseProtocol:
        """As `asyncio.start_server` makes them."""
        reader = asyncio.StreamReader(loop=self._loop)
        return asyncio.StreamReaderProtocol(reader, self._serve, loop=self._loop)

    def connections(self) -> Collection[Any]:
        """All that run."""
        return CONNECTIONS.open

    def websockets(self) -> Collection[Any]:
        """Those after their handshake."""
        return [one for one in CONNECTIONS.open if is_open_websocket(one)]

    def rests(self, connection: Any) -> bool:
        """Whether it waits for a request of which nothing came."""
        return is_at_rest(connection.transport) and stands(connection)

    def end(self, connection: Any) -> None:
        """Close one that rests."""
        connection.transport.close()

    def bye(self, websocket: Any) -> None:
        """The application sees the end of its WebSocket."""
        self._keep(functools.partial(say_goodbye, websocket))

    def adopted(self, connection: Any) -> None:
        """hypercorn gives every new connection its time."""

    def say_last(self, last: bool) -> None:
        """In the headers of every response of HTTP/1.1."""
        CONNECTIONS.headers = [_CLOSE] if last else []


class _Asking:
    """asyncio as `worker_serve` sees it: servers are noted, and listen when they are told."""

    def __init__(self) -> None:
        self.tls: ssl.SSLContext | None = None
        self.serve: Callable[..., Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def start_server(self, serve: Callable[..., Any], **given: Any) -> Any:
        """Later, and with copies of its own of the listeners."""
        if not worker.boarded():
            return await asyncio.start_server(serve, **given)
        self.serve, self.tls = serve, given.get("ssl")
        return _Nothing()


class _Nothing:
    """A server that does not listen."""

    def close(self) -> None:
        """It does not."""

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


def install(module: ModuleType) -> None:
    """Join where it would have begun to wait for its end."""
    asking = _Asking()
    vars(module)["asyncio"] = asking
    original, load = module.raise_shutdown, module.load_application
    waiting = False

    @functools.wraps(original)
    async def raise_shutdown(*given: Any) -> None:
        nonlocal waiting
        if asking.serve is not None and not waiting:
            waiting = True
            here = worker.join("hypercorn", _LACKS if asking.tls else "")
            if here is not None:
                server = Hypercorn(here, asking.serve, worker.listeners())
                server.tls = asking.tls
                worker.ready(here, server)
        await original(*given)

    @functools.wraps(load)
    def load_application(*given: Any) -> Any:
        worker.prepare()
        return load(*given)

    vars(module).update(raise_shutdown=raise_shutdown, load_application=load_application)
