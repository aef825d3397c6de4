"""`zdpatch push` to one agent, as a process and in a warm client. Prints JSON lines.

The patch changes 20 functions of a service that answers on its own. Each push is taken out again
outside of the measured time. Baselines of the same run: an interpreter that does nothing, and one
question to the agent (`hello`) on the same warm connection.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.agent.protocol import Apply, Hello, HelloResult, Revert, RevertResult
from zdpatch.cli import fleet
from zdpatch.cli.bundlefile import read_bundle
from zdpatch.cli.client import Client
from zdpatch.cli.select import discover

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
SERVICE = """
import sys
import shop
from zdpatch import agent
agent.start(app="shop")
sys.stdin.read()
"""


def source(version: int) -> str:
    """Twenty functions."""
    return "\n".join(f"def f{n}(x):\n    return x + {version}\n" for n in range(20))


class Place:
    """A folder with a service of the old tree, a key that its agent trusts, and a signed bundle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "ZDPATCH_HOME": str(path / "h")}
        for tree, version in (("old", 1), ("new", 2)):
            (path / tree).mkdir()
            (path / tree / "shop.py").write_text(source(version))
        self.zdpatch("keygen", "ci.key", "--no-passphrase")
        self.zdpatch("trust", "init", "--key", "ci.pub")
        self.service = subprocess.Popen(
            [sys.executable, "-c", SERVICE],
            cwd=path / "old",
            stdin=subprocess.PIPE,
            env={
                **self.environment,
                # the same zdpatch in the service as here, also when that is not the installed one
                "PYTHONPATH": os.pathsep.join(
                    [str(path / "old"), os.environ.get("PYTHONPATH", "")]
                ),
            },
        )
        until = time.monotonic() + 20
        while not list((path / "h").glob("agents/*/agent.json")):
            if time.monotonic() > until:
                raise TimeoutError("the agent did not come up")
            time.sleep(0.02)
        ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp")
        self.zdpatch("build", *ends, "--id", "fix-1", "--sign", "ci.key")

    def zdpatch(self, *arguments: str) -> None:
        """Run the command as a process; raise when it fails."""
        self.python("-m", "zdpatch.cli.main", *arguments)

    def python(self, *arguments: str) -> None:
        """Run an interpreter."""
        subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )


def milliseconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def show(figure: str, values: list[float], baselines: list[float], what: str, reach: float) -> None:
    """Print one figure from the medians."""
    value = statistics.median(values)
    row = {"figure": figure, "unit": "ms", "value": round(value, 1), "baseline is": what}
    row |= {"baseline": round(statistics.median(baselines), 1), "best": round(min(values), 1)}
    print(json.dumps({**row, "reach": reach, "met": value <= reach}))


def as_process(place: Place) -> None:
    """Push and roll back by the command."""
    pushes, bare = list[float](), list[float]()
    for _ in range(ROUNDS):
        bare.append(milliseconds(lambda: place.python("-c", "pass")))
        pushes.append(milliseconds(lambda: place.zdpatch("push", "fix.zdp", "--yes", "--confirm")))
        place.zdpatch("rollback", "fix-1")
    show("`zdpatch push` as a process", pushes, bare, "an interpreter that does nothing", 300)


def warm(place: Place) -> None:
    """Push and roll back through one client that stays open."""
    file = read_bundle(place.path / "fix.zdp")
    agents = discover(place.path / "h")
    pushes, hellos = list[float](), list[float]()
    with Client() as client:

        def push() -> None:
            targets = fleet.prepare(client, file.digest, file.raw, agents)
            header = Apply(digest=file.digest, trial_s=None, confirm=True, reason="bench")
            (target,) = fleet.apply(client, header, targets)
            assert target.outcome == "applied", target

        for _ in range(ROUNDS):
            hellos.append(milliseconds(lambda: client.ask(agents, Hello(), HelloResult)))
            pushes.append(milliseconds(push))
            (answer,) = client.ask(agents, Revert(file.digest), RevertResult)
            answer.need()
    show("push in a warm client", pushes, hellos, "one question (hello)", 5)


def main() -> None:
    """Measure both, with one service."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Place(Path(folder))
        try:
            as_process(place)
            warm(place)
        finally:
            place.service.communicate()


main()
