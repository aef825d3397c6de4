"""Operators, protocols and attributes are calls: which methods running some code may call, by name.

Read from the text alone: `x + y` may call `__add__` and `__radd__`, `for` calls `__iter__`, `x.go`
finds `go`. On which objects they are called is for others to say (`tracing`).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.deferred import walk_run
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.parts import children, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TEXT: Final = ("__format__", "__str__", "__repr__")
_TRUTH: Final = ("__bool__", "__len__")
_ITERATION: Final = ("__iter__", "__next__", "__getitem__", "__len__")
_ORDER: Final = ("__lt__", "__gt__", "__le__", "__ge__")
_BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv",
    ast.Mod: "mod", ast.Pow: "pow", ast.LShift: "lshift", ast.RShift: "rshift", ast.BitOr: "or",
    ast.BitAnd: "and", ast.BitXor: "xor", ast.MatMult: "matmul",
}  # fmt: skip
_COMPARED: Final[dict[type[ast.cmpop], tuple[str, ...]]] = {
    ast.Eq: ("__eq__",), ast.NotEq: ("__ne__", "__eq__"), ast.Lt: ("__lt__", "__gt__"),
    ast.Gt: ("__gt__", "__lt__"), ast.LtE: ("__le__", "__ge__"), ast.GtE: ("__ge__", "__le__"),
    ast.In: ("__contains__", "__eq__", "__hash__", *_ITERATION),
    ast.NotIn: ("__contains__", "__eq__", "__hash__", *_ITERATION),
}  # fmt: skip
_ITEM: Final[dict[type[ast.expr_context], str]] = {ast.Load: "get", ast.Store: "set"}
_UNARY: Final[dict[type[ast.unaryop], tuple[str, ...]]] = {
    ast.USub: ("__neg__",), ast.UAdd: ("__pos__",), ast.Invert: ("__invert__",), ast.Not: _TRUTH,
}  # fmt: skip
# What a call of a built-in may call on the objects it gets.
CALLED_BY: Final[dict[str, tuple[str, ...]]] = {
    "len": ("__len__",), "str": _TEXT, "repr": ("__repr__",), "format": _TEXT, "print": _TEXT,
    "ascii": ("__repr__",), "bool": _TRUTH, "int": ("__int__", "__index__", "__trunc__"),
    "float": ("__float__", "__index__"), "complex": ("__complex__", "__float__", "__index__"),
    "bytes": ("__bytes__", *_ITERATION), "hash": ("__hash__",), "abs": ("__abs__",),
    "round": ("__round__",), "divmod": ("__divmod__", "__rdivmod__"), "dir": ("__dir__",),
    "next": ("__next__",), "hex": ("__index__",), "oct": ("__index__",), "bin": ("__index__",),
    "sum": (*_ITERATION, "__add__", "__radd__"), "sorted": (*_ITERATION, *_ORDER),
    "min": (*_ITERATION, *_ORDER), "max": (*_ITERATION, *_ORDER), "any": (*_ITERATION, *_TRUTH),
    "all": (*_ITERATION, *_TRUTH), "reversed": ("__reversed__", *_ITERATION),
    "isinstance": ("__instancecheck__",), "issubclass": ("__subclasscheck__",),
    "set": (*_ITERATION, "__hash__", "__eq__"), "frozenset": (*_ITERATION, "__hash__", "__eq__"),
    "dict": (*_ITERATION, "keys"), "pow": ("__pow__", "__rpow__"),
    **dict.fromkeys(("iter", "list", "tuple", "enumerate", "zip", "map", "filter"), _ITERATION),
    **dict.fromkeys(
        ("id", "type", "callable", "property", "staticmethod", "classmethod", "super", "object",
         "globals", "locals", "vars", "hasattr", "getattr", "setattr", "range", "slice"), ()
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """What some code does when it runs: dotted names it reads and calls, names it hands to calls
    by callee, names of methods it may call, and of attributes it loads.
    """

    reads: set[str] = field(default_factory=set[str])
    calls: set[str] = field(default_factory=set[str])
    given: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    methods: set[str] = field(default_factory=set[str])
    loads: set[str] = field(default_factory=set[str])


def ran_by_statement(node: ast.stmt) -> Ran:
    """What a statement does when the module or class body it stands in is executed."""
    found = Ran()
    for part in _at_once(node):
        _note(part, found)
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        found.calls.update(name for each in node.decorator_list if (name := dotted(each)))
    return found


def ran_by_body(node: FunctionNode, imports: Mapping[str, str] | None) -> Ran:
    """What a call of a function may do, with what the functions inside it may: all of these, or
    those that it runs, which takes the `imports` of the module.
    """
    own = {part.arg for part in parts(node.args) if isinstance(part, ast.arg)}
    every = parts(*node.body)
    found = Ran()
    for part in every if imports is None else walk_run(node, imports):
        _note(part, found)
    for part in every:
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            own.add(part.id)
    for names in (found.reads, found.calls):
        names -= {name for name in names if name.partition(".")[0] in own}
    return found


_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts that are evaluated when the statement runs; a lambda that is called, or handed to a
    call, may be.
    """
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop()
        yield part
        match part:
            case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
                pending += [*part.decorator_list, *_defaults(args)]
            case ast.ClassDef():
                pending += [*part.decorator_list, *part.bases, *part.keywords]
            case ast.Lambda(args=args):
                pending += _defaults(args)
            case ast.Call():
                values = [part.func, *part.args, *(word.value for word in part.keywords)]
                pending += values
                pending += [each.body for each in values if isinstance(each, ast.Lambda)]
            case ast.AnnAssign(value=value):
                pending += [part.target] if value is None else [part.target, value]
            case _:
                pending += children(part)


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]


def _note(part: ast.AST, found: Ran) -> None:
    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
        found.reads.add(part.id)
    elif isinstance(part, ast.Attribute):
        found.methods.update(_attribute(part))
        found.loads.add(part.attr)
        if (name := dotted(part)) is not None and isinstance(part.ctx, ast.Load):
            found.reads.add(name)
    elif isinstance(part, ast.Call):
        _call(part, found)
    else:
        found.methods.update(_operated(part))


def _attribute(part: ast.Attribute) -> tuple[str, ...]:
    match part.ctx:
        case ast.Load():
            return "__getattr__", "__getattribute__", "__get__"
        case ast.Store():
            return part.attr, "__setattr__", "__set__"
        case _:
            return part.attr, "__delattr__", "__delete__"


def _call(part: ast.Call, found: Ran) -> None:
    name = dotted(part.func)
    found.methods.add("__call__")
    if name is not None:
        found.calls.add(name)
        found.methods.update(CALLED_BY.get(name, ()))
    if isinstance(part.func, ast.Attribute):
        found.methods.add(part.func.attr)
        found.methods.update(_TEXT if part.func.attr in {"format", "join"} else ())
    if name == "getattr" and len(part.args) > 1 and isinstance(part.args[1], ast.Constant):
        found.methods.add(str(part.args[1].value))
        found.loads.add(str(part.args[1].value))
    given = found.given.setdefault(name or "", set())
    for argument in [*part.args, *(word.value for word in part.keywords)]:
        called = argument.func if isinstance(argument, ast.Call) else argument
        if (each := dotted(called)) is not None:
            given.add(each)


def _operated(part: ast.AST) -> tuple[str, ...]:  # noqa: PLR0911, PLR0912 - one clause a kind of syntax
    match part:
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            stem = _BINARY[type(op)]
            text = _TEXT if isinstance(op, ast.Mod) else ()
            return f"__{stem}__", f"__r{stem}__", f"__i{stem}__", *text
        case ast.Compare(ops=ops):
            return tuple(name for op in ops for name in _COMPARED.get(type(op), ()))
        case ast.UnaryOp(op=op):
            return _UNARY[type(op)]
        case ast.BoolOp() | ast.If() | ast.While() | ast.IfExp() | ast.Assert():
            return _TRUTH
        case ast.comprehension() | ast.For() | ast.Starred() | ast.YieldFrom():
            return *_ITERATION, *_TRUTH
        case ast.Tuple(ctx=ast.Store()) | ast.List(ctx=ast.Store()):
            return _ITERATION
        case ast.AsyncFor() | ast.Await():
            return "__aiter__", "__anext__", "__await__"
        case ast.Subscript(ctx=ctx):
            verb = _ITEM.get(type(ctx), "del")
            return f"__{verb}item__", "__class_getitem__", "__missing__"
        case ast.With():
            return "__enter__", "__exit__"
        case ast.AsyncWith():
            return "__aenter__", "__aexit__"
        case ast.FormattedValue():
            return _TEXT
        case ast.Match():
            return "__eq__", "__match_args__", *_ITERATION
        case _:
            return ()
