"""The last act: what cannot go in place goes in with new workers, and no visitor notices."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psutil

from demo_app.checks import Failed, check, wait_until
from demo_app.live import request
from demo_app.load import GREETING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo_app.command import Zdpatch
    from demo_app.screen import Screen

SLOTS: Final = "CART-SLOTS"
WORKERS: Final = 2
VISITORS: Final = 4  # every second one keeps its connection
START_S: Final = 40.0
PAUSE_S: Final = 0.01


class Supervised:
    """The shop under `zdpatch run`, from the import root `source`."""

    def __init__(self, source: Path, env: Mapping[str, str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._env = {**env, "PYTHONPATH": str(source)}
        self._log = log

    @property
    def words(self) -> list[str]:
        """The command that starts it."""
        options = ["--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS), "--warm", "1s"]
        shop = ["python", "-P", "-m", "uvicorn", "--no-access-log", "shop.app:app"]
        return ["run", *options, "--app", "shop", "--", *shop]

    def __enter__(self) -> Self:
        bin_ = Path(sys.executable).parent
        words = [sys.executable if word == "python" else word for word in self.words]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [str(bin_ / "zdpatch"), *words],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._process = psutil.Process(process.pid)
        return self

    def __exit__(self, *_exc: object) -> None:
        below = self._process.children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()
        _, alive = psutil.wait_procs([self._process, *below], timeout=30)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def connect(self) -> HTTPConnection:
        """A new connection from outside."""
        return HTTPConnection("127.0.0.1", self.port, timeout=15)


class Visitor:
    """Somebody who looks at offers and cards, on one connection or on a new one each time."""

    def __init__(self, number: int, shop: Supervised, *, stays: bool) -> None:
        self.served = 0
        self.failure = ""
        self.fixes: list[str] = []
        self._name = f"visitor-{number}"
        self._shop = shop
        self._stays = stays
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._visit, name=self._name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=20)

    def _visit(self) -> None:
        connection = self._shop.connect()
        try:
            while not self._stop.wait(PAUSE_S):
                self._look(connection)
                if not self._stays:
                    connection.close()
        except (OSError, HTTPException, Failed) as error:
            self.failure = f"{self._name}: {type(error).__name__} {error}"
        finally:
            connection.close()

    def _look(self, connection: HTTPConnection) -> None:
        if self.served % 2:
            health = json.loads(request(connection, "GET", "/health", session=self._name))
            self.fixes = health["patches"]
        else:
            card = request(connection, "POST", "/card", GREETING, session=self._name)
            check(card == f"Dear {self._name}, enjoy your LAMP!", "the card is as written", card)
        self.served += 1


def replace_workers(
    screen: Screen, zdpatch: Zdpatch, source: Path, env: Mapping[str, str], log: Path
) -> None:
    """The refused bundle goes in by replacement, under load."""
    screen.act("What cannot go in place goes in with new workers, and nobody notices")
    with Supervised(source, env, log) as shop:
        screen.command("zdpatch " + " ".join(shop.words))
        wait_until(lambda: _agents(zdpatch) == WORKERS, "its workers serve", within_s=START_S)
        with contextlib.ExitStack() as stack:
            visitors = [
                stack.enter_context(Visitor(number, shop, stays=number % 2 == 0))
                for number in range(VISITORS)
            ]
            told = zdpatch("push", "slots.zdp", "--yes", code=4)
            check("--replace-workers" in told, "the refusal names the other way", told)
            zdpatch("push", "slots.zdp", "--replace-workers", "--yes", "--confirm")
            wait_until(
                lambda: any(v.failure for v in visitors) or all(SLOTS in v.fixes for v in visitors),
                "every visitor is served by the new workers",
                within_s=10,
            )
        failures = [visitor.failure for visitor in visitors if visitor.failure]
        check(not failures, "no request fails", "\n".join(failures))
    screen.figure("meanwhile", f"{sum(one.served for one in visitors)} requests, 0 failed")


def _agents(zdpatch: Zdpatch) -> int:
    """How many workers can be found."""
    try:
        return len(json.loads(zdpatch.read("status", "--json"))["agents"])
    except Failed:  # none yet
        return 0
