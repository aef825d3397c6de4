"""Around an ASGI application each request, and each WebSocket connection, is a scope.

Nothing that goes in or comes out is touched, and the lifespan is no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zdpatch.agent.keyed import Keyed
from zdpatch.patcher.scopes import Request, name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]


class ScopedAsgi:
    """An ASGI application; what else it has (routes, state) is reached as before."""

    def __init__(
        self, app: Application, key: Callable[[Message], object] | None, *, websockets: bool
    ) -> None:
        self._app = app
        self._keyed = Keyed(key)
        self._kinds = ("http", "websocket") if websockets else ("http",)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in self._kinds:
            await self._app(scope, receive, send)
            return
        key = self._keyed.of(scope)
        name(key)
        with Request(key):
            await self._app(scope, receive, send)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the application's own attributes
        return getattr(self._app, name)
