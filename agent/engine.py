"""What the agent asks of the engine that changes this process; an engine knows no agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from zdpatch.patcher.running import Running
    from zdpatch.patcher.source import Patch


class Planned(Protocol):
    """A plan that can say what it would do."""

    def summary(self) -> msgspec.Struct:
        """The plan for people and machines."""
        ...


class Flipped(Protocol):
    """What an apply did."""

    @property
    def flip_us(self) -> float: ...
    @property
    def functions(self) -> int: ...
    @property
    def outstanding(self) -> Mapping[str, int]: ...
    @property
    def notices(self) -> Sequence[str]: ...


class Undone(Protocol):
    """What a revert did."""

    @property
    def flip_us(self) -> float: ...
    @property
    def born_on_trial(self) -> Mapping[str, int]: ...


class Engine(Protocol):
    """One per process: plans, flips and undoes; a step that raises has changed nothing."""

    def plan(self, patch: Patch, *, drain_s: float = 1.0) -> Planned:
        """Say what `apply` would do. Raises Refused or ProcessError."""
        ...

    def apply(self, plan: Any) -> Flipped:  # noqa: ANN401 - what `plan` returned
        """Do it in one flip. Raises Refused or ProcessError, the process unchanged."""
        ...

    def revert(self, patch_id: str) -> Undone:
        """Undo it exactly. Raises ProcessError ZDP-209, the process unchanged."""
        ...

    def active(self) -> tuple[str, ...]:
        """Ids of the patches that are in, in the order they came."""
        ...

    def outstanding(self, patch_id: str) -> Mapping[str, int]:
        """What still runs old code, by definition path."""
        ...

    def running(self, name: str, offered: bytes | None = None) -> Running:
        """The source of what runs here as module `name`, if one is found that explains it."""
        ...

    def standing(self, patch: Patch) -> str:
        """ "base", "absorbed" or "superseded": what the modules of `patch` are here."""
        ...
