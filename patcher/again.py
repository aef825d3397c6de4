"""A call of the tree's own function is evaluated again by its text, one operation at a time, on
plain data: what is not known to be pure ends it, before anything of the application has run.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Final, cast

from zdpatch.patcher.binding import bind
from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.outline import Outline, absolute
from zdpatch.patcher.plain import (
    Once,
    apply,
    asks_values,
    immutable,
    is_listed,
    operate,
    plain,
    rebuilt,
)
from zdpatch.patcher.purity import is_pure_method, origin
from zdpatch.patcher.reach import is_a, namespace
from zdpatch.patcher.statements import bound_names
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import is_known_function, is_library

_DEPTH: Final = 8  # functions called by functions
_STEPS: Final = 10_000
_GROWING: Final = frozenset({"append", "extend", "insert", "add", "update"})
_MAKERS: Final[tuple[object, ...]] = (list, dict, set, sorted)
_MAKING: Final = (ast.List, ast.Set, ast.Dict, ast.BinOp)
_OPERATIONS: Final = (
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.Slice, ast.JoinedStr,
    ast.FormattedValue, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Starred,
)  # fmt: skip
# A function with one of these anywhere is no plain function.
_OTHERWISE: Final = (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)
# (outline, node) of the function that a dotted name read in a module stands for
Functions = Callable[[str, str], "tuple[Outline, FunctionNode] | None"]
Lookup = Callable[[str, str], object]  # the value of a plain name in a module, or MISSING


class _Return(Exception):  # noqa: N818 - it is no error
    """Ends the body of a function; `args[0]` is its value."""


@dataclass(eq=False)
class Again:
    """Evaluates calls. `functions` and `lookup` say what names mean, on one side of a patch.

    Every method raises Unevaluable for what is not known to be pure, and for what raises.
    """

    functions: Functions
    lookup: Lookup
    steps: int = 0
    fresh: dict[int, object] = field(default_factory=dict[int, object])

    def call(self, outline: Outline, node: ast.Call) -> object:
        """What a call in a module gives."""
        return _Frame(self, outline, {}, 0).value(node)

    def step(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise Unevaluable("it takes too long to be evaluated again")


@dataclass(eq=False)
class _Frame:
    """One call of a function: its variables, how deep it is, and which names it binds at all."""

    again: Again
    outline: Outline
    names: dict[str, object]
    depth: int
    own: frozenset[str] = frozenset()

    # ------------------------------------------------------------ statements

    def body(self, statements: list[ast.stmt]) -> None:
        for node in statements:
            self.again.step()
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=ast.Call() as call):
                self.value(call)
            case ast.Assign(targets=[target], value=value):
                self.bind(target, self.value(value))
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                self.bind(target, self.value(value))
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                left = ast.copy_location(ast.Name(target.id, ast.Load()), node)
                if type(self.value(left)) not in {int, float, str, bytes, tuple}:
                    raise Unevaluable(f"line {node.lineno} changes an object in place")
                both = ast.copy_location(ast.BinOp(left, op, value), node)
                self.bind(target, self.value(both))
            case ast.If(test=test, body=body, orelse=orelse):
                self.body(body if self.value(test) else orelse)
            case ast.For(target=target, iter=over, body=body, orelse=[]):
                self.each(over, target, body)
            case ast.Return(value=value):
                raise _Return(None if value is None else self.value(value))
            case ast.Assert(test=test) if self.value(test):
                pass
            case ast.ImportFrom():
                self.imported(node)
            case _:
                raise Unevaluable(f"line {node.lineno} may have effects")

    def each(self, over: ast.expr, target: ast.expr, body: list[ast.stmt]) -> None:
        source = self.value(over)
        parts = self.parts(source, over)
        for part in parts:
            self.bind(target, part)
            self.body(body)
        if type(source) is not Once and list(cast("list[object]", source)) != parts:
            raise Unevaluable(f"line {over.lineno} goes through what it changes")

    def imported(self, node: ast.ImportFrom) -> None:
        owner = absolute(node, self.outline.name, package=self.outline.package)
        for alias in node.names:
            value = self.again.lookup(owner, alias.name)
            if not plain(value):
                raise Unevaluable(f"line {node.lineno} imports what is not plain data")
            self.names[alias.asname or alias.name] = value

    def bind(self, target: ast.expr, value: object) -> None:
        if type(value) is Once:
            raise Unevaluable(f"line {target.lineno} keeps what can be gone through once")
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        if not isinstance(target, ast.Tuple | ast.List) or type(value) not in {tuple, list}:
            raise Unevaluable(f"line {target.lineno} assigns to more than names")
        parts = list(cast("tuple[object, ...]", value))
        if len(parts) != len(target.elts) or any(isinstance(e, ast.Starred) for e in target.elts):
            raise Unevaluable(f"line {target.lineno} takes apart what does not fit")
        for each, part in zip(target.elts, parts, strict=True):
            self.bind(each, part)

    # ------------------------------------------------------------ expressions

    def value(self, node: ast.expr) -> object:  # noqa: PLR0911 - one clause a kind
        """What an expression gives: plain data, or a class or function of the library."""
        self.again.step()
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.name(name)
            case ast.Attribute():
                return self.attribute(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test) else orelse)
            case ast.BoolOp(op=op, values=values):
                return self.either(values, until=isinstance(op, ast.Or))
            case ast.Call():
                return self.called(node)
            case ast.ListComp(elt=elt) | ast.GeneratorExp(elt=elt):
                found = [inner.value(elt) for inner in self.loop(node.generators)]
                return self.new(found) if isinstance(node, ast.ListComp) else Once(found)
            case ast.Lambda() | ast.NamedExpr() | ast.Await() | ast.Yield() | ast.YieldFrom():
                raise Unevaluable(f"line {node.lineno} is more than an operation on plain data")
            case _ if isinstance(node, _OPERATIONS):
                return self.operation(node)
            case _:
                raise Unevaluable(f"line {node.lineno} is more than an operation on plain data")

    def name(self, name: str) -> object:
        if name in self.names:
            return self.names[name]
        if name in self.own:
            raise Unevaluable(f"{name} is not bound yet")
        value = self.again.lookup(self.outline.name, name)
        if value is MISSING:
            value = getattr(builtins, name, MISSING)
        return self.allowed(value, name)

    def attribute(self, node: ast.Attribute) -> object:
        """An attribute of a module."""
        name = dotted(node)
        root, *rest = name.split(".") if name else ("",)
        if not rest or root in self.names or root in self.own:
            raise Unevaluable(f"line {node.lineno} reads an attribute of an object")
        value = self.again.lookup(self.outline.name, root)
        for attribute in rest:
            if type(value) is not ModuleType:
                raise Unevaluable(f"{name} is not read from a module")
            value = self.again.lookup(str(namespace(value)["__name__"]), attribute)
        return self.allowed(value, name or "")

    def allowed(self, value: object, name: str) -> object:
        library = is_a(value, type) and is_library(cast("type", value))
        if not plain(value) and not library and not is_known_function(value):
            raise Unevaluable(f"{name} is no plain data")
        return value

    def either(self, values: list[ast.expr], *, until: bool) -> object:
        found: object = None
        for each in values:
            found = self.value(each)
            if bool(found) is until:
                break
        return found

    def elements(self, node: ast.expr) -> list[object]:
        return self.parts(self.value(node), node)

    def parts(self, over: object, node: ast.expr) -> list[object]:
        known = {list, tuple, str, dict, range, Once}
        if type(over) not in known or len(cast("str", over)) > _STEPS:
            raise Unevaluable(f"line {node.lineno} goes through a {type(over).__qualname__}")
        return list(cast("list[object]", over))

    def loop(self, generators: list[ast.comprehension]) -> list[_Frame]:
        if len(generators) != 1 or generators[0].is_async:
            raise Unevaluable("a comprehension over more than one thing")
        only, found = generators[0], list[_Frame]()
        for each in self.elements(only.iter):
            inner = _Frame(self.again, self.outline, dict(self.names), self.depth, self.own)
            inner.bind(only.target, each)
            if all(inner.value(test) for test in only.ifs):
                found.append(inner)
        return found

    def operation(self, node: ast.expr) -> object:
        """One operation, with its operands as values."""
        if isinstance(node, ast.Compare) and not asks_values(node):
            raise Unevaluable(f"line {node.lineno} asks whether two values are one object")
        operands: dict[str, object] = {}

        def put(part: ast.AST) -> ast.AST:
            if isinstance(part, ast.expr) and not isinstance(part, ast.Slice | ast.Starred):
                if isinstance(part, ast.FormattedValue):
                    return rebuilt(part, put)
                name = f"v{len(operands)}"
                operands[name] = self.data(part)
                return ast.copy_location(ast.Name(name, ast.Load()), part)
            return rebuilt(part, put)

        bare = ast.fix_missing_locations(ast.Expression(cast("ast.expr", rebuilt(node, put))))
        value = operate(bare, operands)
        return self.new(value) if isinstance(node, _MAKING) else value

    def data(self, node: ast.expr) -> object:
        value = self.value(node)
        if not plain(value):
            raise Unevaluable(f"line {node.lineno} is no plain data")
        return value

    def new(self, value: object) -> object:
        """A value made here: nobody else holds it."""
        if type(value) in {list, set, dict}:
            self.again.fresh[id(value)] = value
        return value

    # ------------------------------------------------------------ calls

    def called(self, node: ast.Call) -> object:
        arguments, words = self.arguments(node)
        name = dotted(node.func)
        root = (name or "").partition(".")[0]
        own = None if name is None or root in self.names or root in self.own else name
        found = None if own is None else self.again.functions(self.outline.name, own)
        if found is not None:
            return self.function(*found, arguments, words)
        if own is not None and is_listed(origin(own, self.outline.imports)):
            called = self.value(node.func)
            value = apply(called, arguments, words)
            return self.new(value) if any(called is each for each in _MAKERS) else value
        if isinstance(node.func, ast.Attribute):
            return self.method(node.func, arguments, words)
        raise Unevaluable(f"{name or 'a call'} may have effects when it is called")

    def arguments(self, node: ast.Call) -> tuple[list[object], dict[str, object]]:
        arguments: list[object] = []
        for each in node.args:
            if isinstance(each, ast.Starred):
                arguments += self.elements(each.value)
            else:
                arguments.append(self.value(each))
        if any(word.arg is None for word in node.keywords):
            raise Unevaluable(f"line {node.lineno} hands on keywords")
        return arguments, {str(word.arg): self.value(word.value) for word in node.keywords}

    def method(
        self, node: ast.Attribute, arguments: list[object], words: dict[str, object]
    ) -> object:
        owner = self.data(node.value)
        grows = node.attr in _GROWING and id(owner) in self.again.fresh
        if not is_pure_method(node.attr) and not grows:
            raise Unevaluable(f"method {node.attr} may have effects")
        if not all(plain(each) or type(each) is Once for each in [*arguments, *words.values()]):
            raise Unevaluable(f"method {node.attr} is given more than plain data")
        return apply(getattr(owner, node.attr, None), arguments, words)

    def function(
        self,
        outline: Outline,
        node: FunctionNode,
        arguments: list[object],
        words: dict[str, object],
    ) -> object:
        """The value of a call of one of the tree's own functions."""
        if self.depth >= _DEPTH:
            raise Unevaluable("functions call each other too deeply")
        if any(type(each) is Once for each in [*arguments, *words.values()]):
            raise Unevaluable(f"{node.name} is given what can be gone through once")
        if any(isinstance(part, _OTHERWISE) for part in ast.walk(node)):
            raise Unevaluable(f"{node.name} is more than a plain function")
        inner = _Frame(self.again, outline, {}, self.depth + 1)
        inner.names = inner.bound(node, arguments, words)
        inner.own = frozenset(name for each in node.body for name in bound_names(each))
        try:
            inner.body(node.body)
        except _Return as done:
            return done.args[0]
        return None

    def bound(
        self, node: FunctionNode, arguments: list[object], words: dict[str, object]
    ) -> dict[str, object]:
        """Parameters by name, as a call would bind them."""
        if node.decorator_list or isinstance(node, ast.AsyncFunctionDef):
            raise Unevaluable(f"{node.name} is more than a plain function")
        given = node.args
        values = {f"d{i}": self.data(each) for i, each in enumerate(given.defaults)}
        inner = {f"k{i}": each for i, each in enumerate(given.kw_defaults) if each is not None}
        values |= {name: self.data(each) for name, each in inner.items()}
        if not all(map(immutable, values.values())):
            raise Unevaluable(f"{node.name} has a default value that all its calls share")
        return bind(node, values, arguments, words)
