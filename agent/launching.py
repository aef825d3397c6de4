"""What a new worker is told, and what it finds in its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent import sockets
from zdpatch.agent.boarding import ENVIRON
from zdpatch.agent.child import Child
from zdpatch.agent.station import Told

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from zdpatch.agent.fleet import Fleet
    from zdpatch.agent.moves import Unit


def start(
    fleet: Fleet, unit: Unit, listeners: Sequence[socket.socket], notify_socket: str
) -> Child:
    """Start the process of a worker. Raises OSError."""
    told = Told(
        place=str(fleet.directory),
        unit=unit.key,
        generation=unit.generation,
        slot=unit.slot,
        orphan_s=fleet.limits.orphan_s,
        listeners=len(listeners),
        app=fleet.app,
    )
    environ = {
        **os.environ,
        **sockets.environment(listeners),
        **fleet.environ(),
        "NOTIFY_SOCKET": notify_socket,
        "ZDPATCH_GENERATION": str(unit.generation),
        ENVIRON: msgspec.json.encode(told).decode(),
    }
    return Child(fleet.command, environ, listeners)
