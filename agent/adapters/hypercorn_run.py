"""hypercorn runs in the process that the supervisor started, and starts no others: of two managers
one loses what the other has.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import worker

if TYPE_CHECKING:
    from types import ModuleType

_REFUSED: Final = (
    "zdpatch: hypercorn starts processes of its own with --workers and --reload;\n"
    "zdpatch: give  zdpatch run --workers N  instead\n"
)


def install(module: ModuleType) -> None:
    """One process; more of its own are refused."""
    original = module.run

    @functools.wraps(original)
    def run(config: Any) -> Any:
        if worker.boarded():
            if config.workers > 1 or config.use_reloader:
                sys.stderr.write(_REFUSED)
                raise SystemExit(2)
            config.workers = 0
        return original(config)

    vars(module)["run"] = run
