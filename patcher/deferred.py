"""What of a function runs when it is called: the bodies of functions that it only makes, and gives
back, do not.

An inner function counts as run when its maker calls it, or hands it to something that may: anything
but `return`, and the few calls that keep what they are given.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeGuard

from zdpatch.patcher.names import FunctionNode, annotations_of, dotted
from zdpatch.patcher.parts import children, parts
from zdpatch.patcher.purity import KEEPING_BUILTINS, origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Calls that keep a function, and run nothing of it.
_KEEPERS: Final = frozenset(
    {"functools.wraps", "functools.update_wrapper", "functools.partial", "functools.lru_cache",
     "functools.cache", "typing.cast", "contextlib.contextmanager",
     "contextlib.asynccontextmanager", *KEEPING_BUILTINS}
)  # fmt: skip
# What a call of these gives keeps a function, too; what the others give may be called with it.
_KEEPER_MAKERS: Final = frozenset({"functools.wraps"})
_CACHE_MAKERS: Final = frozenset({"functools.lru_cache"})  # unless they are given a function
_LOOKERS: Final = frozenset({"locals", "vars", "eval", "exec", "globals", "dir"})
_Keeps = Callable[[ast.expr], bool]  # whether a call of an expression keeps what it is given
Inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def walk_run(
    node: FunctionNode | ast.Lambda, imports: Mapping[str, str], *, made: bool = False
) -> list[ast.AST]:
    """Every part of the body that may run when the function is called; with `made`, also what runs
    when the function that it gives back is called. `imports` as in `purity`, and built-in
    functions that the module does not bind itself (`Outline.keepers`).
    """
    body = _body(node)
    inside = parts(*body)
    kept = kept_inner(node, imports) if any(isinstance(part, Inner) for part in inside) else None
    if not kept:
        return inside
    found: list[ast.AST] = []
    pending = body
    while pending:
        part = pending.pop()
        found.append(part)
        if isinstance(part, Inner) and part in kept:
            pending += _evaluated(part)
            if made:
                found += walk_run(part, _outside(node, imports))
        else:
            pending += children(part)
    return found


def given_back(node: FunctionNode | ast.Lambda) -> set[Inner]:
    """The inner functions that are, or are part of, what the function gives back."""
    body = _body(node)
    values: list[ast.AST] = [*body] if isinstance(node, ast.Lambda) else []
    values += [part.value for part in _own(body) if isinstance(part, ast.Return) and part.value]
    inside = {part for value in values for part in parts(value)}
    names = {part.id for part in inside if isinstance(part, ast.Name)}
    return {
        part
        for part in _direct(body)
        if (part in inside if isinstance(part, ast.Lambda) else part.name in names)
    }


def called_inner(node: FunctionNode | ast.Lambda) -> set[Inner]:
    """The inner functions that the function surely calls itself, by their names."""
    body = _body(node)
    callees = [part.func for part in _own(body) if isinstance(part, ast.Call)]
    names = {callee.id for callee in callees if isinstance(callee, ast.Name)}
    return {
        part
        for part in _direct(body)
        if (part in callees if isinstance(part, ast.Lambda) else part.name in names)
    }


def _body(node: FunctionNode | ast.Lambda) -> list[ast.AST]:
    return [node.body] if isinstance(node, ast.Lambda) else [*node.body]


def _evaluated(node: Inner) -> list[ast.AST]:
    """What is evaluated when a function is made."""
    found: list[ast.AST] = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    if not isinstance(node, ast.Lambda):
        found += [*node.decorator_list, *annotations_of(node).values()]
    return found


def _outside(node: FunctionNode | ast.Lambda, imports: Mapping[str, str]) -> dict[str, str]:
    """The imports of the module, without names that are something else in the function."""
    own: set[str] = set()
    for part in parts(node):
        match part:
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                own.add(name)
            case ast.alias(name=name, asname=asname):
                own.add(asname or name.partition(".")[0])
            case _:
                pass
    return {name: full for name, full in imports.items() if name not in own}


def _keeper(node: FunctionNode | ast.Lambda, imports: Mapping[str, str]) -> _Keeps:
    """Tells calls of keepers, by what their names stand for in the function."""
    known = _outside(node, imports)

    def keeps(callee: ast.expr) -> bool:
        keepers, name = _KEEPERS, dotted(callee) or ""
        if isinstance(callee, ast.Call):
            given = [*callee.args, *(word.value for word in callee.keywords)]
            plain = all(isinstance(each, ast.Constant) for each in given)
            keepers = _KEEPER_MAKERS | _CACHE_MAKERS if plain else _KEEPER_MAKERS
            name = dotted(callee.func) or ""
        return name.partition(".")[0] in known and origin(name, known) in keepers

    return keeps


def kept_inner(node: FunctionNode | ast.Lambda, imports: Mapping[str, str]) -> set[Inner]:
    """The inner functions that a call of the function makes and does not run."""
    body = _body(node)
    direct = [*_direct(body)]
    if not direct:
        return set()
    keeps = _keeper(node, imports)
    inside = parts(*body)
    if any(isinstance(p, ast.Call) and dotted(p.func) in _LOOKERS for p in inside):
        return set()
    shared = _shared(body)
    quiet = {id(part) for part in _quiet(body, keeps)}
    named: dict[Inner, str] = {p: p.name for p in direct if not isinstance(p, ast.Lambda)}
    kept: set[Inner] = {
        part
        for part in direct
        if (id(part) in quiet if isinstance(part, ast.Lambda) else _kept_by_all(part, keeps))
        and named.get(part, "") not in shared
    }
    while run := {part for part in kept if named.get(part, "") in _used(body, kept, quiet)}:
        kept -= run
    return kept


def unread_inner(node: FunctionNode | ast.Lambda, imports: Mapping[str, str]) -> Iterator[Inner]:
    """The functions inside of it, at any depth, that who makes them hands to no other code: they
    may be called, given back or stored.
    """
    body = _body(node)
    if any(isinstance(p, ast.Call) and dotted(p.func) in _LOOKERS for p in parts(*body)):
        return
    keeps = _keeper(node, imports)
    quiet = {id(part) for part in _quiet(body, keeps)}
    for part in _own(body):
        if isinstance(part, ast.Call):
            quiet.add(id(part.func))
        elif isinstance(part, ast.Assign) and not any(
            isinstance(t, ast.Name) for t in part.targets
        ):
            quiet.add(id(part.value))
    handed = {p.id for p in parts(*body) if _reads(p) and id(p) not in quiet}
    for inner in _direct(body):
        if not isinstance(inner, ast.Lambda) and inner.name not in handed | _shared(body):
            yield from (inner,) if _kept_by_all(inner, keeps) else ()
        yield from unread_inner(inner, _outside(node, imports))


def _reads(part: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)


def _own(body: list[ast.AST]) -> Iterator[ast.AST]:
    """What the body itself does and makes, not what functions or classes inside of it do."""
    pending = list(body)
    while pending:
        part = pending.pop()
        yield part
        if not isinstance(part, Inner | ast.ClassDef):
            pending += children(part)


def _shared(body: list[ast.AST]) -> set[str]:
    """Names that functions share with what is around them."""
    every = (part for part in parts(*body) if isinstance(part, ast.Global | ast.Nonlocal))
    return {name for part in every for name in part.names}


def _direct(body: list[ast.AST]) -> Iterator[Inner]:
    """Functions made by the body itself."""
    return (part for part in _own(body) if isinstance(part, Inner))


def _kept_by_all(node: FunctionNode, keeps: _Keeps) -> bool:
    return all(keeps(each) for each in node.decorator_list)


def _used(body: list[ast.AST], kept: set[Inner], quiet: set[int]) -> set[str]:
    """Names that the running part of a body uses in a way that may call what they stand for."""
    found: set[str] = set()
    pending = list(body)
    while pending:
        part = pending.pop()
        if isinstance(part, Inner) and part in kept:
            pending += _evaluated(part)
            continue
        if isinstance(part, ast.Name) and id(part) not in quiet:
            found.add(part.id)  # also bound again: then it is not known what it stands for
        pending += children(part)
    return found


def _quiet(body: list[ast.AST], keeps: _Keeps) -> Iterator[ast.expr]:
    """Expressions of the body itself that are only given back, kept, or have an attribute set."""
    pending = list(body)
    while pending:
        part = pending.pop()
        match part:
            case ast.Return(value=ast.expr() as value):
                yield from _given_back(value, keeps)
            case ast.Expr(value=ast.Call() as call) if keeps(call.func):
                yield from _given_back(call, keeps)
            case ast.Attribute(value=ast.Name() as owner, ctx=ast.Store()):
                yield owner
            case _:
                pass
        if not isinstance(part, Inner | ast.ClassDef):
            pending += children(part)


def _given_back(value: ast.expr, keeps: _Keeps) -> Iterator[ast.expr]:
    yield value
    parts: list[ast.expr] = []
    if isinstance(value, ast.Call) and keeps(value.func):
        parts = [*value.args, *(word.value for word in value.keywords)]
    elif isinstance(value, ast.Tuple | ast.List):
        parts = value.elts
    for part in parts:
        yield from _given_back(part, keeps)
