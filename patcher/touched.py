"""What evaluating an expression stores and loads on objects.

A load is safe after a store of the same attribute on the same variable, on every way to it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.parts import children, parts
from zdpatch.patcher.spelling import (
    asked,
    called,
    dict_of,
    receiver,
    texts,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# (object, attribute) pairs stored on every way to here; None where no way leads.
State = frozenset[tuple[str, str]] | None
_ENDS: Final = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del})


@dataclass(slots=True, eq=False)
class Access:
    """One store or load of `name` on `root`, a dotted name ("" when the object has none).

    `value` is what a store stores, where that is one expression.
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


class Touched:
    """What was touched so far; `state` is what has been stored on every way to here."""

    def __init__(
        self, node: FunctionNode | ast.Module, settles: Mapping[str, frozenset[str]]
    ) -> None:
        self.node = node
        self.found = Accesses()
        self.ready: set[str] = set()
        self.settles = settles
        self.own = receiver(node)
        self.unguarded = True
        self.state: State = frozenset()

    def children_of(self, node: ast.AST) -> None:
        """Evaluate what is directly inside."""
        for child in children(node):
            self.expr(child)

    def expr(self, node: ast.AST) -> None:
        """Evaluate an expression."""
        clause = self._EXPRESSIONS.get(node.__class__)
        if clause is not None:
            clause(self, node)
        elif node.__class__ not in _ENDS:
            self.children_of(node)

    def _called(self, node: ast.Call) -> None:
        self.children_of(node)
        self.ready.update(asked(node))
        self._call(node)

    def _compare(self, node: ast.Compare) -> None:
        self.children_of(node)
        self.ready.update(asked(node))

    def _and_or(self, node: ast.BoolOp) -> None:
        self.expr(node.values[0])
        for each in node.values[1:]:
            self.aside(each)

    def _if_else(self, node: ast.IfExp) -> None:
        self.expr(node.test)
        self.aside(node.body)
        self.aside(node.orelse)

    def _lambda(self, node: ast.Lambda) -> None:
        self.aside(node.body)

    def _named(self, node: ast.NamedExpr) -> None:
        self.expr(node.value)
        self.target(node.target, node.value)

    def _subscript(self, node: ast.Subscript) -> None:
        self.children_of(node)
        if (owner := dict_of(node.value)) is not None and isinstance(node.ctx, ast.Load):
            for name in texts([node.slice]):
                self._loaded(owner, name, node)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        before = self.state
        for part in node.generators:
            self.expr(part.iter)
            self.target(part.target, None)
        self.children_of(node)
        self.state = before

    def aside(self, node: ast.AST) -> None:
        """An expression that may not be evaluated, or later."""
        before = self.state
        self.expr(node)
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
        for part in parts(self.node):
            if isinstance(part, ast.Constant):
                yield from texts([part])
            elif isinstance(part, ast.keyword) and part.arg is not None:
                yield part.arg

    # ------------------------------------------------------------ noting

    def target(self, node: ast.expr, value: ast.expr | None) -> None:
        """Store `value` in a target; None for what is no single expression."""
        match node:
            case ast.Attribute():
                self.expr(node.value)
                self._stored(node.value, node.attr, node, value)
            case ast.Name():
                self.forget(node.id)
            case ast.Tuple() | ast.List():
                for each in node.elts:
                    self.target(each, None)
            case ast.Starred():
                self.target(node.value, None)
            case ast.Subscript():
                self.children_of(node)
                if (owner := dict_of(node.value)) is not None:
                    names = list(texts([node.slice]))
                    for name in names or self._any_text():
                        self._stored(owner, name, node, value, sure=bool(names))
            case _:
                self.children_of(node)

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
            self.forget(f"{root}.{name}")
            self._also(root, {name})

    def load(self, node: ast.Attribute) -> None:
        """Load an attribute."""
        self.expr(node.value)
        self._loaded(node.value, node.attr, node)

    def _loaded(self, owner: ast.expr | None, name: str, node: ast.expr) -> None:
        self.read((dotted(owner) or "") if owner is not None else "", name, node)

    def read(self, root: str, name: str, node: ast.expr | ast.stmt | ast.pattern) -> None:
        """Load `name` from what a dotted name stands for, "" for any object."""
        each = Access(root, name, node.lineno)
        self.found.used.append(each)
        safe = self.state is None or (root, name) in self.state
        if self.unguarded and not safe:
            self.found.loads.append(each)

    def _also(self, root: str, names: Iterable[str]) -> None:
        if self.state is not None and root:
            self.state |= {(root, name) for name in names}

    def forget(self, root: str) -> None:
        """Another object stands for the name now, and for all that begins with it."""
        if self.state:
            within = f"{root}."
            self.state = frozenset(
                each
                for each in self.state
                if each[0] != root and not each[0].startswith(within) and ".".join(each) != root
            )

    _EXPRESSIONS: Final[dict[type[ast.AST], Callable[[Touched, Any], None]]] = {
        ast.Attribute: load,
        ast.Call: _called,
        ast.Compare: _compare,
        ast.BoolOp: _and_or,
        ast.IfExp: _if_else,
        ast.Lambda: _lambda,
        ast.NamedExpr: _named,
        ast.Subscript: _subscript,
        ast.ListComp: _comprehension,
        ast.SetComp: _comprehension,
        ast.DictComp: _comprehension,
        ast.GeneratorExp: _comprehension,
    }
