"""The tour does everything to the shop through the `zdpatch` command, as its operator would."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo_app.checks import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo_app.screen import Screen

TIMEOUT_S = 120.0
LINES_SHOWN = 16


class Zdpatch:
    """The installed command. `work` is its working directory, so that file names are short."""

    def __init__(self, screen: Screen, work: Path, env: Mapping[str, str]) -> None:
        self._screen = screen
        self._work = work
        self._env = env

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run it, show it, return what it printed. Failed when its exit code is not `code`."""
        self._screen.command(shlex.join(("zdpatch", *arguments)))
        done = self._run(arguments, subprocess.STDOUT)
        lines = done.stdout.rstrip().splitlines()
        self._screen.output("\n".join(lines[:LINES_SHOWN]))
        if len(lines) > LINES_SHOWN:
            self._screen.output(f"({len(lines) - LINES_SHOWN} more lines)")
        self._expect(done, code)
        if code:
            self._screen.output(f"(exit {code})")
        return done.stdout

    def read(self, *arguments: str, code: int = 0) -> str:
        """Run it without showing it, return its standard output."""
        done = self._run(arguments, subprocess.PIPE)
        self._expect(done, code)
        return done.stdout

    def _run(self, arguments: tuple[str, ...], stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / "zdpatch"), *arguments],
            cwd=self._work,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    @staticmethod
    def _expect(done: subprocess.CompletedProcess[str], code: int) -> None:
        claim = f"zdpatch {shlex.join(done.args[1:])} exits with {code}"
        seen = f"it exited with {done.returncode}\n{done.stdout}{done.stderr or ''}"
        check(done.returncode == code, claim, seen)
