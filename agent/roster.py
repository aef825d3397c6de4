"""Which processes serve is on the disk before it matters: a killed supervisor's are found again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent.child import Output, Process
from zdpatch.agent.identity import start_ticks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FILE: Final = "workers.json"
_PARTIAL: Final = "workers.json.part"


class Entry(msgspec.Struct, frozen=True):
    """One worker that serves. `ticks` tells its process from a later one with its pid."""

    unit: int
    generation: int
    slot: int
    pid: int
    ticks: int

    def process(self) -> Process | None:
        """The process itself; None when it ended meanwhile."""
        try:
            process = Process(self.pid, Output())
        except OSError:
            return None
        if start_ticks(self.pid) == self.ticks:  # it was this one when the descriptor was made
            return process
        process.close()
        return None


def write(directory: Path, entries: Sequence[Entry]) -> None:
    """Replace the list in one step. A disk without room keeps the last one."""
    partial = directory / _PARTIAL
    with contextlib.suppress(OSError):
        partial.write_bytes(msgspec.json.encode(entries))
        partial.rename(directory / _FILE)


def living(directory: Path) -> list[Entry]:
    """Those of the list whose processes run."""
    try:
        raw = (directory / _FILE).read_bytes()
        entries = msgspec.json.decode(raw, type=list[Entry])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return [entry for entry in entries if start_ticks(entry.pid) == entry.ticks]
