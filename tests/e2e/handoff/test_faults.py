"""What goes wrong with new workers, with old ones and with whoever asks, and nobody notices."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.handoff.fleet import running
from tests.e2e.handoff.load import answer, clients, get

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.handoff.fleet import Running

pytestmark = pytest.mark.e2e
UVICORN = (sys.executable, "-m", "uvicorn", "--no-access-log", "service:asgi")
BOTH = ["serving", "serving"]
LIGHT = 0.5  # every second client: the faults are about workers, not about load


def refused(fleet: Running) -> str:
    """`replace --wait` that fails, and what it says."""
    done = fleet.zdpatch("replace", "--wait")
    assert done.returncode == 6, done
    assert "ZDP-503" in done.stderr
    return done.stderr


def test_a_release_that_raises_at_import(tmp_path: Path) -> None:
    """Its last words are shown, every request is answered, and a mended one goes in."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        with clients(fleet.where, share=LIGHT) as tally:
            fleet.fault("raise")
            assert "RuntimeError: this release is broken" in refused(fleet)
            assert answer(fleet.where).startswith("1-")
            fleet.fault("")
            assert fleet.replace()["done"]["generation"] == 3
            assert answer(fleet.where).startswith("3-")
        assert tally.clean(), tally


def test_a_release_that_hangs(tmp_path: Path) -> None:
    """It is given up when its time is over; a later trigger does not wait for that."""
    with running(tmp_path, *UVICORN, options=("--ready", "5s")) as fleet:
        fleet.wait(BOTH)
        with clients(fleet.where, share=LIGHT) as tally:
            fleet.fault("hang")
            assert "not ready after 5 s" in refused(fleet)
            hung = subprocess.Popen(
                [sys.executable, "-m", "zdpatch.cli.main", "replace", "--wait"],
                env={**os.environ, "ZDPATCH_HOME": str(fleet.place / "h")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            shown = fleet.wait(["boot"], generation=3)
            while next(w.age_s for w in shown.workers if w.generation == 3) < 1.1:
                shown = fleet.wait(["boot"], generation=3)
            fleet.fault("")
            assert fleet.replace()["done"]["generation"] == 4
            assert hung.wait(20) == 0  # whoever asked first has new workers too
        assert tally.clean(), tally


def test_a_release_that_dies_while_it_is_ready(tmp_path: Path) -> None:
    """The first of its workers ends before the second is ready."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        fleet.fault("die")
        assert "ended with status 3" in refused(fleet)
        assert answer(fleet.where).startswith("1-")


def test_a_release_that_flaps(tmp_path: Path) -> None:
    """Its workers end soon after they began to serve: the old ones serve again."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        fleet.fault("flap")
        fleet.zdpatch("replace")
        while "serve again" not in fleet.log:
            fleet.shown()
        assert fleet.wait(BOTH, generation=1).generation == 1
        assert answer(fleet.where).startswith("1-")


def test_ten_triggers_at_once(tmp_path: Path) -> None:
    """They are one replacement, and one more."""
    with running(tmp_path, *UVICORN, options=("--warm", "1s")) as fleet:
        fleet.wait(BOTH)
        with clients(fleet.where, share=LIGHT) as tally:
            for _ in range(10):
                fleet.process.send_signal(signal.SIGHUP)
            shown = fleet.wait(BOTH)
            while shown.generation < 2:
                shown = fleet.wait(BOTH)
        assert shown.generation in (2, 3)
        assert tally.clean(), tally


def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """The other one serves meanwhile."""
    with running(tmp_path, *UVICORN) as fleet:
        shown = fleet.wait(BOTH)
        victim = shown.workers[0].pid
        os.kill(victim, signal.SIGKILL)
        while victim in {worker.pid for worker in shown.workers}:
            shown = fleet.wait(BOTH)
        assert "SIGKILL" in fleet.log
        assert shown.generation == 1


def test_an_old_worker_that_is_killed_while_it_drains(tmp_path: Path) -> None:
    """What it had in flight is counted as cut, and the replacement ends."""
    with running(tmp_path, *UVICORN) as fleet, socket.create_connection(fleet.where) as streaming:
        fleet.wait(BOTH)
        streaming.sendall(get(b"/long"))
        received = b""
        while b"1-" not in received:
            received += streaming.recv(4096)
        victim = int(received.partition(b"1-")[2].split()[0])
        asking = subprocess.Popen(
            [sys.executable, "-m", "zdpatch.cli.main", "replace", "--wait"],
            env={**os.environ, "ZDPATCH_HOME": str(fleet.place / "h")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        fleet.wait(["stopped", "stopped"], generation=1)
        os.kill(victim, signal.SIGKILL)
        said, _ = asking.communicate(timeout=30)
        assert "workers cut with something in flight: 1" in said
        assert fleet.replace()["done"]["cut"] == 0


def test_an_end_in_the_middle_of_requests(tmp_path: Path) -> None:
    """The supervisor ends after the last answer, and leaves nobody behind."""
    with running(tmp_path, *UVICORN) as fleet:
        workers = [worker.pid for worker in fleet.wait(BOTH).workers]
        with clients(fleet.where, share=LIGHT) as tally:
            while tally.requests < 50:
                fleet.shown()
            fleet.process.send_signal(signal.SIGTERM)
            assert fleet.process.wait(30) == 0, fleet.log
        assert not [how for how in tally.failed if "cut off" in how], tally
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """It is said, and tried again: whoever installs it needs nothing else."""
    with running(tmp_path, "no-such-command") as fleet:
        while "no-such-command" not in fleet.log:
            fleet.shown()
        assert fleet.process.poll() is None
