"""What the text of a decorator says: whether it keeps, registers or reads what it decorates."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import is_pure, origin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from zdpatch.patcher.items import Item

# Decorators whose result depends on nothing but the function, and which have no effect elsewhere.
PURE_DECORATORS: Final = frozenset(
    {
        "property", "staticmethod", "classmethod", "functools.lru_cache", "functools.cache",
        "functools.cached_property", "functools.wraps", "functools.singledispatch",
        "functools.singledispatchmethod", "functools.total_ordering", "contextlib.contextmanager",
        "contextlib.asynccontextmanager", "abc.abstractmethod", "typing.overload", "typing.final",
        "typing.override", "typing.no_type_check", "typing.runtime_checkable",
        "typing_extensions.final",
        "typing_extensions.override", "typing_extensions.deprecated", "warnings.deprecated",
        "dataclasses.dataclass", "enum.unique", "types.coroutine",
    }
)  # fmt: skip


def callee(node: ast.expr) -> ast.expr:
    """What a decorator with arguments calls; the decorator itself without."""
    return node.func if isinstance(node, ast.Call) else node


def unknown_decorator(nodes: Iterable[ast.expr], imports: Mapping[str, str]) -> str:
    """The first decorator which is not known to have no effect; "" when all are."""
    for node in nodes:
        name = dotted(callee(node))
        last = (name or "").rpartition(".")[2]
        pure = name is not None and origin(name, imports) in PURE_DECORATORS
        if not pure and last not in {"setter", "getter", "deleter"}:
            return ast.unparse(callee(node))
        if isinstance(node, ast.Call) and not all(
            is_pure(arg, imports) for arg in [*node.args, *(k.value for k in node.keywords)]
        ):
            return ast.unparse(node)
    return ""


def registering(item: Item, imports: Mapping[str, str]) -> str:
    """The decorator of a function that may have registered it; "" when there is none."""
    if not isinstance(item.node, FunctionNode):
        return ""
    return unknown_decorator(item.node.decorator_list, imports)


def own_decorators(
    node: FunctionNode, imports: Mapping[str, str], definitions: Collection[str]
) -> list[ast.expr]:
    """Decorators of which the tree itself has the text: the process tells what they do."""
    return [
        each
        for each in node.decorator_list
        if unknown_decorator([each], imports)
        and (dotted(each) or "").partition(".")[0] in definitions
    ]


def is_abstract(node: FunctionNode) -> bool:
    """Whether a method is declared abstract."""
    return any(
        (dotted(each) or "").startswith(("abc.abstract", "abstract"))
        for each in node.decorator_list
    )
