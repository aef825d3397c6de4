"""A call that gives a parameter takes no default: who gives it everywhere keeps what it got, though
the default changes.

Told from the text, by names alone: every definition is followed that has a name which the
statement, or what it is followed to, has; and all special methods are.
"""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING, cast

from zdpatch.patcher.called import defaults_taken, does_otherwise, takes_otherwise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.names import FunctionNode


def only_defaults(edits: Iterable[Edit]) -> list[Edit]:
    """The edits of functions that do the same when they are given all that changes."""
    every = [edit for edit in edits if edit.kind == "function"]
    otherwise = {edit.path for edit in every if does_otherwise(edit)}
    return [edit for edit in every if takes_otherwise(edit) and edit.path not in otherwise]


class Takers:
    """Who may take one of the defaults that `edits` change."""

    def __init__(self, edits: Iterable[Edit], versions: Mapping[str, ModuleVersions]) -> None:
        self.versions = versions
        self.wanted: dict[str, list[dict[str, int]]] = {}
        for edit in edits:
            places = _places(edit)
            owner, _, name = edit.qualname.rpartition(".")
            self.wanted.setdefault(name, []).append(places)
            if owner and name.startswith("__"):  # called by the name of its class
                bound = {param: at - 1 for param, at in places.items()}
                self.wanted.setdefault(owner.rpartition(".")[2], []).append(bound)

    def take(self, statement: ast.AST) -> bool:
        """Whether running a statement may have taken one."""
        seen: set[int] = set()
        pending = [statement, *self._special]
        while pending:
            node = pending.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if self._leaves_out(node):
                return True
            for name in _words(node):
                pending += self._by_name.get(name, ())
        return False

    def _leaves_out(self, node: ast.AST) -> bool:
        """Whether something in a definition uses one otherwise than by calls that give all."""
        every = list(ast.walk(node))
        calls = [part for part in every if isinstance(part, ast.Call)]
        giving = {id(call.func) for call in calls if self._gives(call)}
        return any(_word(part) in self.wanted and id(part) not in giving for part in every)

    def _gives(self, call: ast.Call) -> bool:
        name = _last(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""
        if any(isinstance(each, ast.Starred) for each in call.args):
            return False
        words = {word.arg for word in call.keywords}
        return all(
            param in words or 0 <= at < len(call.args)
            for places in self.wanted.get(name, ())
            for param, at in places.items()
        )

    @cached_property
    def _by_name(self) -> dict[str, list[ast.AST]]:
        found: dict[str, list[ast.AST]] = {}
        for each in self.versions.values():
            for item in each.new.outline.every() if each.new is not None else ():
                for name in item.names:
                    found.setdefault(name, []).append(item.node)
        return found

    @cached_property
    def _special(self) -> list[ast.AST]:
        return [
            node for name, nodes in self._by_name.items() if _is_special(name) for node in nodes
        ]


def _places(edit: Edit) -> dict[str, int]:
    """The parameters whose default changes, and at which place they are given; -1 for none."""
    args = cast("FunctionNode", edit.new[-1].node).args
    positional = [each.arg for each in (*args.posonlyargs, *args.args)]
    return {
        name: positional.index(name) if name in positional else -1 for name in defaults_taken(edit)
    }


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _word(part: ast.AST) -> str:
    """The name under which a part of a text may come to a definition; "" when it has none."""
    match part:
        case ast.Name() | ast.Attribute():
            return _last(part)
        case ast.alias(name=name, asname=str()):
            return name.rpartition(".")[2]
        case ast.Constant(value=str(text)):
            return text
        case _:
            return ""


def _words(node: ast.AST) -> Iterator[str]:
    return filter(None, map(_word, ast.walk(node)))


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
