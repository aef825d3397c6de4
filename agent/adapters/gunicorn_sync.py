"""gunicorn's sync worker serves one connection at a time, to its end: a gate is all it needs."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker
from zdpatch.agent.adapters.gunicorn import keep_names
from zdpatch.agent.gate import Gate

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.agent import wire


class Sync:
    """One `SyncWorker`."""

    def __init__(self, here: worker.Worker, process: Any) -> None:
        self._here: Final = here
        self._process: Final = process
        self._lock: Final = threading.Lock()
        self._busy = False
        self._draining = False
        self._adopted: Final[list[tuple[socket.socket, Any]]] = []
        keep_names(process.sockets)
        self._gates: Final = [Gate(one.fileno()) for one in process.sockets]
        process.accept = functools.partial(self._accept, process.accept)
        process.wait = functools.partial(self._wait, process.wait)

    def go(self) -> None:
        """Accept."""
        with self._lock:
            self._draining = False
        for gate in self._gates:
            gate.open()

    def stop(self) -> None:
        """Accept no more."""
        for gate in self._gates:
            gate.close()
        self._here.stopped()

    def drain(self, limits: wire.Drain) -> None:
        """There is one request, or none."""
        del limits
        with self._lock:
            self._draining = True
            idle = not self._busy
        if idle:
            self._here.drained()

    def adopt(self, connection: socket.socket, client: Any) -> None:
        """Serve it when the worker waits next."""
        self._adopted.append((connection, client))
        os.write(self._process.PIPE[1], b"1")

    # -- on the worker's own thread -------------------------------------------------------------

    def _accept(self, original: Callable[[Any], None], listener: Any) -> None:
        """Accept and serve, as it does."""
        self._serve(lambda: original(listener))

    def _wait(self, original: Callable[[float], Any], timeout: float) -> Any:
        """Wait, as it does, and serve what was handed over."""
        ready = original(timeout)
        while self._adopted:
            self._serve(functools.partial(self._handle, *self._adopted.pop(0)))
        return ready

    def _handle(self, connection: socket.socket, client: Any) -> None:
        connection.setblocking(True)
        listener = self._process.sockets[0]
        self._process.handle(listener, connection, client)

    def _serve(self, one: Callable[[], None]) -> None:
        with self._lock:
            self._busy = True
        try:
            one()
        finally:
            with self._lock:
                self._busy = False
                done = self._draining
            if done:
                self._here.drained()


def install(module: ModuleType) -> None:
    """Join when a worker has loaded its application and begins its loop."""
    original = module.SyncWorker.run

    @functools.wraps(original)
    def run(process: Any) -> None:
        here = worker.join("gunicorn sync", "no keep-alive: gunicorn's sync worker has none")
        if here is not None:
            worker.ready(here, Sync(here, process))
        original(process)

    module.SyncWorker.run = run
