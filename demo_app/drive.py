"""The tour: a live shop under load gets fixes, refuses bad ones, and loses no request.

Exit code 0: everything it said was checked and held. 1: the first thing that did not is named.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from demo_app import acts
from demo_app.checks import Failed
from demo_app.command import Zdpatch
from demo_app.family import family
from demo_app.live import Shop
from demo_app.load import Load
from demo_app.screen import Screen
from demo_app.successors import replace_workers

if TYPE_CHECKING:
    from types import FrameType

HERE = Path(__file__).parent


def main() -> int:
    """Run the tour; returns the exit code."""
    signal.signal(signal.SIGTERM, _end)
    screen = Screen()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zdpatch-demo-") as folder, family():
        work = Path(folder)
        log = work / "shop.log"
        try:
            _tour(screen, work, log)
        except (Failed, OSError, HTTPException) as failure:
            if log.exists():
                screen.output(f"the shop's log:\n{log.read_text(encoding='utf-8')[-3000:]}")
            screen.failure(str(failure))
            return 1
    screen.figure("seconds", f"{time.monotonic() - begun:.1f}")
    return 0


def _tour(screen: Screen, work: Path, log: Path) -> None:
    for tree in ("v1", "v2", "unsafe"):
        shutil.copytree(HERE / tree, work / tree, ignore=shutil.ignore_patterns("__pycache__"))
    env = _environment(work)
    zdpatch = Zdpatch(screen, work, env)
    acts.make_keys(screen, zdpatch)
    with Shop(work / "v1", env, log) as shop:
        with Load(shop) as load:
            tour = acts.Tour(screen, zdpatch, shop, load, work)
            for act in acts.ACTS:
                act(tour)
                tour.count()
        acts.finish(tour)
    replace_workers(screen, zdpatch, work / "v2", env, log)


def _environment(work: Path) -> dict[str, str]:
    """The environment of shop and operator: a home of their own, no settings from outside."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZDPATCH")}
    return env | {"ZDPATCH_HOME": str(work / "home"), "PYTHONUNBUFFERED": "1"}


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Being told to stop unwinds the tour, which ends the shop's processes."""
    sys.exit(130)


if __name__ == "__main__":
    sys.exit(main())
