"""waitress: one loop has all connections, and does what others ask through its trigger."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.native import spawn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.agent import wire

_SWEEP_S: Final = 0.02


class Waitress:
    """The servers of one loop. What begins with an underscore runs on the loop's thread."""

    def __init__(self, here: worker.Worker, servers: list[Any]) -> None:
        self._here: Final = here
        self._servers: Final = servers
        self._limits: wire.Drain | None = None
        self._since = 0.0
        self._closed = 0
        for server in servers:
            server.accepting = False

    def go(self) -> None:
        """Accept."""
        self._limits = None
        self._ask(lambda: self._accept(True))

    def stop(self) -> None:
        """Accept no more."""
        self._ask(self._stop)

    def drain(self, limits: wire.Drain) -> None:
        """Hand over, or finish."""
        self._limits, self._since, self._closed = limits, time.monotonic(), 0
        spawn(lambda: self.sweep(limits))

    def adopt(self, connection: socket.socket, client: Any) -> None:
        """Serve it."""
        self._ask(lambda: self._adopt(connection, client))

    def sweep(self, limits: wire.Drain) -> None:
        """Have the loop look at its connections again and again: it has no timers."""
        while self._limits is limits:
            self._ask(lambda: self._look(limits))
            time.sleep(_SWEEP_S)

    def _ask(self, thunk: Callable[[], None]) -> None:
        self._servers[0].trigger.pull_trigger(thunk)

    def _accept(self, accepting: bool) -> None:
        for server in self._servers:
            server.accepting = accepting

    def _stop(self) -> None:
        self._accept(False)
        self._here.stopped()

    def _look(self, limits: wire.Drain) -> None:
        if self._limits is not limits:
            return
        for server in self._servers:
            for channel in list(server.active_channels.values()):
                if not _is_idle(channel):
                    continue
                if self._here.hand_over(channel.socket.fileno()):
                    channel.handle_close()  # this process's copy; the client sees nothing of it
                elif time.monotonic() - self._since >= limits.linger_s:
                    self._closed += 1
                    channel.will_close = True
        if not any(server.active_channels for server in self._servers):
            self._limits = None
            self._here.drained(self._closed)

    def _adopt(self, connection: socket.socket, client: Any) -> None:
        server = next(one for one in self._servers if one.family == connection.family)
        with contextlib.suppress(OSError):  # it may be gone already
            server.set_socket_options(connection)
        address = server.fix_addr(client)
        server.channel_class(server, connection, address, server.adj, map=server._map)


def _is_idle(channel: Any) -> bool:
    """Whether nothing of a request or of a response is in this process."""
    with channel.requests_lock:
        return (
            channel.connected
            and not channel.requests
            and channel.request is None
            and not channel.total_outbufs_len
            and not channel.will_close
            and not channel.close_when_flushed
        )


def install(module: ModuleType) -> None:
    """Give servers the listeners, and join when their loop begins."""
    vars(module)["create_server"] = _creating(module.create_server)
    for kind in (module.BaseWSGIServer, module.MultiSocketServer):
        kind.run = _running(kind.run)


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_server(application: Any, **given: Any) -> Any:
        worker.hush()
        listeners = worker.listeners()
        if listeners:
            for name in ("host", "port", "listen", "unix_socket"):
                given.pop(name, None)
            given["sockets"] = listeners
        return original(application, **given)

    return create_server


def _running(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(server: Any) -> None:
        here = worker.join("waitress")
        if here is not None:
            loop = server.map if hasattr(server, "map") else server._map
            servers = [one for one in loop.values() if hasattr(one, "active_channels")]
            worker.ready(here, Waitress(here, servers))
        original(server)

    return run
