"""gunicorn's gthread worker: all its connections but those in a thread are its main thread's."""

from __future__ import annotations

import functools
import selectors
import time
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.agent import wire


class GThread:
    """One `ThreadWorker`. Everything is done on its main thread, through its own queue."""

    def __init__(self, here: worker.Worker, process: Any, connection: type[Any]) -> None:
        self._here: Final = here
        self._connection: Final = connection
        self._process: Final = process
        self._open = False
        self._draining = False
        self._closed = 0
        self._enable: Final[Callable[[bool], None]] = process.set_accept_enabled
        self._dispatch: Final[Callable[[float], None]] = process.wait_for_and_dispatch_events
        self._most_kept: Final[int] = process.max_keepalived
        process.set_accept_enabled = self._set_accept_enabled
        process.wait_for_and_dispatch_events = self._wait_for_and_dispatch_events

    def go(self) -> None:
        """Accept."""
        self._process.method_queue.defer(self._go)

    def stop(self) -> None:
        """Accept no more."""
        self._process.method_queue.defer(self._stop)

    def drain(self, limits: wire.Drain) -> None:
        """Hand over, or finish."""
        self._process.method_queue.defer(self._drain, limits)

    def adopt(self, connection: socket.socket, client: Any) -> None:
        """Serve it."""
        self._process.method_queue.defer(self._adopt, connection, client)

    # -- on the worker's main thread ------------------------------------------------------------

    def _set_accept_enabled(self, enabled: bool) -> None:
        self._enable(enabled and self._open)

    def _go(self) -> None:
        self._open, self._draining = True, False
        self._process.max_keepalived = self._most_kept
        self._enable(True)

    def _stop(self) -> None:
        self._open = False
        self._enable(False)
        self._here.stopped()

    def _drain(self, limits: wire.Drain) -> None:
        process = self._process
        self._draining, self._closed = True, 0
        if not self._here.has_heir:
            self._closed = len(process.keepalived_conns)
            process.max_keepalived = -1  # responses then say that their connection ends
            process._cap_keepalive(time.monotonic() + limits.linger_s)

    def _wait_for_and_dispatch_events(self, timeout: float) -> None:
        self._dispatch(timeout)
        if self._draining:
            # not while events are dispatched: one of them may be a connection's that goes
            self._sweep()

    def _sweep(self) -> None:
        process = self._process
        for waiting in (process.keepalived_conns, process.pending_conns):
            for connection in list(waiting):
                if _is_plain(connection) and self._here.hand_over(connection.sock.fileno()):
                    waiting.remove(connection)
                    process.poller.unregister(connection.sock)
                    process.nr_conns -= 1
                    connection.close()  # this process's copy; the client sees nothing of it
        if process.nr_conns == 0:
            self._here.drained(self._closed)
            self._draining = False

    def _adopt(self, connection: socket.socket, client: Any) -> None:
        process = self._process
        server = process.sockets[0].getsockname()
        adopted = self._connection(process.cfg, connection, client, server)
        adopted.set_timeout()
        process.nr_conns += 1
        process.keepalived_conns.append(adopted)
        readable = functools.partial(process.on_client_socket_readable, adopted)
        process.poller.register(connection, selectors.EVENT_READ, readable)


def _is_plain(connection: Any) -> bool:
    """Whether it is HTTP/1.1 without TLS. The next request is unread: the poller waits for it."""
    return not connection.cfg.is_ssl and not connection.is_http2


def install(module: ModuleType) -> None:
    """Join when a worker has loaded its application and begins its loop."""
    original = module.ThreadWorker.run

    @functools.wraps(original)
    def run(process: Any) -> None:
        lacks = "connections with TLS are not handed over" if process.cfg.is_ssl else ""
        here = worker.join("gunicorn gthread", lacks)
        if here is not None:
            worker.ready(here, GThread(here, process, module.TConn))
        original(process)

    module.ThreadWorker.run = run
