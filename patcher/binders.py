"""A name may be bound by more than one statement: what one of them gave, or takes away, is then not
all that the name is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.stage import Stage


def stays(edit: Edit, each: ModuleVersions, stage: Stage) -> bool | str:
    """Whether a name that a statement does not bind any more is there all the same.

    A text says why that cannot be told, so that the edit is refused.
    """
    live = stage.present(edit)
    if live is MISSING or live is _submodule(edit):
        return True  # the import system bound it, and binds it again
    others = list(_others(edit, each))
    stars = [item for item in others if item.kind == "star"]
    if stars:
        given = _namespace(stars[-1].source).get(_name(edit), MISSING)
        return True if given is live else "a star import binds the name, to another object"
    try:
        gave = stage.gave(edit)
    except Unevaluable:
        gave = MISSING
    except Exception:  # noqa: BLE001 - a statement of the base that fails says nothing
        gave = MISSING
    if gave is not MISSING and not same(gave, live):
        if others:
            return True  # it is the others' already
        return "the live value is not what the base gives: something else binds the name"
    return f"line {others[-1].line} binds the name too" if others else False


def reader_between(edit: Edit, each: ModuleVersions) -> Item | None:
    """A statement which read what an earlier, changed statement gave the name, before the last one
    bound it again.
    """
    if len(edit.new) < 2 or each.new is None:
        return None
    old = {item.shape for item in edit.old}
    changed = [item.line for item in edit.new[:-1] if item.shape not in old]
    if not changed:
        return None
    for item in each.new.outline.scopes.get(edit.scope, ()):
        between = changed[0] < item.line < edit.new[-1].line and item not in edit.new
        if between and any(read.partition(".")[0] == _name(edit) for read in item.reads):
            return item
    return None


def _others(edit: Edit, each: ModuleVersions) -> Iterator[Item]:
    """Statements of the new source that bind the name in another way than by its own item."""
    assert each.new is not None
    for item in each.new.outline.scopes.get(edit.scope, ()):
        if (item.kind == "effect" and _name(edit) in item.names) or (
            item.kind == "star" and _name(edit) in _exported(item.source)
        ):
            yield item


def _name(edit: Edit) -> str:
    return edit.qualname.rpartition(".")[2]


def _namespace(module: str) -> dict[str, object]:
    loaded = sys.modules.get(module)
    return {} if loaded is None else reach.namespace(loaded)


def _exported(module: str) -> set[str]:
    """What a star import of a loaded module takes."""
    names = _namespace(module)
    listed = names.get("__all__")
    if type(listed) in {list, tuple}:
        return {name for name in listed if type(name) is str}  # type: ignore[attr-defined]
    return {name for name in names if not name.startswith("_")}


def _submodule(edit: Edit) -> object:
    """The loaded submodule of a package that has the name of an import which is gone; MISSING when
    there is none.
    """
    if edit.scope or edit.old[-1].kind != "import":
        return MISSING
    return sys.modules.get(f"{edit.module}.{_name(edit)}", MISSING)
