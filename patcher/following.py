"""Follows what statements and expressions do with functions that change, over the live objects."""

from __future__ import annotations

import ast
from collections import deque
from typing import Final

from zdpatch.patcher import reach
from zdpatch.patcher.callees import Callees
from zdpatch.patcher.giving import Code, Gone, Made, Row, Space, Table, is_text
from zdpatch.patcher.holding import attribute
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.spread import meanings
from zdpatch.patcher.swap import MISSING

_LOOPS: Final = (ast.For, ast.AsyncFor)


class Follower(Callees):
    """Follows the statements of a module, or of a function that it calls."""

    # ------------------------------------------------------------ statements

    def statement(self, node: ast.stmt) -> None:
        """Follow one statement with all that is in it; definitions do nothing."""
        if isinstance(node, FunctionNode | ast.ClassDef):
            if self.within:
                given: list[object] = []
                if isinstance(node, FunctionNode):
                    given = self.kept(Code(node, dict(self.local)))
                self.local[node.name] = given
            return
        self.header(node)
        for part in ast.iter_child_nodes(node):
            inner = getattr(part, "body", ()) if not isinstance(part, ast.stmt | ast.expr) else ()
            for each in (part, *inner):
                if isinstance(each, ast.stmt):
                    self.statement(each)

    def header(self, node: ast.stmt) -> None:
        """Follow what a statement evaluates itself, without the statements in it."""
        match node:
            case ast.Assign(targets=targets, value=value):
                given = self.value(value)
                for target in targets:
                    self._bind(target, given)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, self.value(value))
            case ast.AugAssign(target=target, value=value):
                self._bind(target, [*self.value(value), *self.value(target)])
            case ast.Return(value=ast.expr() as value):
                self.returned += self.value(value)
            case _ if isinstance(node, _LOOPS):
                self._bind(node.target, self.each(self.value(node.iter)), loop=True)
            case ast.With(items=items):
                for item in items:
                    given = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self._bind(item.optional_vars, given)
            case _:
                for part in ast.iter_child_nodes(node):
                    if isinstance(part, ast.expr):
                        self.value(part)

    def _bind(self, target: ast.expr, given: list[object], *, loop: bool = False) -> None:
        match target:
            case ast.Name(id=name):
                if self.within or loop or (given and self.live(target) is MISSING):
                    self.local[name] = given
            case ast.Starred(value=inner):
                self._bind(inner, [Table(given, given)] if given else [], loop=loop)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for at, part in enumerate(parts):
                    self._bind(part, [*self.places_of(given, at, len(parts))], loop=loop)
            case _:
                for inside in ast.iter_child_nodes(target):
                    if isinstance(inside, ast.expr):
                        self.value(inside)

    # ------------------------------------------------------------ expressions

    def value(self, node: ast.expr) -> list[object]:  # noqa: PLR0911, PLR0912 - one clause a kind of syntax
        """Follow an expression: the objects it may give that hold such a function."""
        match node:
            case ast.Name():
                return self.name(node)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.Call():
                return self.call(node)
            case ast.Lambda():
                return self.kept(Code(node, dict(self.local)))
            case ast.IfExp(test=test, body=body, orelse=other):
                self.value(test)
                return [*self.value(body), *self.value(other)]
            case ast.NamedExpr(target=target, value=value):
                given = self.value(value)
                self._bind(target, given, loop=bool(given))
                return given
            case ast.BoolOp() | ast.BinOp() | ast.Starred() | ast.Await():
                return self._parts(node)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self.kept(Row([self.place(part) for part in parts]))
            case ast.Set():
                given = self._parts(node)
                return self.kept(Table(given, given))
            case ast.Dict():
                return self._display(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node)
            case _:
                self._parts(node)
                return []

    def _parts(self, node: ast.expr) -> list[object]:
        parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        return [each for part in parts for each in self.value(part)]

    def place(self, part: ast.expr) -> list[object]:
        return self.each(self.value(part)) if isinstance(part, ast.Starred) else self.value(part)

    def name(self, node: ast.Name) -> list[object]:
        if node.id in self.local:
            return self.local[node.id]
        value = self.live(node)
        found = [] if value is MISSING else self.kept(value)
        if found or not (value is MISSING or reach.is_a(value, list, dict, set, deque)):
            return found
        return self._emptied(node)

    def _emptied(self, node: ast.Name) -> list[object]:
        """What a name stood for that is not bound any more, or a table that has been emptied."""
        each = self.holders.world.versions[self.module].new
        if each is None or node.id in self.asked:
            return []
        self.asked.add(node.id)
        targets, found = self.holders.targets, list[object]()
        for name in meanings(each.outline, self.scope, node.id, (self.module,)):
            for item in each.outline.binders("", name[1]) if name[0] == self.module else ():
                if item.kind == "function" and name in targets:
                    found.append(Gone(targets[name]))
                value = getattr(item.node, "value", None)
                if item.kind == "value" and len(item.names) == 1 and isinstance(value, ast.expr):
                    found += self.value(value)
        self.asked.discard(node.id)
        return found

    def attribute(self, node: ast.Attribute) -> list[object]:
        return self.attribute_of(node, self.value(node.value))

    def attribute_of(self, node: ast.Attribute, owners: list[object]) -> list[object]:
        value, name = self.live(node), node.attr
        if value is not MISSING:
            return self.kept(value)
        if name.startswith("__") and name != "__wrapped__":
            return []
        owners = [each.kind if type(each) is Made else each for each in owners]
        found = (attribute(each, name) for each in owners if not is_text(each))
        return self.kept(*(each for each in found if each is not MISSING))

    def subscript(self, node: ast.Subscript) -> list[object]:
        owners, key = self.value(node.value), self.live(node.slice)
        self.value(node.slice)
        value = self.live(node)
        if value is not MISSING:
            return self.kept(value)
        spaces = [each.names for each in owners if type(each) is Space]
        if spaces and type(key) is str:
            return self.kept(*(names[key] for names in spaces if key in names))
        return self.held(owners)

    def _display(self, node: ast.Dict) -> list[object]:
        keys = [each for key in node.keys if key is not None for each in self.value(key)]
        held: list[object] = []
        for key, part in zip(node.keys, node.values, strict=True):
            given = self.value(part)
            held += given if key is not None else self.held(given)
        return self.kept(Table(keys, held))

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> list[object]:
        before = dict(self.local)
        for each in node.generators:
            self._bind(each.target, self.each(self.value(each.iter)), loop=True)
            for test in each.ifs:
                self.value(test)
        if isinstance(node, ast.DictComp):
            looped, held = self.value(node.key), self.value(node.value)
        else:
            looped = held = self.value(node.elt)
        self.local = before
        return self.kept(Table(looped, held))
