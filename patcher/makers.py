"""What fills the objects of a class: its initialisers, and functions they hand the object to."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

INITIALISERS: Final = ("__init__", "__new__", "__post_init__", "__attrs_post_init__")


def makers(side: Side) -> dict[tuple[str, str], list[Function]]:
    """By class (module and path): its initialisers, and the methods they use of the object."""
    found: dict[tuple[str, str], list[Function]] = {}
    for each in side.functions:
        if each.own and each.node.name in INITIALISERS:
            pending, known = [each], found.setdefault((each.outline.name, each.cls), [])
            while pending:
                if (one := pending.pop(0)) not in known:
                    known.append(one)
                    called = {a.name for a in one.accesses.used if a.root == one.own}
                    called &= one.methods.nodes.keys()
                    paths = [(one.outline.name, f"{one.cls}.{name}") for name in sorted(called)]
                    pending += [side.by_path[path][-1] for path in paths]
    return found


def fillers(side: Side) -> dict[tuple[str, str], list[Function]]:
    """By class: those of the makers that put something into the object, and functions that an
    initialiser hands it to.
    """
    found: dict[tuple[str, str], list[Function]] = {}
    for cls, group in makers(side).items():
        known = found.setdefault(cls, [])
        for each in group:
            initialiser = each.node.name in INITIALISERS
            if initialiser or any(access.root == each.own for access in each.accesses.stores):
                known.append(each)
            if initialiser:
                known += _handed(side, each)
    return found


def _handed(side: Side, each: Function) -> Iterator[Function]:
    """Functions of modules that are called with the object."""
    for part in ast.walk(each.node):
        if isinstance(part, ast.Call) and any(dotted(arg) == each.own for arg in part.args):
            name = dotted(part.func) or ""
            for module, path in _meant(each, name):
                for one in side.by_path.get((module, path), ()):
                    if not one.cls:
                        yield one


def _meant(each: Function, name: str) -> Iterator[tuple[str, str]]:
    yield each.outline.name, name
    head, _, rest = name.partition(".")
    if source := each.outline.imports.get(head):
        module, _, path = f"{source}.{rest}".rstrip(".").rpartition(".")
        yield module, path
