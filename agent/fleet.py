"""What a fleet is to be: its command, its addresses, how many, and every limit."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.agent.moves import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zdpatch.agent.sockets import Address

_HOOK: Final = Path(__file__).resolve().parent / "hook"


@dataclass(frozen=True, slots=True)
class Fleet:
    """One service under one supervisor. `directory` is where its workers and operators meet."""

    name: str
    directory: Path
    command: Sequence[str]
    binds: Sequence[Address] = ()
    workers: int = 1
    app: str = ""
    home: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def environ(self) -> Mapping[str, str]:
        """What makes Python run the hook before the command."""
        before = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join([str(_HOOK), *filter(None, [before])])
        home = {} if self.home is None else {"ZDPATCH_HOME": str(self.home)}
        return {"PYTHONPATH": path, **home}
