"""hypercorn's configuration: the listeners are the supervisor's, and so is what is said last."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from zdpatch.agent import worker
from zdpatch.agent.adapters.hypercorn_tcp import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.agent.adapters.hypercorn_tcp import Header


def install(module: ModuleType) -> None:
    """Have it take the listeners, and say which response is the last of its connection."""
    kind = module.Config
    kind.create_sockets = _taking(kind.create_sockets, module.Sockets)
    kind.response_headers = _adding(kind.response_headers)


def _taking(original: Callable[..., Any], sockets: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_sockets(config: Any) -> Any:
        given = worker.listeners()
        if not given:
            return original(config)
        return sockets(given, [], []) if config.ssl_enabled else sockets([], given, [])

    return create_sockets


def _adding(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def response_headers(config: Any, protocol: str) -> list[Header]:
        headers: list[Header] = original(config, protocol)
        return [*headers, *CONNECTIONS.headers] if protocol == "h11" else headers

    return response_headers
