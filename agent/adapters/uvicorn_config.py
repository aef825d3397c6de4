"""uvicorn's own --workers and --reload are refused: of two managers one loses what it has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zdpatch.agent import worker

if TYPE_CHECKING:
    from types import ModuleType


def install(module: ModuleType) -> None:
    """Refuse where uvicorn binds for processes of its own, before it starts them."""
    original = module.Config.bind_socket

    def bind_socket(config: object) -> object:
        if not worker.boarded():
            return original(config)
        sys.stderr.write(
            "zdpatch: uvicorn starts processes of its own with --workers (or WEB_CONCURRENCY)"
            " and --reload;\nzdpatch: give  zdpatch run --workers N  instead\n"
        )
        raise SystemExit(2)

    module.Config.bind_socket = bind_socket
