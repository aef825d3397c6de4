"""A service under `zdpatch run` as a person starts it, and everything of it gone at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdpatch.agent import passing, roster, wire

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

SERVICES = [Path(__file__).with_name(name) for name in ("service.py", "service_aiohttp.py")]


class Running:
    """One supervisor and its place."""

    process: subprocess.Popen[bytes]

    def __init__(self, place: Path, arguments: Sequence[str], port: int) -> None:
        self.place = place
        self.arguments = arguments
        self.environ: dict[str, str] = {}
        self.where = ("127.0.0.1", port)

    @property
    def log(self) -> str:
        """What it printed."""
        return (self.place / "log").read_text()

    def zdpatch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in its home."""
        return subprocess.run(
            [sys.executable, "-m", "zdpatch.cli.main", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "ZDPATCH_HOME": str(self.place / "h")},
        )

    def replace(self) -> dict[str, Any]:
        """`zdpatch replace --wait`; what it says."""
        done = self.zdpatch("replace", "--wait", "--json")
        assert done.returncode == 0, done.stdout + done.stderr + self.log
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def shown(self) -> wire.Shown:
        """How the supervisor says it is."""
        (place,) = (path.parent for path in (self.place / "h/run").glob("*/s"))
        with wire.Place(place).connect() as channel:
            passing.send(channel, wire.encode(wire.Ask("status")))
            with passing.receive(channel) as packet:
                said = wire.decode(packet.data)
        assert isinstance(said, wire.Shown)
        return said

    def wait(self, states: Sequence[str], *, generation: int | None = None) -> wire.Shown:
        """Return when the workers, of that generation, are in these states."""
        deadline = time.monotonic() + 30
        while True:
            shown = self.shown()
            workers = [w for w in shown.workers if generation in (None, w.generation)]
            if sorted(worker.state for worker in workers) == sorted(states):
                return shown
            assert time.monotonic() < deadline, (shown, self.log)
            time.sleep(0.02)

    def fault(self, what: str) -> None:
        """New workers do this wrong."""
        (self.place / "fault").write_text(what)

    def start(self) -> None:
        """Start the supervisor, or another one in its place."""
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zdpatch.cli.main", "run", *self.arguments],
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ZDPATCH_HOME": str(self.place / "h"), **self.environ},
            )

    def until_answering(self) -> None:
        """Return when the supervisor answers."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.shown()
            except (OSError, ValueError):
                assert time.monotonic() < deadline, self.log
                assert self.process.poll() is None, self.log
                time.sleep(0.01)
            else:
                return

    def end(self) -> None:
        """End it as a person does, and see that nobody is left; end them all in any case."""
        try:
            if self.process.poll() is None:
                self._end()
        finally:
            self.process.kill()
            self.process.wait()
            for place in (self.place / "h/run").iterdir():
                for worker in roster.living(place):
                    os.kill(worker.pid, signal.SIGKILL)

    def _end(self) -> None:
        workers = [worker.pid for worker in self.shown().workers]
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log
        deadline = time.monotonic() + 10
        while [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(
    place: Path, *command: str, workers: int = 2, options: Sequence[str] = (), **environ: str
) -> Generator[Running]:
    """Start `command`, in which PORT stands for the port, and end it all in the end."""
    for service in SERVICES:
        shutil.copy(service, place)
    port = free_port()
    words = [word.replace("PORT", str(port)) for word in command]
    bind = ("--bind", f"127.0.0.1:{port}", "--workers", str(workers))
    made = Running(place, [*bind, *options, "--", *words], port)
    made.environ = environ
    made.start()
    try:
        made.until_answering()
        yield made
    finally:
        made.end()
