"""What kind of value an expression gives, as far as its text tells, and whether another one gives
another kind.

A kind is a text: the name of a class, "number", or "tuple 2" for one of two items.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher.names import dotted

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

UNKNOWN: Final = ""
NUMBER: Final = "number"
_CLASSES: Final = frozenset(
    {"dict", "list", "set", "frozenset", "tuple", "str", "bytes", "bytearray", "deque", "Counter",
     "OrderedDict", "defaultdict"}
)  # fmt: skip
_ALIKE: Final = frozenset({"list", "set", "frozenset", "tuple", "deque"})
_SCALARS: Final = frozenset({NUMBER, "str", "bytes", "bytearray"})
_ONCE: Final = frozenset({"Lock", "allocate_lock", "Semaphore", "BoundedSemaphore"})
_AGAIN: Final = frozenset({"RLock", "Condition"})
_DISPLAYS: Final[dict[type[ast.expr], str]] = {
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.List: "list",
    ast.ListComp: "list",
    ast.Set: "set",
    ast.SetComp: "set",
    ast.JoinedStr: "str",
    ast.Lambda: "function",
}


def kind(node: ast.expr, classes: Container[str]) -> str:
    """The kind of what an expression gives; `classes` are names of classes of the patch."""
    match node:
        case ast.Constant(value=int() | float() | complex()):
            return NUMBER
        case ast.Constant(value=value):
            return type(value).__name__
        case ast.Tuple(elts=elts):
            fixed = not any(isinstance(each, ast.Starred) for each in elts)
            return f"tuple {len(elts)}" if fixed else "tuple"
        case ast.Call(func=func):
            name = (dotted(func) or "").rpartition(".")[2]
            return name if name in _CLASSES or name in classes else UNKNOWN
        case _:
            return _DISPLAYS.get(type(node), UNKNOWN)


def differs(old: ast.expr, new: ast.expr, classes: Container[str]) -> Literal["", "may", "does"]:
    """Whether one gives another kind of value than the other: it does when one is made around the
    other, or is a part of it; it may when only one kind is known, or both can be used alike.
    """
    before, after = kind(old, classes), kind(new, classes)
    if around(old, new, classes) or around(new, old, classes):
        return "does"
    if before or after:
        alike = {before.partition(" ")[0], after.partition(" ")[0]} <= _ALIKE
        if before == after:
            return ""
        return "may" if alike or not (before and after) else "does"
    texts = ast.dump(old), ast.dump(new)
    return "does" if texts[0] in _wholes(new) or texts[1] in _wholes(old) else ""


def clash(old: Iterable[ast.expr], new: Iterable[ast.expr]) -> frozenset[str]:
    """Kinds of plain values (text, bytes, numbers) in whose place plain values of others come."""
    before, after = ({kind(each, ()) for each in side} & _SCALARS for side in (old, new))
    return frozenset(before) if after and not before & after else frozenset()


def reentrant(old: Iterable[ast.expr], new: Iterable[ast.expr]) -> frozenset[str]:
    """Kinds of locks that a thread cannot take twice, in whose place one comes that it can."""
    before, after = ({_made(each) for each in side} for side in (old, new))
    return frozenset(before & _ONCE) if after & _AGAIN else frozenset()


def _made(node: ast.expr) -> str:
    name = dotted(node.func) if isinstance(node, ast.Call) else None
    return (name or "").rpartition(".")[2]


def around(outer: ast.expr, inner: ast.expr, classes: Container[str]) -> bool:
    """Whether an expression puts what the other one gives into a display, or an object of a class
    of the patch.
    """
    match outer:
        case ast.Tuple(elts=elts) | ast.List(elts=elts) | ast.Set(elts=elts):
            inside: list[ast.expr] = elts
        case ast.Dict(values=values):
            inside = values
        case ast.Call(args=args, keywords=words) if kind(outer, classes) not in _CLASSES:
            inside = [*args, *(word.value for word in words)] if kind(outer, classes) else []
        case _:
            inside = []
    return ast.dump(inner) in map(ast.dump, inside)


def _wholes(node: ast.expr) -> set[str]:
    """Texts of what an expression takes a part of."""
    return {ast.dump(each) for each in _taken_from(node)}


def _taken_from(node: ast.expr) -> Iterator[ast.expr]:
    while True:
        match node:
            case ast.Subscript(slice=ast.Slice()):
                return
            case ast.Subscript(value=value) | ast.Attribute(value=value):
                node = value
            case ast.Call(func=ast.Attribute(value=value, attr="get")):
                node = value
            case _:
                return
        yield node
