"""The shop runs as anybody would run it: uvicorn with two workers; each ends with the tour."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Self

import psutil

from demo_app.checks import Failed, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORKERS = 2
READY_S = 30.0
STOP_S = 10.0
WORKER = re.compile(r"Started server process \[(\d+)\]")


class Shop:
    """The running service, from the import root `source`; `pids` are its workers."""

    def __init__(self, source: Path, env: Mapping[str, str], log: Path) -> None:
        self.port = 0  # of 127.0.0.1
        self.pids: tuple[int, ...] = ()
        self._log = log
        self._env = {**env, "PYTHONPATH": str(source)}
        self._started: list[psutil.Process] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "uvicorn", "shop.app:app", "--no-access-log"]
        command += ["--workers", str(WORKERS), "--timeout-worker-healthcheck", "60"]
        with _listener() as listener, self._log.open("wb") as log:
            self.port = listener.getsockname()[1]
            process = subprocess.Popen(
                [*command, "--fd", str(listener.fileno())],
                env=self._env,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(psutil.Process(process.pid))
        wait_until(self._serves, f"{WORKERS} workers serve", within_s=READY_S)

    def _serves(self) -> bool:
        if self._started[0].status() == psutil.STATUS_ZOMBIE:
            raise Failed(f"the shop ended at once\n{self.log()}")
        self._started[1:] = self._started[0].children()
        self.pids = tuple(sorted(int(pid) for pid in WORKER.findall(self.log())))
        return self.log().count("Application startup complete") == len(self.pids) == WORKERS

    def log(self) -> str:
        """What the shop wrote to its log so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def connect(self) -> HTTPConnection:
        """A new connection from outside."""
        return HTTPConnection("127.0.0.1", self.port, timeout=15)

    def ask(self, method: str, path: str, body: str = "", *, session: str = "visitor") -> str:
        """One request on a connection of its own; the answer's text."""
        with contextlib.closing(self.connect()) as connection:
            return request(connection, method, path, body, session=session)

    def worker_pids(self) -> tuple[int, ...]:
        """The workers that run now."""
        running = {child.pid for child in self._started[0].children()}
        return tuple(pid for pid in self.pids if pid in running)

    def stop(self) -> None:
        """End the service: politely at first, each process by its own pid."""
        for process in self._started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(self._started, timeout=STOP_S)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=STOP_S)


def _listener() -> socket.socket:
    """A listening socket on a free port.

    uvicorn's workers write an answer in two parts; without TCP_NODELAY, which connections inherit
    from the listener, the second part would wait for the client's delayed acknowledgement (40 ms).
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def request(
    connection: HTTPConnection, method: str, path: str, body: str = "", *, session: str
) -> str:
    """One request on a connection that stays open; the answer's text.

    Raises OSError or HTTPException when the connection breaks, Failed when the status is not 200.
    """
    headers = {"x-session": session}
    if body and path == "/cart":
        headers["content-type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise Failed(f"{method} {path} answered {answer.status}: {text[:200]}")
    return text
