"""What the agent asks of the engine that changes this process; an engine knows no agent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, cast

from zdpatch.agent import later
from zdpatch.patcher.adoption import NOTHING, Adoption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import msgspec

    from zdpatch.patcher.left import Left
    from zdpatch.patcher.running import Running
    from zdpatch.patcher.source import Patch
    from zdpatch.patcher.upkeep import Damage


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


class Entered(Protocol):
    """A patch is on its way: in or, with `leaves`, out."""

    @property
    def leaves(self) -> bool: ...
    @property
    def group(self) -> Sequence[str]: ...
    @property
    def together(self) -> Sequence[str]: ...


class Engine(Protocol):
    """One per process: plans, flips and undoes; a step that raises has changed nothing."""

    def plan(
        self, patch: Patch, *, drain_s: float | None = 1.0, adoption: Adoption = NOTHING
    ) -> Planned:
        """Say what `apply` would do. Raises Refused or ProcessError."""
        ...

    def apply(self, plan: Any) -> Flipped:  # noqa: ANN401 - what `plan` returned
        """Do it in one flip. Raises Refused or ProcessError, the process unchanged."""
        ...

    def revert(self, patch_id: str) -> Undone:
        """Undo it exactly. Raises ProcessError ZDP-209, the process unchanged."""
        ...

    def foresee(self, plan: Any) -> msgspec.Struct:  # noqa: ANN401 - what `plan` returned
        """What `begin` would do with it. Raises Refused or ProcessError."""
        ...

    def begin(self, plan: Any) -> Entered:  # noqa: ANN401 - what `plan` returned
        """Bring it in consistently. Raises Refused or ProcessError, the process unchanged."""
        ...

    def begin_revert(self, patch_id: str) -> Entered:
        """Take it out so. Raises Refused or ProcessError, the process unchanged."""
        ...

    def moving(self) -> str | None:
        """The id of the patch that is on its way."""
        ...

    def blockers(self) -> Sequence[object]:
        """What it waits for; their words are for people."""
        ...

    def finish(self, *, force: bool = False) -> Flipped | Undone | None:
        """It has arrived; None when it was turned back. Raises ProcessError ZDP-205 while something
        is in the way, unless by `force`.
        """
        ...

    def turn(self) -> None:
        """Go back consistently."""
        ...

    def abort(self) -> None:
        """Go back at once."""
        ...

    def active(self) -> tuple[str, ...]:
        """Ids of the patches that are in, in the order they came."""
        ...

    def outstanding(self, patch_id: str) -> Mapping[str, int]:
        """What still runs old code, by definition path."""
        ...

    def left(self, patch_id: str) -> Left:
        """What is left of the code that a patch, or its undo, took away."""
        ...

    @property
    def waits(self) -> bool:
        """Whether `settle` has something to do, now or later."""
        ...

    def settle(self) -> None:
        """Finish what could not be done while calls were in flight."""
        ...

    def set_back(self) -> Mapping[str, list[str]]:
        """What somebody has changed since of what patches had set, by id of the patch."""
        ...

    def damaged(self) -> Sequence[Damage]:
        """Data files that patches serve and somebody has changed since."""
        ...

    def mend(self) -> Sequence[Damage]:
        """Put those back; the ones that were changed, each with why it still is."""
        ...

    def below(self, patch: Patch) -> tuple[str, ...]:
        """Ids of the patches that are in and change a module which `patch` changes, older ones
        than it, the oldest first.
        """
        ...

    def running(self, name: str, offered: bytes | None = None, since: float = 0.0) -> Running:
        """The source of what runs here as module `name`, if one is found that explains it."""
        ...

    def standing(self, patch: Patch, adoption: Adoption = NOTHING, since: float = 0.0) -> str:
        """ "base", "absorbed" or "superseded": what the modules of `patch` are here. Files that
        changed after `since` (unix seconds) tell nothing.
        """
        ...


class LoadedLater:
    """The engine of this interpreter, loaded when it has something to do. Raises ZDP-216 then."""

    def __init__(self) -> None:
        self._files: Path | None = None

    def keep_files(self, base: Path) -> None:
        """Where folders of packages with patched data files are made, from the next plan on."""
        self._files = base

    def plan(
        self, patch: Patch, *, drain_s: float | None = 1.0, adoption: Adoption = NOTHING
    ) -> Planned:
        """As `Engine.plan`."""
        return self._load().plan(patch, drain_s=drain_s, adoption=adoption)

    def apply(self, plan: Any) -> Flipped:  # noqa: ANN401 - what `plan` returned
        """As `Engine.apply`."""
        return self._load().apply(plan)

    def revert(self, patch_id: str) -> Undone:
        """As `Engine.revert`."""
        return self._load().revert(patch_id)

    def foresee(self, plan: Any) -> msgspec.Struct:  # noqa: ANN401 - what `plan` returned
        """As `Engine.foresee`."""
        return self._load().foresee(plan)

    def begin(self, plan: Any) -> Entered:  # noqa: ANN401 - what `plan` returned
        """As `Engine.begin`."""
        return self._load().begin(plan)

    def begin_revert(self, patch_id: str) -> Entered:
        """As `Engine.begin_revert`."""
        return self._load().begin_revert(patch_id)

    def moving(self) -> str | None:
        """As `Engine.moving`; loads nothing."""
        loaded = self._loaded()
        return None if loaded is None else loaded.moving()

    def blockers(self) -> Sequence[object]:
        """As `Engine.blockers`."""
        return self._load().blockers()

    def finish(self, *, force: bool = False) -> Flipped | Undone | None:
        """As `Engine.finish`."""
        return self._load().finish(force=force)

    def turn(self) -> None:
        """As `Engine.turn`."""
        self._load().turn()

    def abort(self) -> None:
        """As `Engine.abort`."""
        self._load().abort()

    def active(self) -> tuple[str, ...]:
        """As `Engine.active`; loads nothing."""
        loaded = self._loaded()
        return () if loaded is None else loaded.active()

    def outstanding(self, patch_id: str) -> Mapping[str, int]:
        """As `Engine.outstanding`; loads nothing."""
        loaded = self._loaded()
        return {} if loaded is None else loaded.outstanding(patch_id)

    def left(self, patch_id: str) -> Left:
        """As `Engine.left`."""
        return self._load().left(patch_id)

    @property
    def waits(self) -> bool:
        """As `Engine.waits`; loads nothing."""
        loaded = self._loaded()
        return loaded is not None and loaded.waits

    def settle(self) -> None:
        """As `Engine.settle`; loads nothing."""
        if (loaded := self._loaded()) is not None:
            loaded.settle()

    def set_back(self) -> Mapping[str, list[str]]:
        """As `Engine.set_back`; loads nothing."""
        loaded = self._loaded()
        return {} if loaded is None else loaded.set_back()

    def damaged(self) -> Sequence[Damage]:
        """As `Engine.damaged`; loads nothing."""
        loaded = self._loaded()
        return () if loaded is None else loaded.damaged()

    def mend(self) -> Sequence[Damage]:
        """As `Engine.mend`; loads nothing."""
        loaded = self._loaded()
        return () if loaded is None else loaded.mend()

    def below(self, patch: Patch) -> tuple[str, ...]:
        """As `Engine.below`; loads nothing."""
        loaded = self._loaded()
        return () if loaded is None else loaded.below(patch)

    def running(self, name: str, offered: bytes | None = None, since: float = 0.0) -> Running:
        """As `Engine.running`."""
        return self._load().running(name, offered, since)

    def standing(self, patch: Patch, adoption: Adoption = NOTHING, since: float = 0.0) -> str:
        """As `Engine.standing`."""
        return self._load().standing(patch, adoption, since)

    def _load(self) -> Engine:
        return cast("Engine", later.need(later.ENGINE).engine(self._files))

    def _loaded(self) -> Engine | None:
        """The engine, if anybody has loaded it; people who test their patches do so themselves."""
        make = getattr(sys.modules.get(later.ENGINE), "engine", None)
        return None if make is None else cast("Engine", make(self._files))
