"""What is left of code that a patch, or its undo, took away: in numbers, also on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Left(msgspec.Struct, frozen=True):
    """What is left, as counts by definition path.

    `runs`: definitions that run the patch (none after an undo). `frames`: calls of threads;
    `suspended`: generators and coroutines; `functions`: function objects on the code that was taken
    away; `bound`: methods bound to these; `instances`: of classes that are gone; `tables`: holders
    of tables which the patch brought, after its undo; `waiting`: removed names that wait for calls
    in flight.
    """

    runs: list[str] = []
    frames: dict[str, int] = {}
    suspended: dict[str, int] = {}
    functions: dict[str, int] = {}
    bound: dict[str, int] = {}
    instances: dict[str, int] = {}
    tables: dict[str, int] = {}
    waiting: list[str] = []

    @property
    def clear(self) -> bool:
        """Whether nothing is left."""
        return not any((self.frames, *self.lasting, self.waiting))

    @property
    def lasting(self) -> tuple[dict[str, int], ...]:
        """What does not end with the calls in flight."""
        return self.suspended, self.functions, self.instances, self.tables


def most(*counts: Mapping[str, int]) -> dict[str, int]:
    """By path the most that one of several counts has: a generator keeps its function, too."""
    found: dict[str, int] = {}
    for each in counts:
        for path, number in each.items():
            found[path] = max(number, found.get(path, 0))
    return found
