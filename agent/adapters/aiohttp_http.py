"""When a connection of aiohttp stands between two requests: aiohttp's parser does not say so."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

WEBSOCKETS: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""Every `WebSocketResponse` that was prepared in this process."""


def install(module: ModuleType) -> None:
    """Have connections know what they read, or WebSockets known."""
    if module.__name__ == "aiohttp.web_protocol":
        module.__dict__["RequestHandler"] = _watched(module.__dict__["RequestHandler"])
    else:
        _register(module.__dict__["WebSocketResponse"])


def _watched(handler: type[Any]) -> type[Any]:
    class Watched(handler):  # type: ignore[misc] # aiohttp's own
        """Counts the bytes of each request against those which came."""

        zdpatch_left = 0  # bytes of the body that are to come
        zdpatch_whole = True  # what came ends with a request, not within another

        def data_received(self, data: bytes) -> None:
            """Bytes came."""
            idle = not self._messages and self._current_request is None
            super().data_received(data)  # pyright: ignore[reportUnknownMemberType]
            if not self.zdpatch_whole and not idle:
                return
            if not idle:
                self.zdpatch_left -= len(data)
                self.zdpatch_whole = self.zdpatch_left >= 0
                return
            self.zdpatch_whole = len(self._messages) == 1 and self._fits(data)

        def _fits(self, data: bytes) -> bool:
            """Whether these bytes begin with a head, and end within its request."""
            _, found, body = data.partition(b"\r\n\r\n")
            message: Any = self._messages[0][0]
            if not found or getattr(message, "chunked", True):
                return False
            try:
                size = int(message.headers.get("Content-Length", "0"))
            except (AttributeError, ValueError):
                return False
            self.zdpatch_left = size - len(body)
            return self.zdpatch_left >= 0

        async def _handle_request(self, *given: Any) -> Any:
            """A request, to the end of its response."""
            try:
                own: Any = super()
                return await own._handle_request(*given)
            finally:
                rested = getattr(self._manager, "zdpatch_rested", None)
                if rested is not None:  # it waits for the next one a round of the loop later
                    self._loop.call_soon(rested, self)

        def zdpatch_rests(self) -> bool:
            """Whether it waits for a request of which nothing came."""
            return (
                self.zdpatch_whole
                and self.zdpatch_left == 0
                and self._waiter is not None
                and not self._messages
                and self._current_request is None
                and not self._force_close
            )

    Watched.__name__ = handler.__name__
    Watched.__qualname__ = handler.__qualname__
    return Watched


def _register(response: type[Any]) -> None:
    original = response.prepare

    @functools.wraps(original)
    async def prepare(websocket: Any, request: Any) -> Any:
        writer = await original(websocket, request)
        WEBSOCKETS.add(websocket)
        return writer

    response.prepare = prepare
