"""The tour prints plain lines; only on a terminal some of them are bold or dim."""

from __future__ import annotations

import os
import sys
import time


class Screen:
    """Where the tour is shown. Every line carries the seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._acts = 0

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._acts += 1
        self._print(f"\n{self._acts}. {title}", "1")

    def command(self, line: str) -> None:
        """Show a command that is about to run."""
        self._print(f"   $ {line}", "36")

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.splitlines():
            self._print(f"     {line}" if line.strip() else "", "2")

    def fact(self, label: str, text: str) -> None:
        """Show something that was checked and holds."""
        seconds = time.monotonic() - self._begun
        self._print(f"   {seconds:5.1f} s  {label:<10} {text}")

    def figure(self, label: str, value: object) -> None:
        """Show one of the final counts."""
        self._print(f"   {label:<22} {value}")

    def failure(self, text: str) -> None:
        """Show why the tour stops."""
        self._print(f"\nFAILED: {text}", "31")

    def _print(self, text: str, style: str = "") -> None:
        print(f"\x1b[{style}m{text}\x1b[0m" if style and self._colour else text, flush=True)
