"""uvicorn's configuration imports the application, and binds for processes of its own.

Those (--workers and --reload) are refused: of two managers one loses what the other has.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from zdpatch.agent import worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_REFUSED = (
    "zdpatch: uvicorn starts processes of its own with --workers (or WEB_CONCURRENCY)"
    " and --reload;\nzdpatch: give  zdpatch run --workers N  instead\n"
)


def install(module: ModuleType) -> None:
    """Prepare before the application is imported; refuse before its own processes are."""
    config = module.Config
    config.bind_socket = _refusing(config.bind_socket)
    for name in ("load_app", "load"):  # older ones have the second only
        if hasattr(config, name):
            setattr(config, name, _preparing(getattr(config, name)))


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def bind_socket(config: Any) -> Any:
        if not worker.boarded():
            return original(config)
        sys.stderr.write(_REFUSED)
        raise SystemExit(2)

    return bind_socket


def _preparing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(config: Any) -> Any:
        worker.prepare()
        return original(config)

    return load
