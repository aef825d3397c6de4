"""A refused edit, applied all the same: what a scenario's `[breaks]` says must then be so.

`apply_anyway` is an engine that refuses nothing, as reloaders do it: the new source runs aside, and
what its changed statements made goes into what lives, by name.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEPT = frozenset({"__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__"})
PARTS = ("__defaults__", "__kwdefaults__", "__annotations__", "__doc__")
WRAPPED: dict[type, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    classmethod: ("__func__",),
    staticmethod: ("__func__",),
}


def expressions(text: str) -> list[ast.Expr]:
    """What `[breaks]` says, one by one; its other statements only prepare."""
    return [node for node in ast.parse(text).body if isinstance(node, ast.Expr)]


def truths(text: str, scope: dict[str, Any]) -> list[bool]:
    """Which expressions of `text` are so here, tried in a fork; an exception is no truth."""
    return _forked(lambda: [*_truths(text, scope)])


def _forked(ask: Callable[[], list[bool]]) -> list[bool]:
    """What `ask` gives in a fork; nothing when it raises."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            found = ask()
        except BaseException:  # noqa: BLE001  # whatever it is, it is no answer
            found = []
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        answer: list[bool] = json.loads(told.read() or "[]")
    os.waitpid(child, 0)
    return answer


def _truths(text: str, scope: dict[str, Any]) -> Iterator[bool]:
    for node in ast.parse(text).body:
        try:
            if isinstance(node, ast.Expr):
                yield bool(eval(compile(ast.Expression(node.value), "<breaks>", "eval"), scope))
            else:
                exec(compile(ast.Module([node], []), "<breaks>", "exec"), scope)
        except Exception:  # noqa: BLE001  # whatever it is, it is not so
            if isinstance(node, ast.Expr):
                yield False


def fresh_truths(begin: Callable[[], dict[str, Any]], text: str) -> list[bool]:
    """The same in a process that begins with the new source; empty when it cannot begin."""
    return _forked(lambda: truths(text, begin()))


def apply_anyway(base: Mapping[str, str], new: Mapping[str, str]) -> dict[str, types.ModuleType]:
    """Put all of `new`, by module name, into the live modules; returns what was run aside."""
    aside = {name: types.ModuleType(name) for name in new}
    for name, source in new.items():
        live = sys.modules[name] if name in sys.modules else aside[name]
        made = vars(aside[name])
        made["__file__"] = getattr(live, "__file__", name)
        exec(compile(source, f"<new {name}>", "exec"), made)
        _transplant(vars(live), made, base.get(name, ""), source)
    return aside


def _transplant(live: dict[str, Any], made: dict[str, Any], base: str, new: str) -> None:
    was = {ast.dump(node) for node in ast.parse(base).body}
    changed = [node for node in ast.parse(new).body if ast.dump(node) not in was]
    for name in _bound(changed) & made.keys():
        live[name] = into(live.get(name), made[name], live)
    for name in (_bound(ast.parse(base).body) - _bound(ast.parse(new).body)) & live.keys():
        del live[name]


def _bound(nodes: list[ast.stmt]) -> set[str]:
    """The names that statements bind in their module, inside of branches too."""
    found: set[str] = set()
    below: list[ast.AST] = [*nodes]
    while below:
        node = below.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {each.asname or each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Store) else set()
        else:
            below += ast.iter_child_nodes(node)
    return found


def into(old: Any, new: Any, space: dict[str, Any]) -> Any:  # noqa: ANN401
    """`old` with everything of `new` in it where that can be written, else `new`."""
    if isinstance(new, types.FunctionType):
        return _function(old, new, space)
    if isinstance(old, type) and isinstance(new, type):
        _class(old, new, space)
        return old
    parts = next((WRAPPED[kind] for kind in WRAPPED if isinstance(new, kind)), ())
    if parts and isinstance(old, type(new)):
        for part in parts:
            into(getattr(old, part), getattr(new, part), space)
        return old
    return new


def _function(old: Any, new: types.FunctionType, space: dict[str, Any]) -> Any:  # noqa: ANN401
    try:
        old.__code__ = new.__code__
        for part in PARTS:
            setattr(old, part, getattr(new, part))
    except (AttributeError, ValueError):
        made = types.FunctionType(new.__code__, space, new.__name__, closure=new.__closure__)
        made.__dict__.update(new.__dict__)
        for part in PARTS:
            setattr(made, part, getattr(new, part))
        return made
    return old


def _class(old: type, new: type, space: dict[str, Any]) -> None:
    for name in [name for name in {**vars(new), **vars(old)} if name not in KEPT]:
        try:
            if name in vars(new):
                setattr(old, name, into(vars(old).get(name), vars(new)[name], space))
            else:
                delattr(old, name)
        except (AttributeError, TypeError):
            continue  # a slot, or what a metaclass does not allow
