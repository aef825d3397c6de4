"""Ctrl-C and SIGTERM never leave targets half-way: they wait, or leave what goes on by itself."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def uninterrupted() -> Generator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block: targets are never left half-way by them."""
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in signals}
    try:
        yield
    finally:
        for one, action in before.items():
            signal.signal(one, action)
    if came:
        raise KeyboardInterrupt


@contextmanager
def terminated_like_interrupted() -> Generator[None]:
    """A cancelled CI job sends SIGTERM: it detaches as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
