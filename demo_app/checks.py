"""A claim of the tour that does not hold ends it, with what was seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Failed(Exception):  # noqa: N818 - it is how the tour ends, not what went wrong
    """Something the tour promised did not happen."""


def check(holds: bool, claim: str, seen: object = None) -> None:
    """Raise Failed, naming the claim and what was seen instead, unless it holds."""
    if not holds:
        raise Failed(f"{claim}\n{seen}" if seen is not None else claim)


def wait_until(holds: Callable[[], bool], claim: str, *, within_s: float) -> None:
    """Ask again and again until it holds; Failed when it does not within the time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{claim}: not within {within_s:g} s")
        time.sleep(0.02)
