"""A star import follows what its source gives: a name that comes, goes, or enters or leaves
`__all__` does so in the importing module, unless that binds the name itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value

_ALL = "__all__"


@dataclass(frozen=True, slots=True)
class Moved:
    """Names that a star import of one module takes now, or takes no more, each with the path to
    blame.
    """

    arriving: Mapping[str, str]
    leaving: Mapping[str, str]


def moved(edits: Sequence[Edit], values: Mapping[Name, Value]) -> dict[str, Moved]:
    """What changes of the names which star imports take, by source module."""
    own: dict[str, dict[str, str]] = {}
    for edit in edits:
        if not edit.scope and edit.kind in {"value", "added", "removed"}:
            own.setdefault(edit.module, {}).setdefault(edit.qualname, edit.path)
    found = {module: _moved(module, names, values) for module, names in own.items()}
    return {module: each for module, each in found.items() if each.arriving or each.leaving}


def _moved(module: str, names: Mapping[str, str], values: Mapping[Name, Value]) -> Moved:
    loaded = sys.modules.get(module)
    live = {} if loaded is None else reach.namespace(loaded)
    new = {**live, **{n: values[module, n].new for n in names if (module, n) in values}}
    new = {name: value for name, value in new.items() if value is not MISSING}
    before, after = _exported(live), _exported(new)
    listed = names.get(_ALL, "")
    arriving = {name: names.get(name) or listed for name in sorted(after - before)}
    leaving = {name: names.get(name) or listed for name in sorted(before - after)}
    return Moved(arriving, leaving)


def _exported(names: Mapping[str, object]) -> set[str]:
    """What a star import takes of a namespace; of a computed `__all__`, what it lists and is
    there.
    """
    listed = names.get(_ALL)
    if type(listed) in {list, tuple}:
        return {n for n in listed if type(n) is str and n in names}  # type: ignore[attr-defined]
    return {name for name in names if type(name) is str and not name.startswith("_")}


def follow(each: ModuleVersions, sources: Mapping[str, Moved]) -> Iterator[Edit]:
    """The edits of one importing module: names that come and go by its star imports."""
    if each.new is None or each.base is None:
        return
    shapes = {item.shape for item in each.base.outline.items if item.kind == "star"}
    for item in each.new.outline.items:
        source = sources.get(item.source) if item.kind == "star" else None
        if source is None or item.shape not in shapes:
            continue
        for name, cause in source.arriving.items():
            yield from _arriving(each, item, name, cause)
        for name, cause in source.leaving.items():
            yield from _leaving(each, item, name, cause)


def _arriving(each: ModuleVersions, item: Item, name: str, cause: str) -> Iterator[Edit]:
    binders = _binders(each, name)
    if any(binder.line > item.line for binder in binders):
        return  # it binds the name itself, later
    if binders:
        why = f"it takes {name} now, which line {binders[0].line} binds"
        yield _unclear(each, item, why, cause)
    elif _present(each.name, name) is not MISSING:
        if _present(each.name, name) is not _present(item.source, name):
            why = f"it takes {name} now, which is something else here"
            yield _unclear(each, item, why, cause)
    else:
        yield Edit(each.name, name, "added", (), (item,), cause=cause)


def _leaving(each: ModuleVersions, item: Item, name: str, cause: str) -> Iterator[Edit]:
    binders = _binders(each, name)
    live = _present(each.name, name)
    if live is MISSING or any(binder.line > item.line for binder in binders):
        return
    assert each.new is not None
    others = [i for i in each.new.outline.items if i.kind == "star" and i is not item]
    if any(name in _exported(_namespace(other.source)) for other in others):
        why = f"it takes {name} no more, which another star import takes"
        yield _unclear(each, item, why, cause)
    elif binders:
        why = f"it takes {name} no more, which line {binders[0].line} binds"
        yield _unclear(each, item, why, cause)
    elif live is _present(item.source, name):
        yield Edit(each.name, name, "removed", (item,), (), cause=cause)


def _binders(each: ModuleVersions, name: str) -> list[Item]:
    assert each.new is not None
    return each.new.outline.binders("", name)


def _unclear(each: ModuleVersions, item: Item, why: str, cause: str) -> Edit:
    return Edit(each.name, "", "effect", (), (item,), detail=why, cause=cause)


def _namespace(module: str) -> dict[str, object]:
    loaded = sys.modules.get(module)
    return {} if loaded is None else reach.namespace(loaded)


def _present(module: str, name: str) -> object:
    return _namespace(module).get(name, MISSING)
