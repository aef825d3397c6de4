"""A team's suite, run by pytest in a process of its own, and what the plugin wrote of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from zdpatch.cli import errors
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

THE_RUN: Final = "(the run)"  # the outcome of pytest itself, beside those of its tests
_STDERR: Final = 2  # the descriptor, which a child inherits
_RAN: Final = frozenset({0, 1, 2, 5})  # pytest's codes of a run that came to an end by itself
_INTERNAL: Final = 3  # and of an error of its own, or of a plugin,
_USAGE: Final = 4  # and of arguments that it does not know
Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Suite:
    """How to run pytest: with which interpreter, which arguments, and how long at most.

    `seed` is that of every run, for the order of tests (pytest-randomly) and of sets.
    """

    python: str
    arguments: tuple[str, ...]
    limit_s: float
    folder: Path
    seed: int

    def run(self, bundle: Path, mode: str, when: str = "start") -> Report:
        """Run the suite once; what the plugin wrote. Raises ZDP-001 when pytest did not run.

        A live run that was ended by something else than pytest has that as its outcome.
        """
        told, code = self._told(bundle, mode, when)
        if "refused" in told:
            return told
        if code in _RAN and told:
            told["outcomes"][THE_RUN] = "ended"
            return told
        if mode == "live" and code not in (_USAGE, _INTERNAL):
            return {"outcomes": {THE_RUN: f"died with {code}"}, "stale": {}, "not_imported": {}}
        raise errors.usage(
            f"pytest ended with {code} in the {mode} run, without a result; see above",
            next=f"{self.python} -m pytest {' '.join(self.arguments)}",
        )

    def _told(self, bundle: Path, mode: str, when: str) -> tuple[Report, int]:
        report = self.folder / f"{mode}.json"
        report.unlink(missing_ok=True)
        command = [self.python, "-m", "pytest", "-p", "zdpatch.agent.pytest_plugin"]
        # with "=": pytest looks for its root directory around every word that is a path
        command += ["--continue-on-collection-errors", f"--zdpatch={bundle}"]
        command += [f"--zdpatch-mode={mode}", f"--zdpatch-when={when}"]
        command += [f"--zdpatch-report={report}", f"--zdpatch-seed={self.seed}", *self.arguments]
        if when == "collected":  # code that pytest rewrote is not that of its source, and holds
            command.append("--assert=plain")  # whatever it names
        code = self._wait(command)
        return json.loads(report.read_text()) if report.exists() else {}, code

    def _wait(self, command: list[str]) -> int:
        environment = {"PYTHONHASHSEED": str(self.seed), **os.environ}
        try:  # stdout is for the result: what pytest prints is progress
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise errors.usage(
                f"{self.python} cannot be started: {error.strerror}",
                next="zdpatch test ... --python EXE",
            ) from error
        try:
            return child.wait(self.limit_s)
        except subprocess.TimeoutExpired:
            raise OperatorError(
                "ZDP-001",
                f"the suite did not end within {self.limit_s:g} s",
                next="zdpatch test ... --limit S",
            ) from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
