"""A handle answers whatever happened at the start; importing it costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zdpatch.agent.patience import Again
    from zdpatch.agent.runtime import Runtime


class Handle:
    """What `start` returns: the agent of this process, or the `reason` why there is none.

    With `again` there may be one later.
    """

    def __init__(self, runtime: Runtime | None, reason: str = "") -> None:
        self._runtime = runtime
        self.reason = reason
        self.again: Again | None = None

    def take(self, other: Handle) -> None:
        """The agent came after all."""
        self._runtime, self.reason = other._runtime, other.reason

    def status(self) -> dict[str, Any]:
        """`state`, `reason`, `active` ids; who it is and `warnings`, if there is an agent.

        The state is "starting" until the socket opens, then "ready" or "held"; "retrying" while
        socket or journal cannot be used, or while there is not enough to start with; "off" when
        there is no agent and none will come.
        """
        if self._runtime is None:
            waits = self.again is not None and self.again.goes_on
            return {"state": "retrying" if waits else "off", "reason": self.reason, "active": []}
        return self._runtime.status()

    def stop(self) -> None:
        """End the agent of this process. Confirmed patches stay in, those on trial go out."""
        if self.again is not None:
            self.again.stop()
        if self._runtime is not None:
            self._runtime.retire()

    def __repr__(self) -> str:
        status = self.status()
        return f"<zdpatch agent {status.get('agent', '')} {status['state']} {status['reason']}>"
