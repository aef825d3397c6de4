"""aiohttp: a site that would listen where a listener is takes that one, and waits."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.adapters.aiohttp_http import WEBSOCKETS
from zdpatch.agent.adapters.on_loop import OnLoop, is_at_rest
from zdpatch.agent.sockets import address_of

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Collection, Sequence
    from types import ModuleType

    from zdpatch.agent.sockets import Address

_LACKS: Final = "connections with TLS are not handed over"


class Aiohttp(OnLoop):
    """The server of one runner."""

    def __init__(
        self, here: worker.Worker, site: Any, server: Any, listeners: Sequence[socket.socket]
    ) -> None:
        super().__init__(here, listeners)
        self._server: Final = server
        self.tls, self.backlog = site._ssl_context, site._backlog
        server.zdpatch_rested = self.rested

    def serves(self, server: Any, tls: Any) -> bool:
        """Whether it is that of this runner, with or without TLS."""
        return server is self._server and tls is self.tls

    def make(self) -> asyncio.BaseProtocol:
        """A `RequestHandler`."""
        made: asyncio.BaseProtocol = self._server()
        return made

    def connections(self) -> Collection[Any]:
        """All `RequestHandler`s."""
        connections: list[Any] = self._server.connections
        return connections

    def websockets(self) -> Collection[Any]:
        """Those of all applications in this process."""
        return [one for one in WEBSOCKETS if not one.closed]

    def rests(self, connection: Any) -> bool:
        """Whether it waits for a request of which nothing came."""
        return is_at_rest(connection.transport) and connection.zdpatch_rests()

    def end(self, connection: Any) -> None:
        """As aiohttp does it."""
        connection.close()

    def bye(self, websocket: Any) -> None:
        """The handler sees the end of its WebSocket."""
        self._keep(functools.partial(websocket.close, code=1012, message=b"service restart"))

    def adopted(self, connection: Any) -> None:
        """aiohttp gives every new connection its time."""

    def say_last(self, last: bool) -> None:
        """aiohttp has no word for it that all responses have: connections end when they rest."""


def install(module: ModuleType) -> None:
    """Have sites meet their listeners where they start, after the application's own start."""
    module.BaseRunner.setup = _beginning(module.BaseRunner.setup)
    for kind in (module.TCPSite, module.UnixSite):
        kind.start = _starting(module.BaseSite.start, kind.start)


def _beginning(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def setup(runner: Any) -> None:
        worker.prepare()
        await original(runner)

    return setup


_serving: list[Aiohttp] = []
"""The one of this process, when it has joined."""


def _starting(base: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def start(site: Any) -> None:
        given = [one for one in worker.listeners() if _is_meant(site, address_of(one))]
        server = site._runner.server
        joined = next((one for one in _serving if one.serves(server, site._ssl_context)), None)
        lacks = _LACKS if site._ssl_context else ""
        here = worker.join("aiohttp", lacks) if given and joined is None else None
        if here is None and (joined is None or not given):
            await original(site)
            return
        await base(site)
        if hasattr(site, "_port"):
            site._bound_port = site._port
        if joined is not None:
            joined.add(given)
        elif here is not None:
            _serving.append(Aiohttp(here, site, server, given))
            worker.ready(here, _serving[-1])

    return start


def _is_meant(site: Any, address: Address) -> bool:
    """By path, or by port: the host of a site may be a name, several, or none."""
    path = getattr(site, "_path", None)
    if path is not None:
        return address.path == str(path)
    return not address.path and address.port == site._port
