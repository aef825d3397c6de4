"""A handle answers whatever happened at the start; importing it costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zdpatch.agent.runtime import Runtime


class Handle:
    """What `start` returns: the agent of this process, or why there is none."""

    def __init__(self, runtime: Runtime | None, reason: str = "") -> None:
        self._runtime: Final = runtime
        self._reason: Final = reason

    def status(self) -> dict[str, Any]:
        """`state`, `reason`, `active` ids; who it is and `warnings`, if there is an agent.

        The state is "starting" until the socket opens, then "ready" or "held"; "retrying" while
        socket or journal cannot be used; "off" when there is no agent and none will come.
        """
        if self._runtime is None:
            return {"state": "off", "reason": self._reason, "active": []}
        return self._runtime.status()

    def stop(self) -> None:
        """End the agent of this process. Confirmed patches stay in, those on trial go out."""
        if self._runtime is not None:
            self._runtime.retire()

    def __repr__(self) -> str:
        status = self.status()
        return f"<zdpatch agent {status.get('agent', '')} {status['state']} {status['reason']}>"
