"""`zdpatch push` to one agent, as a process and in a warm client. Prints JSON lines.

The patch changes 20 functions of a service that answers on its own. Each push is taken out again
outside of the measured time. Baselines of the same run: an interpreter that does nothing, and one
question to the agent (`hello`) on the same warm connection.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from place import Place

from zdpatch.agent.protocol import Hello, HelloResult
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
    agents = discover(place.path / "h")
    pushes, hellos = list[float](), list[float]()
    with Client() as client:
        for _ in range(ROUNDS):
            hellos.append(milliseconds(lambda: client.ask(agents, Hello(), HelloResult)))
            pushes.append(milliseconds(lambda: place.push(client)))
            place.revert(client)
    show("push in a warm client", pushes, hellos, "one question (hello)", 5)


def main() -> None:
    """Measure both, with one service."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        old, new = ({"shop.py": source(version)} for version in (1, 2))
        place = Place(Path(folder), old, new, SERVICE)
        try:
            as_process(place)
            warm(place)
        finally:
            place.end()


main()
