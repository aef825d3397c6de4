"""What a function stores and loads on which object, and which of its loads no store of its own
makes safe.

A load is safe where every way to it stores the attribute on the same variable first, and where the
code is ready for its absence: `hasattr`, `getattr` with a default, `except AttributeError`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.spelling import (
    asked,
    called,
    catches,
    dict_of,
    parameters,
    receiver,
    texts,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# (object, attribute) pairs stored on every way to here; None where no way leads.
_State = frozenset[tuple[str, str]] | None
_SCOPES: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """One store or load of `name` on `root`, a dotted name ("" when the object has none).

    `value` is what a store stores, where that is one expression;
    """

    root: str
    name: str
    line: int
    value: ast.expr | None = None


@dataclass(slots=True, eq=False)
class Accesses:
    """All of one function. `loads` are those that are not safe; `settled` what it has stored on
    every way to its end.
    """

    stores: list[Access] = field(default_factory=list[Access])
    loads: list[Access] = field(default_factory=list[Access])
    used: list[Access] = field(default_factory=list[Access])
    settled: frozenset[tuple[str, str]] = frozenset()


def accesses(
    node: FunctionNode | ast.Module, settles: Mapping[str, frozenset[str]] | None = None
) -> Accesses:
    """Look at one function, functions inside it included; of a module, at what is no function.

    `settles`: what methods of its object store on it on every way, by name of the method.
    """
    flow = _Flow(node, settles or {})
    state = flow.block(node.body, frozenset())
    flow.found.loads = [each for each in flow.found.loads if each.name not in flow.ready]
    ends = [each for each in (state, *flow.returns) if each is not None]
    flow.found.settled = frozenset.intersection(*ends) if ends else frozenset()
    return flow.found


class _Flow:
    def __init__(
        self, node: FunctionNode | ast.Module, settles: Mapping[str, frozenset[str]]
    ) -> None:
        self.node = node
        self.found = Accesses()
        self.returns: list[_State] = []
        self.ready: set[str] = set()
        self.settles = settles
        self.own = receiver(node)
        self.unguarded = True
        self.state: _State = frozenset()

    # ------------------------------------------------------------ statements

    def block(self, body: Iterable[ast.stmt], state: _State) -> _State:
        """The state after `body`."""
        before, self.state = self.state, state
        for node in body:
            self._statement(node)
        state, self.state = self.state, before
        return state

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.If():
                self._expr(node.test)
                ends = [self.block(each, self.state) for each in (node.body, node.orelse)]
                self.state = _meet(*ends)
            case ast.While():
                self._expr(node.test)
                self.block([*node.body, *node.orelse], self.state)
            case ast.For() | ast.AsyncFor():
                self._expr(node.iter)
                before = self.state
                self._target(node.target, None)
                self.block([*node.body, *node.orelse], self.state)
                self.state = _meet(before, self.state)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.With() | ast.AsyncWith():
                self._with(node)
            case ast.Match():
                self._match(node)
            case ast.Return() | ast.Raise():
                self._children(node)
                if isinstance(node, ast.Return):
                    self.returns.append(self.state)
                self.state = None
            case ast.Break() | ast.Continue():
                self.state = None
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._inner(node)
            case ast.ClassDef():
                self._class(node)
            case _:
                self._simple(node)

    def _simple(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign():
                self._expr(node.value)
                for target in node.targets:
                    self._target(target, node.value)
            case ast.AnnAssign():
                if node.value is not None:
                    self._expr(node.value)
                    self._target(node.target, node.value)
            case ast.AugAssign():
                if isinstance(node.target, ast.Attribute):
                    self._load(node.target)
                self._expr(node.value)
                self._target(node.target, None)
            case ast.Delete():
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        self._load(target)
                        self._forget(f"{dotted(target.value) or ''}.{target.attr}")
                    else:
                        self._children(target)
            case _:
                self._children(node)

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
            self._expr(item.context_expr)
            if item.optional_vars is not None:
                self._target(item.optional_vars, None)
            if isinstance(item.context_expr, ast.Call) and called(item.context_expr) == "suppress":
                suppresses = True
                if any(catches(each) for each in item.context_expr.args):
                    self.unguarded = False
        before = self.state
        end = self.block(node.body, before)
        self.unguarded = unguarded
        self.state = _meet(before, end) if suppresses else end

    def _match(self, node: ast.Match) -> None:
        self._expr(node.subject)
        ends = [self.state]
        for case in node.cases:
            if case.guard is not None:
                self._aside(case.guard)
            ends.append(self.block(case.body, self.state))
        self.state = _meet(*ends)

    def _inner(self, node: FunctionNode) -> None:
        """A function inside runs later, on objects that have by then what they have now."""
        for each in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if each is not None:
                self._expr(each)
        if isinstance(self.node, ast.Module):
            return
        before, returns = self.state, self.returns
        for name in parameters(node):
            self._forget(name)
        self.returns = []
        self.block(node.body, self.state)
        self.state, self.returns = before, returns
        self._forget(node.name)

    def _class(self, node: ast.ClassDef) -> None:
        """Methods of a class are functions of their own; the rest of its body runs here."""
        for each in [*node.decorator_list, *node.bases, *(word.value for word in node.keywords)]:
            self._expr(each)
        self.block((e for e in node.body if not isinstance(e, FunctionNode)), self.state)

    # ------------------------------------------------------------ expressions

    def _children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child)
            else:
                self._expr(child)

    def _expr(self, node: ast.AST) -> None:  # noqa: PLR0912 - one clause a kind of expression
        match node:
            case ast.Attribute():
                self._load(node)
            case ast.Call():
                self._children(node)
                self.ready.update(asked(node))
                self._call(node)
            case ast.Compare():
                self._children(node)
                self.ready.update(asked(node))
            case ast.BoolOp():
                self._expr(node.values[0])
                for each in node.values[1:]:
                    self._aside(each)
            case ast.IfExp():
                self._expr(node.test)
                self._aside(node.body)
                self._aside(node.orelse)
            case ast.Lambda():
                self._aside(node.body)
            case ast.NamedExpr():
                self._expr(node.value)
                self._target(node.target, node.value)
            case ast.Subscript():
                self._children(node)
                if (owner := dict_of(node.value)) is not None and isinstance(node.ctx, ast.Load):
                    for name in texts([node.slice]):
                        self._loaded(owner, name, node)
            case _ if isinstance(node, _SCOPES):
                before = self.state
                for part in node.generators:
                    self._expr(part.iter)
                    self._target(part.target, None)
                self._children(node)
                self.state = before
            case _:
                self._children(node)

    def _aside(self, node: ast.AST) -> None:
        """An expression that may not be evaluated, or later."""
        before = self.state
        self._expr(node)
        self.state = before

    def _call(self, node: ast.Call) -> None:
        name, function = called(node), node.func
        if name in {"setattr", "__setattr__"} and len(node.args) > 1:
            owner = node.args[0]
            if isinstance(function, ast.Attribute) and len(node.args) == 2:  # o.__setattr__(n, v)
                owner = function.value
            names = list(texts(node.args[-2:-1]))
            for each in names or self._any_text():
                self._stored(owner, each, node, node.args[-1], sure=bool(names))
        elif name == "getattr" and len(node.args) == 2:
            for each in texts(node.args[1:]):
                self._loaded(node.args[0], each, node)
        elif name == "attrgetter":
            for each in texts(node.args):
                for part in each.split("."):
                    self._loaded(None, part, node)
        elif (
            name == "update"
            and isinstance(function, ast.Attribute)
            and (whose := dict_of(function.value)) is not None
        ):
            self._updated(whose, node)
        elif isinstance(function, ast.Attribute) and dotted(function.value) == self.own:
            self._also(self.own, self.settles.get(function.attr, frozenset()))

    def _updated(self, owner: ast.expr, node: ast.Call) -> None:
        for word in node.keywords:
            if word.arg is not None:
                self._stored(owner, word.arg, node, word.value)
        for each in [*node.args, *(word.value for word in node.keywords if word.arg is None)]:
            if isinstance(each, ast.Dict):
                for name in texts(key for key in each.keys if key is not None):
                    self._stored(owner, name, node, None)
            elif isinstance(each, ast.Call) and called(each) == "dict":
                for word in each.keywords:
                    if word.arg is not None:
                        self._stored(owner, word.arg, node, word.value)
            elif isinstance(each, ast.Call) and called(each) == "locals":
                for name in variables(self.node):
                    self._stored(owner, name, node, None)
            else:
                for name in self._any_text():
                    self._stored(owner, name, node, None, sure=False)

    def _any_text(self) -> Iterator[str]:
        """Where the name of an attribute is computed: every text and keyword of the function."""
        for part in ast.walk(self.node):
            if isinstance(part, ast.Constant):
                yield from texts([part])
            elif isinstance(part, ast.keyword) and part.arg is not None:
                yield part.arg

    # ------------------------------------------------------------ noting

    def _target(self, node: ast.expr, value: ast.expr | None) -> None:
        match node:
            case ast.Attribute():
                self._expr(node.value)
                self._stored(node.value, node.attr, node, value)
            case ast.Name():
                self._forget(node.id)
            case ast.Tuple() | ast.List():
                for each in node.elts:
                    self._target(each, None)
            case ast.Starred():
                self._target(node.value, None)
            case ast.Subscript():
                self._children(node)
                if (owner := dict_of(node.value)) is not None:
                    names = list(texts([node.slice]))
                    for name in names or self._any_text():
                        self._stored(owner, name, node, value, sure=bool(names))
            case _:
                self._children(node)

    def _stored(
        self,
        owner: ast.expr,
        name: str,
        node: ast.expr,
        value: ast.expr | None,
        *,
        sure: bool = True,
    ) -> None:
        root = dotted(owner) or ""
        self.found.stores.append(Access(root, name, node.lineno, value))
        if sure:
            self._forget(f"{root}.{name}")
            self._also(root, {name})

    def _load(self, node: ast.Attribute) -> None:
        self._expr(node.value)
        self._loaded(node.value, node.attr, node)

    def _loaded(self, owner: ast.expr | None, name: str, node: ast.expr) -> None:
        root = (dotted(owner) or "") if owner is not None else ""
        each = Access(root, name, node.lineno)
        self.found.used.append(each)
        safe = self.state is None or (root, name) in self.state
        if self.unguarded and not safe:
            self.found.loads.append(each)

    def _also(self, root: str, names: Iterable[str]) -> None:
        if self.state is not None and root:
            self.state |= {(root, name) for name in names}

    def _forget(self, root: str) -> None:
        """Another object stands for the name now, and for all that begins with it."""
        if self.state is not None:
            within = f"{root}."
            self.state = frozenset(
                each
                for each in self.state
                if each[0] != root and not each[0].startswith(within) and ".".join(each) != root
            )


def _meet(*states: _State) -> _State:
    """What holds whichever way was taken."""
    reached = [each for each in states if each is not None]
    return frozenset.intersection(*reached) if reached else None
