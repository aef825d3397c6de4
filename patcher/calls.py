"""A statement which called, when it ran, what would give another answer now is stale.

That is so for a call of a function whose code changes, of one that reads a changed value, of a
class whose initialiser does, and of whatever reaches one of these by name.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes
from zdpatch.patcher.diff import BODY, Edit, ModuleVersions
from zdpatch.patcher.names import dotted
from zdpatch.patcher.spread import Name, meanings, was_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType

    from zdpatch.patcher.outline import Item

# What runs when a class is called, subclassed, subscripted or put into another class.
_RUN_BY_CLASS: Final = frozenset(
    {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"}
)


def stale_calls(
    versions: Mapping[str, ModuleVersions], changed: Mapping[Name, str]
) -> Iterator[Edit]:
    """Edits of kind "stale" for statements of both sides that reached a name of `changed`.

    `changed`: (module, qualname) of functions and values, with the path that is to blame.
    """
    reached = _callers(versions, dict(changed))
    for each in versions.values():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            names = (
                name
                for call in sorted(item.calls)
                for name in meanings(each.new.outline, item.scope, call, versions)
            )
            cause = next((reached[name] for name in names if name in reached), None)
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="call"
                )


def changed_functions(edits: Iterable[Edit]) -> dict[Name, str]:
    """Functions whose own code differs; what they make (wrappers) is patched where it lives."""
    return {
        (edit.module, edit.qualname): edit.path
        for edit in edits
        if edit.kind == "function" and BODY in edit.facets and _outer_differs(*edit.codes)
    }


def _outer_differs(old: CodeType | None, new: CodeType | None) -> bool:
    return old is not None and new is not None and _alone(old) != _alone(new)


def _alone(code: CodeType) -> bytes:
    constants = (None if hasattr(each, "co_code") else each for each in code.co_consts)
    return codes.digest(code.replace(co_consts=tuple(constants)))


def _callers(versions: Mapping[str, ModuleVersions], reached: dict[Name, str]) -> dict[Name, str]:
    """`reached`, and every function and class that may reach one of them by name."""
    pending = list(reached)
    callers = _call_graph(versions) if pending else {}
    while pending:
        name = pending.pop()
        for caller in callers.get(name, ()):
            if caller not in reached:
                reached[caller] = reached[name]
                pending.append(caller)
    return reached


def _call_graph(versions: Mapping[str, ModuleVersions]) -> dict[Name, list[Name]]:
    """Callers by what they name: every global name in a body counts, whether read or called."""
    found: dict[Name, list[Name]] = {}
    for each in versions.values():
        if each.new is None:
            continue
        for item in each.new.outline.items:
            for read in _body_names(item):
                for name in meanings(each.new.outline, "", read, versions):
                    found.setdefault(name, []).append((each.name, item.qualname))
    return found


def _body_names(item: Item) -> set[str]:
    """Dotted names in what runs when a function or class is called."""
    bodies: list[ast.stmt] = [item.node] if item.kind == "function" else []
    if item.kind == "class":
        bodies = [child.node for child in item.children if child.name in _RUN_BY_CLASS]
    return {name for body in bodies for name in _global_names(body)}


def _global_names(body: ast.stmt) -> set[str]:
    """Dotted names of a definition whose root is none of its own parameters and variables."""
    own: set[str] = set()
    names: set[str] = set()
    for part in ast.walk(body):
        if isinstance(part, ast.arg):
            own.add(part.arg)
        elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            own.add(part.id)
        elif isinstance(part, ast.Name | ast.Attribute) and (name := dotted(part)) is not None:
            names.add(name)
    return {name for name in names if name.partition(".")[0] not in own}
