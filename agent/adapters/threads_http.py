"""Handlers of http.server wait for a request where they hear that somebody else serves it."""

from __future__ import annotations

import functools
import select
import ssl
from typing import TYPE_CHECKING, Any

from zdpatch.agent.adapters.threads import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler
    from types import ModuleType


def install(module: ModuleType) -> None:
    """Have handlers look before they read a request, and say when it is the last."""
    handler = module.BaseHTTPRequestHandler
    handler.handle_one_request = _waiting(handler.handle_one_request)
    handler.end_headers = _closing(handler.end_headers)


def _waiting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(handler: BaseHTTPRequestHandler) -> None:
        if THREADS.has(handler.server) and not _comes(handler):
            handler.close_connection = True
            return
        original(handler)

    return replaced


def _comes(handler: BaseHTTPRequestHandler) -> bool:
    """Wait until something of a request is here; False: nothing does, or others serve it."""
    connection = handler.connection
    if isinstance(connection, ssl.SSLSocket) or _buffered(handler):
        return True
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.register(THREADS.bell, select.POLLIN)
    timeout = connection.gettimeout()
    came = {number for number, _ in waiting.poll(None if timeout is None else timeout * 1000)}
    if came != {THREADS.bell}:
        return True  # also when nothing came in time: reading then says so
    if THREADS.hands_over(connection):
        return False
    # a client may be sending already: it has a while, and is then told by the end of the connection
    return bool(select.select([connection], [], [], THREADS.linger_s)[0])


def _buffered(handler: BaseHTTPRequestHandler) -> bool:
    """Whether bytes were read that belong to the next request."""
    timeout = handler.connection.gettimeout()
    handler.connection.settimeout(0)
    try:
        return bool(handler.rfile.peek(1))  # type: ignore[attr-defined] # it is a BufferedReader
    finally:
        handler.connection.settimeout(timeout)


def _closing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replaced(handler: BaseHTTPRequestHandler) -> None:
        if THREADS.last and THREADS.has(handler.server) and not handler.close_connection:
            handler.send_header("Connection", "close")
        original(handler)

    return replaced
