"""Which workers serve is found again by who they are, not by their pids alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zdpatch.agent import roster
from zdpatch.agent.identity import start_ticks
from zdpatch.agent.roster import Entry

if TYPE_CHECKING:
    from pathlib import Path


def test_only_the_living_are_found(tmp_path: Path) -> None:
    """A process with the same pid that began at another time is somebody else."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    me = Entry(unit=1, generation=1, slot=0, pid=os.getpid(), ticks=ticks)
    other = Entry(unit=2, generation=1, slot=1, pid=os.getpid(), ticks=ticks + 1)
    assert roster.living(tmp_path) == []
    roster.write(tmp_path, [me, other])
    assert roster.living(tmp_path) == [me]
    (tmp_path / "workers.json").write_bytes(b"half")
    assert roster.living(tmp_path) == []


def test_a_list_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is raised: the service does not depend on it."""
    roster.write(tmp_path / "nowhere", [])
