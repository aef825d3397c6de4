"""A supervisor that is killed takes nobody with it, and the same command takes its workers back."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.handoff.fleet import running
from tests.e2e.handoff.load import answer, clients
from zdpatch.agent import roster

if TYPE_CHECKING:
    from tests.e2e.handoff.fleet import Running

pytestmark = pytest.mark.e2e
COMMANDS = {
    "uvicorn": (sys.executable, "-m", "uvicorn", "--no-access-log", "service:asgi"),
    "gunicorn": (
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--keep-alive", "10"),
        *("-k", "gthread", "--threads", "8", "-w", "2", "service:wsgi"),
    ),
    "http.server": (sys.executable, "service.py", "PORT"),
}
BOTH = ["serving", "serving"]


def kill(fleet: Running) -> list[int]:
    """SIGKILL of the supervisor; the pids of its workers."""
    pids = [worker.pid for worker in fleet.wait(BOTH).workers]
    fleet.process.kill()
    fleet.process.wait()
    return pids


@pytest.mark.parametrize("server", COMMANDS)
def test_the_same_command_takes_them_back(tmp_path: Path, server: str) -> None:
    """Nobody notices, no second fleet stands beside the first, and a replacement works again."""
    with running(tmp_path, *COMMANDS[server], options=("--warm", "1s")) as fleet:
        fleet.wait(BOTH)
        with clients(fleet.where, share=0.5) as tally:
            fleet.replace()
            pids = kill(fleet)
            assert answer(fleet.where).startswith("2-")
            fleet.start()
            fleet.until_answering()
            shown = fleet.wait(BOTH)
            assert shown.generation == 2
            assert {worker.pid for worker in shown.workers} == set(pids)
            assert fleet.replace()["done"]["ok"], fleet.log
            assert answer(fleet.where).startswith("3-")
        assert tally.clean(), tally


def test_a_worker_that_died_meanwhile_is_started_again(tmp_path: Path) -> None:
    """The other one brings the listener."""
    with running(tmp_path, *COMMANDS["uvicorn"]) as fleet:
        pids = kill(fleet)
        os.kill(pids[0], 9)
        fleet.start()
        fleet.until_answering()
        shown = fleet.wait(BOTH)
        assert pids[1] in {worker.pid for worker in shown.workers}
        assert pids[0] not in {worker.pid for worker in shown.workers}


def test_a_worker_of_another_generation(tmp_path: Path) -> None:
    """Whoever serves without being on the list finishes and ends: one version answers."""
    with running(tmp_path, *COMMANDS["uvicorn"]) as fleet:
        pids = kill(fleet)
        place = tmp_path / "h/run/default"
        roster.write(place, [one for one in roster.living(place) if one.pid == pids[0]])
        fleet.start()
        fleet.until_answering()
        while Path(f"/proc/{pids[1]}").exists():
            answer(fleet.where)
        shown = fleet.wait(BOTH)
        assert pids[0] in {worker.pid for worker in shown.workers}


def test_workers_that_nobody_takes_back(tmp_path: Path) -> None:
    """They serve for a while, and end; then the command begins anew."""
    options = ("--orphan", "1s")
    with running(tmp_path, *COMMANDS["uvicorn"], options=options) as fleet:
        kill(fleet)
        answer(fleet.where)
        deadline = time.monotonic() + 20
        while roster.living(tmp_path / "h/run/default"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        fleet.start()
        fleet.until_answering()
        assert fleet.wait(BOTH).generation == 1
