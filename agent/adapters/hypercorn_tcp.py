"""When a connection of hypercorn stands between two requests, and how it says so."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_RESTART: Final = 1012  # service restart
Header = tuple[bytes, bytes]


class Connections:
    """All of this process. `headers` go with each response of HTTP/1.1."""

    def __init__(self) -> None:
        self.open: Final[set[Any]] = set()
        self.headers: list[Header] = []
        self.rested: Callable[[Any], None] | None = None


CONNECTIONS: Final = Connections()


def install(module: ModuleType) -> None:
    """Know which connections there are, and when a response ended."""
    server = module.TCPServer
    server.run = _running(server.run)
    server.protocol_send = _sending(server.protocol_send)
    server.transport = property(_transport)


def _transport(server: Any) -> Any:
    return server.writer.transport


def _running(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def run(server: Any) -> None:
        CONNECTIONS.open.add(server)
        try:
            await original(server)
        finally:
            CONNECTIONS.open.discard(server)

    return run


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def protocol_send(server: Any, event: Any) -> None:
        await original(server, event)
        if getattr(event, "idle", False) and CONNECTIONS.rested is not None:
            CONNECTIONS.rested(server)

    return protocol_send


def stands(server: Any) -> bool:
    """Whether it is HTTP/1.1 between two requests, and nothing of the next one was read."""
    protocol: Any = getattr(getattr(server, "protocol", None), "protocol", None)
    parser = getattr(protocol, "connection", None)
    if parser is None or protocol.stream is not None or server.reader._buffer:
        return False
    states = {str(getattr(parser, name, "")) for name in ("our_state", "their_state")}
    return states == {"IDLE"} and not parser.trailing_data[0]


def _stream(server: Any) -> Any:
    """The stream of HTTP/1.1; None for HTTP/2, which has several."""
    wrapper = getattr(server, "protocol", None)
    return getattr(getattr(wrapper, "protocol", None), "stream", None)


def is_open_websocket(server: Any) -> bool:
    """Whether it is a WebSocket after its handshake."""
    stream = _stream(server)
    return getattr(getattr(stream, "state", None), "name", "") == "CONNECTED" and hasattr(
        stream, "handshake"
    )


async def say_goodbye(server: Any) -> None:
    """1012, as if the application had closed it; it sees that."""
    stream = _stream(server)
    if stream is not None:
        await stream.app_send({"type": "websocket.close", "code": _RESTART})
