"""How a function uses what it loads: the operation it is the operand of, in words that can be
compared between two versions.

What works with any object (it is passed on, returned, tested, printed) begins with `ANY`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.spelling import parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zdpatch.patcher.holders import Function, Side

ANY: Final = "any: "
_DEPTH: Final = 2


def uses(side: Side, function: Function, wanted: Callable[[ast.Attribute], bool]) -> set[str]:
    """How attributes that are `wanted` are used in a function, and in those it hands them to."""
    return set(_Uses(side, function, _DEPTH).of(wanted))


class _Uses:
    def __init__(self, side: Side, function: Function, depth: int) -> None:
        self.side = side
        self.function = function
        self.depth = depth
        self.seen: set[str] = set()
        self.parents: dict[int, ast.AST] = {
            id(child): part
            for part in ast.walk(function.node)
            for child in ast.iter_child_nodes(part)
        }

    def of(self, wanted: Callable[[ast.Attribute], bool]) -> Iterator[str]:
        for part in ast.walk(self.function.node):
            if isinstance(part, ast.Attribute) and wanted(part):
                parent = self.parents.get(id(part))
                if isinstance(parent, ast.AugAssign) and parent.target is part:
                    yield f"{type(parent.op).__name__} {_constant(parent.value)}"
                elif isinstance(part.ctx, ast.Load):
                    yield from self._as(part)

    def of_name(self, name: str) -> Iterator[str]:
        """How a variable is used."""
        if name in self.seen:
            return
        self.seen.add(name)
        for part in ast.walk(self.function.node):
            if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Load):
                yield from self._as(part)

    def _as(self, node: ast.expr) -> Iterator[str]:
        match self.parents.get(id(node)):
            case ast.Call(func=func) as call if func is not node:
                yield from self._given(call, call.args.index(node))
            case ast.Assign(targets=targets):
                for target in targets:
                    yield from self._stored(target)
            case ast.NamedExpr(target=target):
                yield from self._stored(target)
            case parent:
                yield self._plain(node, parent)

    def _stored(self, target: ast.expr) -> Iterator[str]:
        match target:
            case ast.Name():
                yield from self.of_name(target.id)
            case ast.Tuple() | ast.List():
                yield _shape(target)
            case _:
                yield f"{ANY}stored"

    def _given(self, call: ast.Call, index: int) -> Iterator[str]:
        name = dotted(call.func) or ""
        found = self.side.by_path.get((self.function.outline.name, name), ())
        for each in found if self.depth else ():
            names = [*parameters(each.node)]
            if not each.cls and index < len(names):
                yield from _Uses(self.side, each, self.depth - 1).of_name(names[index])
        yield f"{ANY}given to {name.rpartition('.')[2]}"

    def _plain(self, node: ast.expr, parent: ast.AST | None) -> str:  # noqa: PLR0911 - one clause a use
        match parent:
            case ast.Attribute(ctx=ast.Store()):
                return f"{ANY}filled"
            case ast.Attribute(attr=attr):
                above = self.parents.get(id(parent))
                called = isinstance(above, ast.Call) and above.func is parent
                return f".{attr}{'()' if called else ''}"
            case ast.Call():
                return "()"
            case ast.Subscript(value=value, ctx=ctx):
                what = f"[{_constant(parent.slice)}] {type(ctx).__name__}"
                return what if value is node else f"{ANY}index"
            case ast.BinOp(left=left, right=right, op=op):
                other = right if left is node else left
                return f"{type(op).__name__} {_constant(other)}"
            case ast.Compare(left=left, ops=ops, comparators=others):
                parts = (_constant(each) for each in (left, *others))
                return f"{' '.join(type(op).__name__ for op in ops)} {' '.join(parts)}"
            case ast.UnaryOp(op=op) if not isinstance(op, ast.Not):
                return type(op).__name__
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                return f"iter {_shape(parent.target)}"
            case ast.withitem() | ast.Await() | ast.Starred() | ast.YieldFrom():
                return type(parent).__name__
            case _:
                return f"{ANY}{type(parent).__name__}"


def _shape(target: ast.expr) -> str:
    return f"parts {len(target.elts)}" if isinstance(target, ast.Tuple | ast.List) else "one"


def _constant(node: ast.AST) -> str:
    return repr(node.value) if isinstance(node, ast.Constant) else ""


def gives(side: Side, function: Function, value: ast.expr, depth: int = _DEPTH) -> set[str]:
    """What an expression of a function may give, as texts; through its variables and through
    functions of the patch.
    """
    match value:
        case ast.Name(id=name):
            bound = function.bound.get(name, [])
            if bound and depth and None not in bound:
                parts = [each for each in bound if each is not None and each is not value]
                return {t for each in parts for t in gives(side, function, each, depth - 1)}
        case ast.IfExp(body=body, orelse=orelse):
            return gives(side, function, body, depth) | gives(side, function, orelse, depth)
        case ast.BoolOp(values=values):
            return {t for each in values for t in gives(side, function, each, depth)}
        case ast.Call(func=func) if depth:
            found = side.by_path.get((function.outline.name, dotted(func) or ""), ())
            returned = {
                f"{ast.dump(value)} {text}"
                for each in found
                for part in _returned(each.node)
                for text in gives(side, each, part, depth - 1)
            }
            if returned:
                return returned
        case _:
            pass
    return {ast.dump(value)}


def _returned(node: FunctionNode) -> Iterator[ast.expr]:
    for part in ast.walk(node):
        if isinstance(part, ast.Return) and part.value is not None:
            yield part.value
