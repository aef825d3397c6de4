"""A statement that read a changed name and did no more with it than to show it, or to test it with
the same outcome, has done nothing that stands against the patch.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.patcher.evaluate import run
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import dotted
from zdpatch.patcher.resolving import resolver
from zdpatch.patcher.said import Saying
from zdpatch.patcher.spread import cause_of
from zdpatch.patcher.stage import nothing_new

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Stage

_TEST = "zdpatch_test"
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError"})


def unmoved(edit: Edit, stage: Stage, changed: Mapping[Name, str]) -> list[int] | None:
    """The lines on which a stale statement showed what a name of `changed` was, when it did no more
    with it; None when something may have come of it.
    """
    statement = _Statement(edit, stage, changed)
    if not statement.reads(edit.new[-1].node):
        return None  # it came to the name in another way
    lines: list[int] = []
    for part in statement.parts(edit.new[-1].node):
        if not statement.reads(part):
            continue
        if not statement.saying.says(part):
            return None
        lines.append(part.lineno)
    return lines


@dataclass(frozen=True, eq=False)
class _Statement:
    """One stale statement, taken apart."""

    edit: Edit
    stage: Stage
    changed: Mapping[Name, str]

    @property
    def saying(self) -> Saying:
        """How it may show a value."""
        each = self.stage.versions[self.edit.module]
        assert each.new is not None
        resolve = resolver(self.stage.live[self.edit.module])
        return Saying(each.new.outline, self.edit.new[-1].scope, resolve, self._affected)

    def parts(self, node: ast.stmt) -> Iterator[ast.stmt]:
        """The statements inside that ran, those of branches apart; heads of branches as such."""
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                head = ast.copy_location(ast.Expr(test), node)
                blocks = [*body, *orelse]
                if self.reads(head) and (way := self._same(test, node)) is not None:
                    blocks = body if way else orelse
                else:
                    yield head
            case ast.Assert(test=test) if self._same(test, node):
                blocks = []
            case ast.Try() if not node.finalbody and all(map(_of_import, node.handlers)):
                blocks = [*node.body, *(each for h in node.handlers for each in h.body)]
                blocks += node.orelse
            case _:
                yield node
                return
        for each in blocks:
            yield from self.parts(each)

    def reads(self, node: ast.stmt) -> bool:
        """Whether running a statement reads a name that changes."""
        alone = ast.copy_location(ast.If(ast.Constant(value=True), [node], []), node)
        old = self.edit.new[-1]
        item = Item("effect", old.scope, (), alone, lazy_annotations=old.lazy_annotations)
        versions = self.stage.versions
        new = versions[self.edit.module].new
        assert new is not None
        return cause_of(new, item, versions, self.changed) is not None

    def _affected(self, node: ast.expr) -> bool:
        return self.reads(ast.copy_location(ast.Expr(node), node))

    def _same(self, test: ast.expr, node: ast.stmt) -> bool | None:
        """What a test comes to, with the old values as with the new; None when that is not so, or
        not known.
        """
        target = ast.copy_location(ast.Name(_TEST, ast.Store()), node)
        assign = ast.copy_location(ast.Assign([target], test), node)
        twin = Item("value", self.edit.new[-1].scope, (_TEST,), assign)
        edit, stage = self.edit, self.stage
        try:
            stage.guard(edit, [twin])
            before = run([twin], stage.place(edit, new=False), nothing_new)
            after = run([twin], stage.place(edit), stage.find)
        except Exception:  # noqa: BLE001 - a test that cannot be run again decides nothing
            return None
        outcome = bool(before[_TEST])
        return outcome if outcome == bool(after[_TEST]) else None


def _of_import(handler: ast.ExceptHandler) -> bool:
    """Whether it handles nothing but an import that fails."""
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return all(each is not None and dotted(each) in _IMPORT_ERRORS for each in names)
