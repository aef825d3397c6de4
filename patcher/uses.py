"""How a function uses what it loads: the operation it is the operand of, in words that can be
compared between two versions.

What works with any object (it is passed on, returned, tested, printed) begins with `ANY`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.holders import bound_on
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.parts import children, parts
from zdpatch.patcher.spelling import parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

ANY: Final = "any: "
_DEPTH: Final = 2
# to ask whether there is anything
TESTS: Final = {f"{ANY}{each}" for each in ("If", "IfExp", "UnaryOp", "BoolOp", "While")}
_ASKED: Final = {
    f"{ANY}{each}"
    for each in (
        *(f"given to {name}" for name in ("isinstance", "type", "hasattr", "getattr", "callable")),
        "Match",
    )
}
_MISMATCHES: Final = {"TypeError", "AttributeError", "ValueError", "Exception", "BaseException"}


def uses(side: Side, function: Function, nodes: Iterable[ast.expr], *, bare: bool) -> set[str]:
    """How expressions of a function are used, and in functions it hands them to; what a loop or an
    unpacking stores to counts as what it gets.

    `bare`: only where the function is ready for nothing else: no handler catches what fails then,
    and it does not ask what it has.
    """
    found = set(_Uses(side, function, _DEPTH, bare=bare).of(nodes))
    return set() if bare and found & _ASKED else found


def uses_of_name(side: Side, function: Function, name: str, *, bare: bool) -> set[str]:
    """The same of a variable, or a parameter."""
    found = set(_Uses(side, function, _DEPTH, bare=bare).of_name(name))
    return set() if bare and found & _ASKED else found


def fresh(
    before: Mapping[Function, set[str]],
    after: Mapping[Function, set[str]],
    now: set[str],
    added: set[str],
) -> Iterator[tuple[Function, set[str]]]:
    """Functions of `after` that use something as none of `before` did, with these uses.

    `now`: all uses that there may be. What any object allows counts only where another use is gone.
    To use what the patch adds to classes (`added`) is no other use: live objects get it too.
    """
    known = {use for group in before.values() for use in group}
    known |= {f".{each}{call}" for each in added for call in ("", "()")}
    lost = any(not use.startswith(ANY) for use in known - now if not use.startswith("."))
    for function, group in after.items():
        if found := {use for use in group - known if lost or not use.startswith(ANY)}:
            yield function, found


def added_members(old: Side, new: Side) -> set[str]:
    """What the patch adds to classes that there are."""
    before, after = (
        {(cls, name) for cls, node in side.classes.items() for name in bound_on(node)}
        for side in (old, new)
    )
    return {name for cls, name in after - before if cls in old.classes}


class _Uses:
    def __init__(self, side: Side, function: Function, depth: int, *, bare: bool) -> None:
        self.side = side
        self.function = function
        self.depth = depth
        self.bare = bare
        self.seen: set[str] = set()
        self.parents: dict[int, ast.AST] = {
            id(child): part for part in function.parts for child in children(part)
        }

    def of(self, nodes: Iterable[ast.expr]) -> Iterator[str]:
        for part in nodes:
            parent = self.parents.get(id(part))
            if isinstance(parent, ast.AugAssign) and parent.target is part:
                yield f"{type(parent.op).__name__} {_constant(parent.value)}"
            elif isinstance(getattr(part, "ctx", None), ast.Store):
                yield from self._stored(part)
            else:
                yield from self._as(part)

    def of_name(self, name: str) -> Iterator[str]:
        """How a variable is used."""
        if name in self.seen:
            return
        self.seen.add(name)
        for part in self.function.parts:
            if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Load):
                yield from self._as(part)

    def _as(self, node: ast.expr) -> Iterator[str]:
        if self.bare and self._tried(node):
            return
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
                inner = _Uses(self.side, each, self.depth - 1, bare=self.bare)
                yield from inner.of_name(names[index])
        yield f"{ANY}given to {name.rpartition('.')[2]}"

    def _tried(self, node: ast.AST) -> bool:
        """Whether a handler around it catches what another kind of value raises."""
        parent = self.parents.get(id(node))
        while parent is not None:
            if isinstance(parent, ast.Try) and node in parent.body:
                handled = [each.type for each in parent.handlers]
                names = {(dotted(e) or "") for h in handled if h for e in getattr(h, "elts", [h])}
                if None in handled or names & _MISMATCHES:
                    return True
            node, parent = parent, self.parents.get(id(parent))
        return False

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
    return set(given(side, function, value, depth))


def given(
    side: Side, function: Function, value: ast.expr, depth: int = _DEPTH
) -> dict[str, ast.expr]:
    """The same, with the expression that gives it in the end."""
    parts: list[ast.expr] = []
    match value:
        case ast.Name(id=name):
            bound = function.bound.get(name, [])
            if bound and depth and None not in bound:
                depth -= 1
                parts = [each for each in bound if each is not None and each is not value]
        case ast.IfExp(body=body, orelse=orelse):
            parts = [body, orelse]
        case ast.BoolOp(values=values):
            parts = values
        case ast.Call(func=func) if depth:
            found = side.by_path.get((function.outline.name, dotted(func) or ""), ())
            returned = {
                f"{ast.dump(value)} {text}": last
                for each in found
                for part in _returned(each.node)
                for text, last in given(side, each, part, depth - 1).items()
            }
            if returned:
                return returned
        case _:
            pass
    nested = [given(side, function, each, depth) for each in parts]
    return {k: v for each in nested for k, v in each.items()} or {ast.dump(value): value}


def _returned(node: FunctionNode) -> Iterator[ast.expr]:
    for part in parts(node):
        if isinstance(part, ast.Return) and part.value is not None:
            yield part.value
