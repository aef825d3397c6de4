"""What a process cannot take out of itself goes with the process, where somebody can replace it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ask: Callable[[str], None] | None = None


def comes_from(ask: Callable[[str], None]) -> None:
    """A supervisor that replaces this process when it is asked for that."""
    global _ask  # noqa: PLW0603 - a process has one supervisor
    _ask = ask


def wanted(reason: str) -> bool:
    """Ask for a successor; False where nobody can give one."""
    if _ask is None:
        return False
    _ask(reason)
    return True
