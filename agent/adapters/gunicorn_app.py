"""gunicorn imports the application in its workers, or, with --preload, in its master."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from zdpatch.agent import worker

if TYPE_CHECKING:
    from types import ModuleType


def install(module: ModuleType) -> None:
    """Prepare before the application is imported."""
    original = module.BaseApplication.wsgi

    @functools.wraps(original)
    def wsgi(application: Any) -> Any:
        worker.prepare()
        return original(application)

    module.BaseApplication.wsgi = wsgi
