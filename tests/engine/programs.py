"""A test that patches runs in an interpreter of its own, which says what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def told(folder: Path, program: str, given: Sequence[object], *more: str) -> str:
    """What `program`, run in `folder`, prints; `given` is its first argument, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(given), *more],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
