"""Services of an operator, with their trees, keys and homes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.command import announced, zdpatch

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = "RATE = 2\n\n\ndef price(net):\n    return net\n"
NEW = "RATE = 3\n\n\ndef price(net):\n    return net * RATE\n"
SHOP = """
import sys

from shop import cart
from zdpatch import agent

agent.start(app="shop", labels={"zone": sys.argv[1]}, now=True)
price = cart.price
print("up", flush=True)
for line in sys.stdin:
    print(price(int(line)), *agent.active(), flush=True)
"""


class Process:
    """A service whose state is its pid, asked through its stdin."""

    def __init__(self, place: Path, zone: str, tree: str, environ: dict[str, str]) -> None:
        path = os.pathsep.join([str(place / tree), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "ZDPATCH_HOME": str(place / "h"), "PYTHONPATH": path, **environ}
        self._child = subprocess.Popen(
            [sys.executable, "-c", SHOP, zone],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def wait_for_the_agent(self, place: Path) -> None:
        """Return when it can be found."""
        assert self._child.stdout is not None
        assert self._child.stdout.readline() == "up\n"
        announced(place, self.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ask(self, net: int) -> str:
        """What price it says, and the active patches."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{net}\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().strip()

    def kill(self) -> None:
        """End it without a word."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def end(self) -> None:
        """Let it end by itself."""
        self._child.communicate()

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.communicate()


@dataclass
class Place:
    """A folder with two trees, a key, a home that trusts it, and services."""

    path: Path
    services: list[Process] = field(default_factory=list[Process])

    def serve(self, zone: str = "a", tree: str = "old", **environ: str) -> Process:
        """Start a service from a tree."""
        service = self.start(zone, tree, **environ)
        service.wait_for_the_agent(self.path)
        return service

    def start(self, zone: str = "a", tree: str = "old", **environ: str) -> Process:
        """The same without an agent to wait for."""
        service = Process(self.path, zone, tree, environ)
        self.services.append(service)
        return service

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `zdpatch` as a process; its stdout. Fails unless it ends with `code`."""
        return zdpatch(self.path, *arguments, code=code)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The same with --json."""
        value: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code))
        return value

    def build(self, *more: str, base: str = "old", new: str = "new") -> dict[str, Any]:
        """Build and sign `fix.zdp`."""
        ends = ("--from", base, "--to", new, "--app", "shop", "-o", "fix.zdp")
        return self.json("build", *ends, "--id", "fix-1", "--sign", "ci.key", *more)


@pytest.fixture
def place() -> Iterator[Place]:
    """A place in a short path; its services are ended afterwards."""
    path = Path(tempfile.mkdtemp(prefix="zdp-", dir="/tmp"))
    for tree, cart in (("old", OLD), ("new", NEW)):
        (path / tree / "shop").mkdir(parents=True)
        (path / tree / "shop/__init__.py").write_text("")
        (path / tree / "shop/cart.py").write_text(cart)
    made = Place(path)
    made.run("keygen", "ci.key", "--no-passphrase")
    made.run("trust", "init", "--key", "ci.pub")
    yield made
    for service in made.services:
        service.close()
    shutil.rmtree(path)
