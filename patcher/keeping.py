"""A decorator of the tree keeps what it decorates to itself when its text says so: it stores it in
the object that it makes, or gives back a function that calls it.
"""

from __future__ import annotations

import ast
import functools
import typing
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.deferred import walk_run
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

_BASES: Final[tuple[object, ...]] = (
    object, property, classmethod, staticmethod, functools.cached_property, typing.Generic,
)  # fmt: skip
# Calls that have no effect on anything but what is being made.
_CALLS: Final = frozenset(
    {"functools.wraps", "functools.partial", "functools.lru_cache",
     "functools.cache", "typing.cast", "callable", "property", "classmethod", "staticmethod",
     "super", "inspect.iscoroutinefunction",
     "asyncio.iscoroutinefunction", "inspect.isgeneratorfunction", "TypeError", "ValueError"}
)  # fmt: skip
# What would run in between, or instead.
_HOOKS: Final = frozenset(
    {"__new__", "__setattr__", "__getattribute__", "__getattr__", "__delattr__", "__del__"}
)
_RUN: Final = frozenset({"__init__", "__set_name__"})
_FORBIDDEN: Final = (
    ast.Global, ast.Nonlocal, ast.Delete, ast.AugAssign, ast.Await, ast.Yield, ast.YieldFrom,
    ast.BinOp, ast.With, ast.For, ast.While, ast.Try, ast.Import, ast.ImportFrom, ast.ClassDef,
    ast.NamedExpr, ast.Subscript, ast.comprehension, ast.Match,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keeping:
    """Judges decorators by the texts of their modules: `text` of the new source, `base` of what
    runs; each gives None for a module of which it is not known.
    """

    text: Callable[[str], Outline | None]
    base: Callable[[str], Outline | None]

    def keeps(self, value: object) -> bool:
        """Whether decorating with `value`, a function or class, has no effect elsewhere."""
        if reach.is_a(value, type):
            cls = cast("type", value)
            own = [each for each in mro(cls) if not any(each is base for base in _BASES)]
            return type(cls) is type and all(map(self._class, own))
        if type(value) is not FunctionType:
            return False
        found = self._item(str(value.__globals__.get("__name__")), value.__code__.co_qualname)
        return found is not None and self._function(*found)

    def _item(self, module: str, qualname: str) -> tuple[Outline, Item] | None:
        """The one definition of a path, if the patch leaves it as it is, or adds it."""
        outline, before = self.text(module), self.base(module)
        scope, _, name = qualname.rpartition(".")
        items = [] if outline is None else outline.binders(scope, name)
        if outline is None or len(items) != 1 or items[0].kind not in {"function", "class"}:
            return None
        old = [] if before is None else before.binders(scope, name)
        return (outline, items[0]) if all(e.shape == items[0].shape for e in old) else None

    def _function(self, outline: Outline, item: Item) -> bool:
        node = item.node
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            return False
        return _harmless(node, outline)

    def _class(self, cls: type) -> bool:
        found = self._item(str(reach.class_dict(cls).get("__module__")), reach.qualname(cls))
        if found is None or not isinstance(found[1].node, ast.ClassDef):
            return False
        (outline, item), node = found, found[1].node
        if node.decorator_list or node.keywords or _HOOKS & reach.class_dict(cls).keys():
            return False
        if any(child.kind == "effect" and _RUN & set(child.names) for child in item.children):
            return False
        for child in item.children:
            if child.name in _RUN:
                method = child.node
                if not isinstance(method, ast.FunctionDef) or method.decorator_list:
                    return False
                if not _harmless(method, outline) or _stored(method) & _descriptors(cls):
                    return False
        return True


def _harmless(  # noqa: PLR0911, PLR0912 - one clause a kind of part
    node: ast.FunctionDef, outline: Outline
) -> bool:
    """Whether a call of a function touches nothing but its arguments and what it makes."""
    inner = {part.name for part in node.body if isinstance(part, FunctionNode)}
    first = [each.arg for each in [*node.args.posonlyargs, *node.args.args]][:1]
    mine = {*inner, *first}
    own = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)} | inner
    bound, failing = _bound(node), _messages(node)
    for part in walk_run(node, outline.keepers):
        match part:
            case ast.BinOp() if part in failing:
                pass
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[ast.Name(id=asked), *_]):
                if asked not in _given(node) - bound:
                    return False
            case ast.Call(func=func):
                callee = dotted(func) or _super_method(func)
                name = callee.partition(".")[0]
                shadowed = name in own | bound or outline.binders("", name)
                known = origin(callee, outline.imports) in _CALLS
                imported = name in outline.imports and len(outline.binders("", name)) == 1
                if callee != "super().__init__" and not (known and (imported or not shadowed)):
                    return False
            case ast.Attribute(value=owner, ctx=ast.Store()):
                if not isinstance(owner, ast.Name) or owner.id not in mine - bound:
                    return False
            case ast.Attribute(ctx=ast.Load()):
                root = (dotted(part) or _super_method(part)).partition(".")[0]
                known = origin(dotted(part) or "", outline.imports) in _CALLS
                if root not in own and not known and root != "super()":
                    return False
            case _ if any(_foreign(each, own) for each in _operands(part)):
                return False
            case _ if isinstance(part, _FORBIDDEN):
                return False
            case _:
                pass
    return True


def _given(node: ast.FunctionDef) -> set[str]:
    """Parameters that whoever decorates gives: those without a default."""
    every = [*node.args.posonlyargs, *node.args.args]
    return {each.arg for each in every[: len(every) - len(node.args.defaults)]}


def _operands(part: ast.AST) -> list[ast.expr]:
    """Expressions whose objects a part asks something: they might run code of their own."""
    match part:
        case ast.Compare(left=left, comparators=others):
            return [left, *others]
        case ast.BoolOp(values=values) | ast.JoinedStr(values=values):
            return values
        case ast.UnaryOp(operand=one) | ast.Starred(value=one) | ast.FormattedValue(value=one):
            return [one]
        case ast.If(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            return [test]
        case ast.Assign(targets=targets, value=value):
            return [value] if any(isinstance(t, ast.Tuple | ast.List) for t in targets) else []
        case _:
            return []


def _foreign(node: ast.expr, own: set[str]) -> bool:
    """Whether an operand is something else than an argument, or a constant."""
    return isinstance(node, ast.Name) and node.id not in own


def _messages(node: ast.FunctionDef) -> set[ast.AST]:
    """Texts that are formatted for an exception: decorating fails with it, and so does the plan."""
    raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise) and part.exc]
    inside = [part for each in raised for part in ast.walk(each) if isinstance(part, ast.BinOp)]
    return {part for part in inside if isinstance(part.left, ast.Constant)}


def _super_method(node: ast.expr) -> str:
    """`super().__init__` as such; "?" for anything else that has no name."""
    match node:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[]), attr="__init__"):
            return "super().__init__"
        case _:
            return "?"


def _bound(node: ast.FunctionDef) -> set[str]:
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    }


def _stored(node: ast.FunctionDef) -> set[str]:
    """Attributes that a method sets."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
    }


def _descriptors(cls: type) -> set[str]:
    """Names under which a class, or a base, has more than a plain value."""

    def found() -> Iterator[str]:
        for each in mro(cls):
            for name, value in reach.items(reach.class_dict(each)):
                hooked = any("__set__" in reach.class_dict(kind) for kind in mro(type(value)))
                if hooked and not any(each is base for base in _BASES):
                    yield str(name)

    return set(found())
