"""Deadlines inside a process follow the steady clock; only what outlives it uses the wall clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings in seconds."""

    def wall(self) -> float:
        """Unix time."""
        ...

    def steady(self) -> float:
        """Never goes back; no meaning outside this process."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Unix time."""
        return time.time()

    def steady(self) -> float:
        """Never goes back; no meaning outside this process."""
        return time.monotonic()
