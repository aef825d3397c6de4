"""The text of a module outside of the patch is read once in a plan, however often it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.edits import ModuleVersions, version
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from types import ModuleType


class Texts:
    """What was read, by name and source."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, bytes, bool], ModuleVersions | None] = {}

    def as_it_is(self, name: str, module: ModuleType, source: bytes) -> ModuleVersions | None:
        """A module that is as its source says on both sides; None when that does not parse."""
        key = name, source, "__path__" in reach.namespace(module)
        if key not in self._read:
            self._read[key] = _read(*key)
        return self._read[key]


def _read(name: str, source: bytes, package: bool) -> ModuleVersions | None:
    path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
    try:
        each = version(name, source, f"<source of {name}>", package=package)
    except (SyntaxError, RecursionError):
        return None
    return ModuleVersions(ModuleChange(name, path, package, source, source), each, each)
