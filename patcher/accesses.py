"""What a function stores and loads on which object, and which of its loads no store of its own
makes safe.

A load is safe where every way to it stores the attribute on the same variable first, and where the
code is ready for its absence: `hasattr`, `getattr` with a default, `except AttributeError`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.parts import children
from zdpatch.patcher.patterns import captured, dispensed, loaded, positional
from zdpatch.patcher.spelling import called, catches, parameters
from zdpatch.patcher.touched import Accesses, State, Touched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def accesses(
    node: FunctionNode | ast.Module, settles: Mapping[str, frozenset[str]] | None = None
) -> Accesses:
    """Look at one function, functions inside it included; of a module, at what is no function.

    `settles`: what methods of its object store on it on every way, by name of the method.
    """
    flow = _Flow(node, settles or {})
    state = flow.block(node.body, frozenset())
    flow.found.loads = [each for each in flow.found.loads if each.name not in flow.ready]
    flow.found.settled = _meet(state, *flow.returns) or frozenset()
    return flow.found


class _Flow(Touched):
    """With the ways that statements take."""

    def __init__(
        self, node: FunctionNode | ast.Module, settles: Mapping[str, frozenset[str]]
    ) -> None:
        super().__init__(node, settles)
        self.returns: list[State] = []

    # ------------------------------------------------------------ statements

    def block(self, body: Iterable[ast.stmt], state: State) -> State:
        """The state after `body`."""
        before, self.state = self.state, state
        for node in body:
            self._statement(node)
        state, self.state = self.state, before
        return state

    def _statement(self, node: ast.stmt) -> None:
        clause = self._STATEMENTS.get(node.__class__)
        if clause is not None:
            clause(self, node)
            return
        for child in children(node):
            if isinstance(child, ast.stmt):
                self._statement(child)
            else:
                self.expr(child)

    def _if(self, node: ast.If) -> None:
        self.expr(node.test)
        ends = [self.block(each, self.state) for each in (node.body, node.orelse)]
        self.state = _meet(*ends)

    def _while(self, node: ast.While) -> None:
        self.expr(node.test)
        self.block([*node.body, *node.orelse], self.state)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.expr(node.iter)
        before = self.state
        self.target(node.target, None)
        self.block([*node.body, *node.orelse], self.state)
        self.state = _meet(before, self.state)

    def _leave(self, node: ast.stmt) -> None:
        self.children_of(node)
        if isinstance(node, ast.Return):
            self.returns.append(self.state)
        self.state = None

    def _assign(self, node: ast.Assign) -> None:
        self.expr(node.value)
        for name in positional(node):
            self.read("", name, node)
        for target in node.targets:
            self.target(target, node.value)

    def _annotate(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.expr(node.value)
            self.target(node.target, node.value)

    def _augment(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Attribute):
            self.load(node.target)
        self.expr(node.value)
        self.target(node.target, None)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                self.load(target)
                self.forget(f"{dotted(target.value) or ''}.{target.attr}")
            else:
                self.children_of(target)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        before, unguarded = self.state, self.unguarded
        if any(catches(handler.type) for handler in node.handlers):
            self.unguarded = False
        end = self.block(node.body, before)
        self.unguarded = unguarded
        ends = [self.block(node.orelse, end)]
        ends += [self.block(handler.body, before) for handler in node.handlers]
        after = _meet(*ends)
        final = self.block(node.finalbody, before)
        self.state = None if after is None or final is None else after | final

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        unguarded, suppresses = self.unguarded, False
        for item in node.items:
            self.expr(item.context_expr)
            if item.optional_vars is not None:
                self.target(item.optional_vars, None)
            if isinstance(item.context_expr, ast.Call) and called(item.context_expr) == "suppress":
                suppresses = True
                if any(catches(each) for each in item.context_expr.args):
                    self.unguarded = False
        before = self.state
        end = self.block(node.body, before)
        self.unguarded = unguarded
        self.state = _meet(before, end) if suppresses else end

    def _match(self, node: ast.Match) -> None:
        self.expr(node.subject)
        self.ready.update(dispensed(node.cases))
        ends = [self.state]
        for case in node.cases:
            for read in loaded(case.pattern, dotted(node.subject) or ""):
                self.read(*read)
            for name in captured(case.pattern):
                self.forget(name)
            if case.guard is not None:
                self.aside(case.guard)
            ends.append(self.block(case.body, self.state))
        self.state = _meet(*ends)

    def _inner(self, node: FunctionNode) -> None:
        """A function inside runs later, on objects that have by then what they have now."""
        for each in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if each is not None:
                self.expr(each)
        if isinstance(self.node, ast.Module):
            return
        before, returns = self.state, self.returns
        for name in parameters(node):
            self.forget(name)
        self.returns = []
        self.block(node.body, self.state)
        self.state, self.returns = before, returns
        self.forget(node.name)

    def _class(self, node: ast.ClassDef) -> None:
        """Methods of a class are functions of their own; the rest of its body runs here."""
        for each in [*node.decorator_list, *node.bases, *(word.value for word in node.keywords)]:
            self.expr(each)
        self.block((e for e in node.body if not isinstance(e, FunctionNode)), self.state)

    _STATEMENTS: Final[dict[type[ast.AST], Callable[[_Flow, Any], None]]] = {
        ast.If: _if,
        ast.While: _while,
        ast.For: _for,
        ast.AsyncFor: _for,
        ast.Try: _try,
        ast.TryStar: _try,
        ast.With: _with,
        ast.AsyncWith: _with,
        ast.Match: _match,
        ast.Return: _leave,
        ast.Raise: _leave,
        ast.Break: _leave,
        ast.Continue: _leave,
        ast.FunctionDef: _inner,
        ast.AsyncFunctionDef: _inner,
        ast.ClassDef: _class,
        ast.Assign: _assign,
        ast.AnnAssign: _annotate,
        ast.AugAssign: _augment,
        ast.Delete: _delete,
    }


def _meet(*states: State) -> State:
    """What holds whichever way was taken."""
    reached = [each for each in states if each is not None]
    return reached[0].intersection(*reached[1:]) if reached else None
