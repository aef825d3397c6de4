"""The tour is what a user sees first: it must hold, and leave nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "demo_app.drive"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_the_tour_loses_no_request() -> None:
    """All acts hold under load, and the counts at the end say so."""
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^   (\w[\w ]*?)  +(.+)$", done.stdout, re.MULTILINE))
    assert int(counts["requests served"]) > 1000
    assert counts["requests failed"] == "0"
    assert counts["carts kept"] == "6 of 6"
    assert counts["meanwhile"].endswith(" requests, 0 failed")
    pids = [int(pid) for pid in counts["same processes"].split()]
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


def runs(pid: int) -> bool:
    """Whether the process runs: one that ended, and that nobody has buried yet, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_tour_that_is_told_to_stop_ends_its_shop() -> None:
    """SIGTERM in the middle leaves no process."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tour:
        assert tour.stdout is not None
        for line in tour.stdout:
            if "so far" in line:
                break
        below = psutil.Process(tour.pid).children(recursive=True)
        tour.send_signal(signal.SIGTERM)
        tour.stdout.read()
    assert tour.returncode == 130
    assert len(below) >= 3
    assert [process for process in below if process.is_running() and runs(process.pid)] == []
