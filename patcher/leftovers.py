"""What keeps what it got although the source says otherwise now, and harms nobody, is told."""

from __future__ import annotations

import ast
import sys
import typing
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.outline import Outline

_METADATA: Final = frozenset(
    f"{package}.{name}"
    for package in ("importlib.metadata", "importlib_metadata")
    for name in ("version", "metadata", "distribution")
)


def leftovers(modules: Iterable[ModuleVersions]) -> Iterator[str]:
    """A sentence for each: overloads (`typing.get_overloads`), versions read from the metadata of
    an installed package.
    """
    for each in modules:
        if each.base is None or each.new is None or each.change.base == each.change.new:
            continue
        yield from _overloads(each.name, each.base.outline, each.new.outline)
        yield from _metadata(each.new.outline)


def _overloads(module: str, base: Outline, new: Outline) -> Iterator[str]:
    registry = cast("dict[str, Any]", getattr(typing, "_overload_registry", {}))
    if module not in sys.modules:
        return
    before, after = _by_name(base), _by_name(new)
    for name in sorted(before.keys() | after.keys()):
        kept = registry[module].get(name) if module in registry else None
        if before.get(name) != after.get(name) and (kept or name not in before):
            yield f"{module}:{name}: typing.get_overloads gives what it gave before"


def _by_name(outline: Outline) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in outline.every():
        if item.role == "overload":
            found.setdefault(item.qualname, []).append(item.shape)
    return found


def _metadata(outline: Outline) -> Iterator[str]:
    for item in outline.every():
        if item.kind not in {"value", "effect"}:
            continue
        calls = (part for part in ast.walk(item.node) if isinstance(part, ast.Call))
        names = (origin(dotted(call.func) or "", outline.imports) for call in calls)
        if any(name in _METADATA for name in names):
            what = item.qualname if item.names else f"line {item.line}"
            yield (
                f"{outline.name}:{what} was read from the metadata of the installed package, "
                "which no patch changes"
            )
