"""What a living function has besides its code, compared with what its definition says: defaults,
annotations, and what decorators of the standard library left.
"""

from __future__ import annotations

import abc
import ast
import functools
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes
from zdpatch.patcher.matching import shown
from zdpatch.patcher.names import FunctionNode, annotations_of, mangled
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.matching import Matching

_ABSTRACT: Final = "__isabstractmethod__"
# Decorators that give a function no mark.
_PLAIN: Final = frozenset(map(id, (property, staticmethod, classmethod, functools.cached_property)))


def live_function(matching: Matching, item: Item) -> FunctionType | None:
    """The function that a definition made, told by its code; None when several may be it."""
    living = matching.living
    code = living.base.code_of(item)
    if code is None:
        return None
    digest = codes.digest(code)
    twins = [each for each in living.base.flat[item.qualname] if codes.digest(each) == digest]
    found = [
        each.function
        for each in living.taken.functions.get(item.qualname, ())
        if codes.digest(each.code) == digest
    ]
    # a slot gives the function itself, not a method
    return found[0] if len(found) == len(twins) == 1 else None  # pyright: ignore[reportReturnType]


def of_function(
    matching: Matching, item: Item, function: FunctionType, *, doubt: bool
) -> Iterator[str]:
    """How a function differs from its definition, one clause each; of a source that is not in
    `doubt` defaults alone are asked.
    """
    node = cast("FunctionNode", item.node)
    yield from _defaults(matching, node, function, item.scope)
    if doubt:
        yield from _annotations(matching, node, function, item)
        yield from _decorators(matching, node, function, item.scope)
        yield from _registered(matching, node, function, item.scope)


def _defaults(
    matching: Matching, node: FunctionNode, function: FunctionType, scope: str
) -> Iterator[str]:
    args, held = node.args, function.__defaults__ or ()
    named = [each.arg for each in [*args.posonlyargs, *args.args]]
    if len(held) != len(args.defaults):
        yield f"has {len(held)} defaults here, and {len(args.defaults)} in the source"
        return
    pairs = [*zip(named[len(named) - len(held) :], args.defaults, held, strict=True)]
    words = function.__kwdefaults__ or {}
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        name = mangled(scope, arg.arg)
        if (default is None) is (name in words):
            has, has_not = ("a", "none") if default is None else ("no", "one")
            yield f"has {has} default of {name} here, and {has_not} in the source"
        elif default is not None:
            pairs.append((name, default, words[name]))
    for name, default, value in pairs:
        if matching.matches(default, value, scope) is False:
            text = ast.unparse(default)
            yield f"has the default {name}={shown(value)} here, and {text:.60} in the source"


def _annotations(
    matching: Matching, node: FunctionNode, function: FunctionType, item: Item
) -> Iterator[str]:
    written = {mangled(item.scope, name): each for name, each in annotations_of(node).items()}
    held = function.__annotations__
    for name in [*written, *(name for name in held if name not in written)]:
        if name not in written or name not in held:
            here = "an" if name in held else "no"
            yield f"has {here} annotation of {name} here"
        elif _annotated(matching, written[name], held[name], item) is False:
            here, text = shown(held[name]), ast.unparse(written[name])
            yield f"has the annotation {name}: {here} here, and {text:.60} in the source"


def _annotated(matching: Matching, node: ast.expr, held: object, item: Item) -> bool | None:
    if not matching.outline.lazy_annotations:
        return matching.matches(node, held, item.scope)
    if type(held) is not str:
        return None  # somebody has resolved it
    try:
        return ast.dump(ast.parse(held, mode="eval").body) == ast.dump(node)
    except SyntaxError:
        return None


def _decorators(
    matching: Matching, node: FunctionNode, function: FunctionType, scope: str
) -> Iterator[str]:
    """What the decorator next to the definition leaves on the function itself; others get more than
    that.
    """
    if not node.decorator_list:
        if vars(function).get(_ABSTRACT) is True:
            yield "is abstract here, and not in the source"
        return
    each = node.decorator_list[-1]
    maker = matching.living.named(each.func if isinstance(each, ast.Call) else each, scope)
    if maker is abc.abstractmethod and vars(function).get(_ABSTRACT) is not True:
        yield "is not abstract here, and in the source"
    if id(maker) in _PLAIN and vars(function).get(_ABSTRACT) is True:
        yield "is abstract here, and not in the source"
    if maker is functools.wraps and isinstance(each, ast.Call) and each.args:
        wrapped = vars(function).get("__wrapped__", MISSING)
        if wrapped is MISSING or matching.matches(each.args[0], wrapped, scope) is False:
            here = "nothing" if wrapped is MISSING else shown(wrapped)
            yield f"wraps {here} here, and {ast.unparse(each.args[0]):.60} in the source"


def _registered(
    matching: Matching, node: FunctionNode, function: FunctionType, scope: str
) -> Iterator[str]:
    """How what `@f.register` did of a definition differs, if `f` is a generic function."""
    alone = all(_is_register(each) for each in node.decorator_list)  # none has wrapped it
    for each in node.decorator_list:
        kind = _kind(each, node) if _is_register(each) else None
        if kind is None:
            continue
        maker = cast("ast.Attribute", each.func if isinstance(each, ast.Call) else each)
        kinds = _registry(matching.living.named(maker.value, scope))
        wanted = matching.living.named(kind, scope)
        if kinds is None or wanted is MISSING:
            continue
        if not any(k is wanted and (f is function or not alone) for k, f in kinds.items()):
            yield f"is not registered for {ast.unparse(kind)} here"


def _is_register(decorator: ast.expr) -> bool:
    maker = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(maker, ast.Attribute) and maker.attr == "register"


def _registry(dispatcher: object) -> Mapping[object, object] | None:
    """Functions by class of a function that `singledispatch` made."""
    if type(dispatcher) is not FunctionType or dispatcher.__globals__ is not functools.__dict__:
        return None
    found: object = vars(dispatcher).get("registry")
    return cast("Mapping[object, object]", found) if type(found) is MappingProxyType else None


def _kind(decorator: ast.expr, node: FunctionNode) -> ast.expr | None:
    """The class that a registration is for: an argument, or the annotation of the first one."""
    if isinstance(decorator, ast.Call):
        return decorator.args[0] if len(decorator.args) == 1 else None
    args = [*node.args.posonlyargs, *node.args.args]
    return args[0].annotation if args else None
