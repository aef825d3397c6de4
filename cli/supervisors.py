"""Supervisors are found by their directories in the home, and each answers for itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import passing, wire
from zdpatch.cli.options import show_duration
from zdpatch.cli.output import clean, table
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_HEAD: Final = ("PID", "GEN", "STATE", "AGE", "MIB", "SERVER", "STARTED WITH", "NOTE")


def places(home: Path) -> dict[str, wire.Place]:
    """Every fleet that this home knows of, dead ones too, by name."""
    try:
        found = sorted((home / "run").iterdir())
    except OSError:
        return {}
    return {path.name: wire.Place(path) for path in found}


def shown(home: Path) -> list[wire.Shown]:
    """How every fleet is whose supervisor answers."""
    answers: list[wire.Shown] = []
    for place in places(home).values():
        with contextlib.suppress(OSError):
            answers += [m for m in heard(place, wire.Ask("status")) if isinstance(m, wire.Shown)]
    return answers


def find_supervisor(home: Path, name: str) -> wire.Place:
    """The one called `name`, or the only one that answers. Raises ZDP-406 and ZDP-001."""
    alive = {one.name: wire.Place(home / "run" / one.name) for one in shown(home)}
    if name in alive:
        return alive[name]
    if name or not alive:
        what = f"called {name}" if name else f"in {home}"
        raise OperatorError("ZDP-406", f"no supervisor {what} answers", next="zdpatch status")
    if len(alive) > 1:
        raise OperatorError(
            "ZDP-001", f"there are several: {', '.join(alive)}", next="zdpatch replace NAME"
        )
    return next(iter(alive.values()))


def heard(place: wire.Place, ask: wire.Ask) -> Iterator[wire.Said]:
    """What a supervisor says to that, until it ends the connection. Raises OSError at first."""
    with place.connect() as channel:
        passing.send(channel, wire.encode(ask))
        while True:
            with passing.receive(channel) as packet:
                if packet.ended:
                    return
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    yield wire.decode(packet.data)


def fleet_lines(fleet: wire.Shown) -> list[str]:
    """One service and its workers, for people."""
    where = ", ".join(fleet.binds)
    head = f"{fleet.name}: generation {fleet.generation} on {where} (supervisor pid {fleet.pid})"
    rows = [_row(one) for one in sorted(fleet.workers, key=lambda w: (w.generation, w.slot))]
    last = [f"  last: {fleet.last}"] if fleet.last else []
    return [clean(line) for line in (head, *last)] + [f"  {x}" for x in table(rows, head=_HEAD)]


def fleet_troubles(fleets: Sequence[wire.Shown]) -> list[str]:
    """What is not as it should be, as sentences."""
    found: list[str] = []
    for fleet in fleets:
        serving = sum(one.state == "serving" for one in fleet.workers)
        if serving < fleet.wanted:
            found.append(f"{fleet.name}: {serving} of {fleet.wanted} workers serve")
    return found


def _row(one: wire.WorkerRow) -> list[object]:
    note = "; ".join(filter(None, (one.waits_for and f"waits for {one.waits_for}", one.lacks)))
    patches = " ".join(one.started_with) or "-"
    memory = f"{one.memory / 2**20:.0f}"
    age = show_duration(one.age_s)
    return [one.pid, one.generation, one.state, age, memory, one.adapter or "-", patches, note]
