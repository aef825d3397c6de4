"""A trampoline has the signature, the kind, the names and the closure of the code it stands for; it
decides at each call which version of the function runs.

It is made from a syntax tree, so one way of making it serves every Python. What it needs are
constants of its code: nothing is added to anybody's namespace, and what it decides by is gone with
it. A trampoline for a generator or a coroutine is plain code that carries the flag of its kind:
CPython makes generators by an instruction (`RETURN_GENERATOR`), not by the flag, so a call
decides, and gives the very generator of the version. `inspect` and `asyncio` look at the flag.
"""

from __future__ import annotations

import ast
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from zdpatch.patcher.edits import KIND_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

ROUTED: Final = "<zdpatch-routed importlib._bootstrap "
"""How file names of trampolines begin. `warnings` and `logging` pass by frames of files which have
these two words in their name, so that a `stacklevel` counts as it did."""

DECIDED: Final = ".version"
"""The local variable of a trampoline that says which version this call runs (0 old, 1 new)."""

_CO_ITERABLE_COROUTINE: Final = 0x100
_MARK: Final = "\0zdpatch:"
_SOURCE: Final = """
def outer():
    def f():
        try:
            V = SCOPE(OUTSIDE)[GROUP]
        except LookupError:
            V = PIN()
        if V == ASK:
            V = WALK()
        return VERSIONS[V]()
"""
ASK: Final = 2  # in the place of a pin: not decided by a scope


class Consts(NamedTuple):
    """What a trampoline decides by, in the words of its body.

    `scope`: gives the current scope, or its argument. `outside`: stands for a scope where there is
    none, and says `ASK`. `pin`: decides for a scope. `walk`: decides outside.
    """

    scope: object
    outside: object
    group: int
    pin: Callable[[], int]
    walk: Callable[[], int]
    versions: tuple[FunctionType, FunctionType]


class Parameters(NamedTuple):
    """The parameters of a code object, by how they are given."""

    positional: tuple[str, ...]
    plain: tuple[str, ...]
    rest: str | None
    named: tuple[str, ...]
    others: str | None

    @classmethod
    def of(cls, code: CodeType) -> Parameters:
        """Those that `code` takes."""
        names, at = code.co_varnames, code.co_argcount
        split, end = code.co_posonlyargcount, at + code.co_kwonlyargcount
        tail = list(names[end:])
        rest = tail.pop(0) if code.co_flags & CO_VARARGS else None
        others = tail.pop(0) if code.co_flags & CO_VARKEYWORDS else None
        return cls(names[:split], names[split:at], rest, names[at:end], others)


# Names with a dot in front are no identifiers, so no parameter of anybody has them.
ANY: Final = Parameters((), (), ".args", (), ".kwargs")


def trampoline(code: CodeType, consts: Consts, parameters: Parameters) -> CodeType:
    """The trampoline for a live function which runs `code` now.

    `parameters` are those of `code`, or `ANY` when the versions differ in theirs: each then binds
    its arguments itself.
    """
    made = _compiled(code, parameters)
    marked = {f"{_MARK}{name.upper()}": value for name, value in consts._asdict().items()}
    marked[f"{_MARK}ASK"] = ASK
    filled = (marked.get(each, each) if type(each) is str else each for each in made.co_consts)
    kept = code.co_flags & (KIND_FLAGS | _CO_ITERABLE_COROUTINE)
    return made.replace(
        co_consts=tuple(filled),
        co_flags=made.co_flags | kept,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
    )


def file_of(code: CodeType) -> str:
    """The file name of the trampoline for `code`."""
    return f"{ROUTED}{code.co_filename}>"


def behind(code: CodeType) -> CodeType:
    """The old code, when `code` is a trampoline; itself otherwise."""
    versions = versions_of(code)
    return code if versions is None else versions[0].__code__


def versions_of(code: CodeType) -> tuple[FunctionType, FunctionType] | None:
    """The old and the new version that a trampoline calls; None for other code."""
    if not code.co_filename.startswith(ROUTED):
        return None
    consts = cast("tuple[object, ...]", code.co_consts)
    pairs = (cast("tuple[object, ...]", each) for each in consts if type(each) is tuple)
    found = next(pair for pair in pairs if len(pair) == 2)
    return cast("tuple[FunctionType, FunctionType]", found)


def _compiled(code: CodeType, parameters: Parameters) -> CodeType:
    """The trampoline with marks for what it decides by."""
    tree = ast.parse(_SOURCE)
    outer = cast("ast.FunctionDef", tree.body[0])
    inner = cast("ast.FunctionDef", outer.body[0])
    filled = _Filled(parameters)
    inner.args, inner.body = _arguments(parameters), list(map(filled.statement, inner.body))
    free = code.co_freevars
    if free:  # naming them in dead code gives the trampoline the closure, at no cost
        outer.args = _arguments(Parameters((), free, None, (), None))
        loads = [cast("ast.stmt", ast.Expr(ast.Name(name, ast.Load()))) for name in free]
        inner.body.insert(0, ast.If(ast.Constant(value=0), loads, []))
    for node in ast.walk(tree):  # where its source shows the definition
        if "lineno" in node._attributes:
            vars(node).update(lineno=code.co_firstlineno, end_lineno=code.co_firstlineno)
            vars(node).update(col_offset=0, end_col_offset=0)
    module = compile(tree, file_of(code), "exec", dont_inherit=True, optimize=0)
    made = _only_code(_only_code(module))
    assert made.co_freevars == free
    return made


def _only_code(code: CodeType) -> CodeType:
    return next(each for each in code.co_consts if type(each) is CodeType)


def _arguments(parameters: Parameters) -> ast.arguments:
    def one(name: str | None) -> ast.arg | None:
        return None if name is None else ast.arg(name)

    return ast.arguments(
        [ast.arg(name) for name in parameters.positional],
        [ast.arg(name) for name in parameters.plain],
        one(parameters.rest),
        [ast.arg(name) for name in parameters.named],
        [None for _ in parameters.named],
        one(parameters.others),
        [],
    )


class _Filled(ast.NodeTransformer):
    """The body of a trampoline: marks for its constants, the arguments handed on."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def statement(self, node: ast.stmt) -> ast.stmt:
        """`node`, filled."""
        return cast("ast.stmt", self.visit(node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        hands_on = isinstance(node.func, ast.Subscript)
        self.generic_visit(node)
        if hands_on:  # after that: parameters may have the names of words
            self._hand_on(node)
        return node

    def _hand_on(self, node: ast.Call) -> None:
        given, load = self.parameters, ast.Load()
        node.args = [ast.Name(name, load) for name in (*given.positional, *given.plain)]
        if given.rest is not None:
            node.args.append(ast.Starred(ast.Name(given.rest, load), load))
        node.keywords = [ast.keyword(name, ast.Name(name, load)) for name in given.named]
        if given.others is not None:
            node.keywords.append(ast.keyword(None, ast.Name(given.others, load)))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "V":
            return ast.Name(DECIDED, node.ctx)
        if node.id in _WORDS:
            # `x if 1 else 0` is folded to x, and no constant is called in the text
            mark = ast.Constant(f"{_MARK}{node.id}")
            return ast.IfExp(ast.Constant(value=1), mark, ast.Constant(value=0))
        return node


_WORDS: Final = frozenset({"ASK", *(name.upper() for name in Consts._fields)})
