"""`zdpatch` as a person runs it, and the sign that a process can be found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def zdpatch(place: Path, *arguments: str, code: int = 0, **environ: str) -> str:
    """Run `zdpatch` in a folder whose home is `h`; its stdout. Fails unless it ends with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "zdpatch.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "ZDPATCH_HOME": str(place / "h"), **environ},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def announced(place: Path, pid: int) -> None:
    """Return when the agent of a process can be found: its card is there when its socket is.

    The agent's own thread binds it; nothing tells an outsider but the file.
    """
    deadline = time.monotonic() + 30
    while not list((place / "h/agents").glob(f"shop-{pid}-*/agent.json")):
        assert time.monotonic() < deadline, "the agent did not announce itself"
        time.sleep(0.01)
