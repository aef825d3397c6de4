"""A process that a supervisor started learns here what it is, and its server is met when imported.

Nothing is imported for that: an adapter is loaded when the server that it is for has been.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import worker
from zdpatch.agent.adapters import ADAPTERS
from zdpatch.agent.station import Told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ENVIRON: Final = "ZDPATCH_WORKER"


def board() -> None:
    """Read what the supervisor says of this worker, once. Raises for what cannot be read."""
    given = os.environ.pop(ENVIRON, None)
    if given is None:
        return
    told = msgspec.json.decode(given, type=Told)
    if told.listeners:
        os.environ["LISTEN_PID"] = str(os.getpid())  # only the process itself can say it
    worker.board(told)
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing of its own: it stands before the loader of a server's module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, with a loader that calls the adapter afterwards."""
        if fullname not in ADAPTERS:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader, ADAPTERS[fullname])
                    return spec
        return None


class _Loader(importlib.abc.Loader):
    """The module's own loader, and then the adapter; the module keeps the loader it would have."""

    def __init__(self, loader: importlib.abc.Loader, adapter: str) -> None:
        self._loader: Final = loader
        self._adapter: Final = adapter

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; the adapter then looks at it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        adapter = importlib.import_module(f"zdpatch.agent.adapters.{self._adapter}")
        adapter.install(module)
