"""Children that multiprocessing spawned, or a fork server forked, do not have the patches of this
process: they run the base, and are told of.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent.identity import start_ticks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_AFRESH: Final = frozenset({"spawn", "forkserver"})


def spawned(known: Collection[int]) -> list[int]:
    """Pids of living children that were not forked from this process, those aside that are
    `known`: they have an agent of their own.
    """
    there: Iterable[object] = getattr(sys.modules.get("multiprocessing.process"), "_children", ())
    popens: list[Any] = [vars(child).get("_popen") for child in list(there)]
    pids = [popen.pid for popen in popens if getattr(popen, "method", "") in _AFRESH]
    alive = (pid for pid in pids if type(pid) is int and start_ticks(pid) is not None)
    return sorted({*alive}.difference(known))


def start_method() -> str:
    """ "spawn" or "forkserver", when that is how multiprocessing starts children here; else ""."""
    default: Any = getattr(sys.modules.get("multiprocessing.context"), "_default_context", None)
    name: object = getattr(getattr(default, "_actual_context", None), "_name", "")
    return name if isinstance(name, str) and name in _AFRESH else ""


def not_covered(pids: Sequence[int]) -> str:
    """What a patch of this process does not reach, as a sentence; "" when there is nothing. `pids`:
    what `spawned` has found.
    """
    if pids:
        named = ", ".join(map(str, pids[:8])) + (" ..." if len(pids) > 8 else "")
        return (
            f"children that multiprocessing started afresh (pid {named}) run the base, and so do"
            " those that it starts so later: no patch of this process reaches them"
        )
    if method := start_method():
        return (
            f"children of multiprocessing run the base (its start method is {method} here): no"
            " patch of this process reaches them"
        )
    return ""
