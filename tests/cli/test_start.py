"""Ctrl-C at any instant of the command's start ends it without a traceback."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHERE = (ROOT / "pyproject.toml").read_text()
MODULE, FUNCTION = tomllib.loads(WHERE)["project"]["scripts"]["zdpatch"].split(":")


@pytest.mark.parametrize(
    "module", ["zdpatch.cli.main", "click", "zdpatch.cli.errors", "zdpatch.cli.status", "zmq"]
)
def test_interrupted_while_it_is_loaded(module: str, tmp_path: Path) -> None:
    """The signal comes as the module is about to be imported: 130, one word, no traceback."""
    script = f"""
import signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["zdpatch", "--home", {str(tmp_path)!r}, "status"]
from {MODULE} import {FUNCTION}
sys.exit({FUNCTION}())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
