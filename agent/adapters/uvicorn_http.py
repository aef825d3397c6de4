"""When a connection of uvicorn stands between two requests, and how it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def watched(protocol: type[Any], rests: Callable[[Any], None]) -> type[Any]:
    """`protocol`, which calls `rests` with itself when a request or its response ended."""

    class Watched(protocol):  # type: ignore[misc] # which one the configuration says
        """Knows whether it has read a part of a request."""

        zdpatch_reading = False

        def on_message_begin(self) -> None:
            """httptools: the first byte of a request."""
            self.zdpatch_reading = True
            super().on_message_begin()  # pyright: ignore[reportUnknownMemberType]

        def on_message_complete(self) -> None:
            """httptools: the last one."""
            super().on_message_complete()  # pyright: ignore[reportUnknownMemberType]
            self.zdpatch_reading = False
            rests(self)

        def on_response_complete(self) -> None:
            """The last byte of a response was written."""
            super().on_response_complete()  # pyright: ignore[reportUnknownMemberType]
            rests(self)

    Watched.__name__ = protocol.__name__
    Watched.__qualname__ = protocol.__qualname__
    return Watched


def stands(connection: Any) -> bool:
    """Whether it is HTTP/1.1 between two requests, and nothing of the next one was read."""
    if not hasattr(connection, "zdpatch_reading"):
        return False
    cycle = connection.cycle
    if cycle is not None and not cycle.response_complete:
        return False
    parser = getattr(connection, "conn", None)
    if parser is not None:
        return _stands(parser)
    return not connection.zdpatch_reading and not connection.pipeline


def _stands(parser: Any) -> bool:
    """h11 knows by itself."""
    both = {parser.our_state, parser.their_state}
    return {str(one) for one in both} == {"IDLE"} and not parser.trailing_data[0]


def is_open_websocket(connection: Any) -> bool:
    """Whether it is a WebSocket after its handshake: before, it would be refused with an error."""
    if hasattr(connection, "zdpatch_reading"):
        return False
    begun = getattr(connection, "handshake_completed_event", None)
    return bool(getattr(connection, "handshake_complete", begun is not None and begun.is_set()))
