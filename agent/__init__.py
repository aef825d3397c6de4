"""What runs in and around the patched process; importing it loads next to nothing.

from zdpatch import agent

agent.start(app="shop", labels={"zone": "a"})
agent.active()  # ("FIX-1",)
"""

# ruff: noqa: PLC0415 - imports inside functions are what keeps this page cheap

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

# here, since a child forked during an import waits for ever when it imports the same
from zdpatch.agent.handle import Handle
from zdpatch.agent.patience import Again, is_shortage
from zdpatch.agent.seat import SEAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.agent.logfilter import PatchFilter as PatchFilter

__all__ = ["PatchFilter", "active", "start"]


def start(
    app: str,
    labels: Mapping[str, str] | None = None,
    release: str | None = None,
    home: str | os.PathLike[str] | None = None,
    *,
    now: bool = False,
) -> Handle:
    """Start this process's agent, after bringing up the patches it had. Never raises.

    `release` defaults to ZDPATCH_RELEASE, then to the version of the distribution called `app`,
    then to a digest of the program's entry file; `home` to ZDPATCH_HOME, then to the XDG state
    directory. The socket opens a second later, or at once with `now`. With `ZDPATCH=off` nothing
    happens at all. Threads that call it at once get the same agent, when it is there.
    """
    if os.environ.get("ZDPATCH", "").strip().lower() in ("off", "0", "false", "no"):
        return Handle(None, "ZDPATCH=off")
    try:
        return _begin(app, labels, release, home, now=now)
    except Exception as error:  # noqa: BLE001 - an application never fails for its agent
        reason = f"{type(error).__name__}: {error}"
        handle = Handle(None, reason)
        if is_shortage(error):
            with contextlib.suppress(Exception):  # no thread for it either
                handle.again = Again(handle, lambda: _begin(app, labels, release, home, now=now))
                handle.again.launch()
        with contextlib.suppress(Exception):  # during a shortage it may not be there
            import logging

            word = "off" if handle.again is None else "not yet"
            logging.getLogger("zdpatch").error("zdpatch is %s in this process: %s", word, reason)
        return handle


def _begin(
    app: str,
    labels: Mapping[str, str] | None,
    release: str | None,
    home: str | os.PathLike[str] | None,
    *,
    now: bool,
) -> Handle:
    with SEAT.taken():  # others wait for these imports too
        # what only a patch needs is kept now and loaded later: see agent/later.py
        from zdpatch.agent.config import configure
        from zdpatch.agent.launch import launch

        return launch(configure(app, labels, release, home, now=now, environ=os.environ))


def active() -> tuple[str, ...]:
    """Ids of the patches that run in this process, in the order they came; () without an agent."""
    launch = sys.modules.get("zdpatch.agent.launch")
    return () if launch is None else tuple(launch.active())


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module's own attributes
    if name == "PatchFilter":
        from zdpatch.agent.logfilter import PatchFilter

        return PatchFilter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
