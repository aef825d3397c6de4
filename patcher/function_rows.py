"""A function that changed keeps its identity, unless the text says that its callers, its decorators
or what was made with it cannot follow; so does an inner function whose closures can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes
from zdpatch.patcher.decorators import callee
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    BODY,
    DECORATORS,
    DEFAULTS,
    KIND,
    METADATA,
    SIGNATURE,
    TYPE_PARAMS,
    Edit,
)
from zdpatch.patcher.facets import changed_defaults, defaults
from zdpatch.patcher.generics import param_names
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import is_pure
from zdpatch.patcher.rows import IDENTITY, MIGRATE, REPLACE, Decision, Need
from zdpatch.patcher.signature import breaks
from zdpatch.patcher.yields import protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.items import Item

CREATION: Final = frozenset(
    {"__init_subclass__", "__prepare__", "__set_name__", "_generate_next_value_"}
)
_GENERATORS: Final = frozenset({"generator", "async generator"})
_MAKING: Final = frozenset({"__init__", "__new__", "__call__"})


def changed_function(edit: Edit, imports: Mapping[str, str], *, in_class: bool) -> Decision:
    """The row of a function, or a method, of both versions."""
    facets = edit.facets
    if KIND in facets:
        reason = "plain function, generator and coroutine are called differently"
        return Decision(edit, "X", reason, REPLACE)
    if DECORATORS in facets:
        return _decorators(edit)
    if SIGNATURE in facets and (why := breaks(definition(edit.old[0]), definition(edit.new[0]))):
        remedy = "keep old calls valid (new parameters last, with a default), or replace the worker"
        reason = f"callers and stored callbacks use the old signature: {why}"
        return Decision(edit, "X", reason, remedy)
    if TYPE_PARAMS in facets and (held := _closed_over(edit)):
        reason = f"its code closes over type parameters, of which some changed ({held})"
        return Decision(edit, "R", reason, REPLACE)
    if DEFAULTS in facets and (bad := _impure_default(edit, imports)):
        reason = f"default of {bad!r} cannot be evaluated again without effect"
        return Decision(edit, "M", reason, MIGRATE)
    return _body(edit, in_class=in_class)


def changed_inner(edit: Edit) -> Decision:
    """The row of what is defined inside a function."""
    facets = edit.facets
    if facets <= {BODY, ANNOTATIONS}:
        suspended: tuple[Need, ...] = ("none suspended",) if _driven_otherwise(edit) else ()
        hints: tuple[Need, ...] = ("hints unread",) if ANNOTATIONS in facets else ()
        needs = (*suspended, *hints)
        what = "body" if BODY in facets else "annotations"
        reason = f"{what} of an inner function with the same free variables"
        return Decision(edit, "A", reason, "", needs)
    if facets == frozenset({"class"}):
        reason = "a class inside a function changed: classes of it that exist cannot follow"
    elif facets == frozenset({"unclear"}):
        reason = "which of the inner functions of this name it became cannot be told"
    elif facets == frozenset({"removed"}):
        reason = "inner function is gone"
    else:
        what = ", ".join(sorted(facets - {BODY}))
        reason = f"{what} of an inner function changed: closures that exist cannot follow"
    return Decision(edit, "A", reason, REPLACE, ("no closures",))


def definition(item: Item) -> FunctionNode:
    """The statement of a function."""
    assert isinstance(item.node, FunctionNode)
    return item.node


def _closed_over(edit: Edit) -> str:
    """Type parameters that either side of the function names when it runs."""
    names = {name for item in (*edit.old, *edit.new) for name in param_names(item.node)}
    free = {name for code in edit.codes if code for name in code.co_freevars}
    return ", ".join(sorted(names & free))


def _body(edit: Edit, *, in_class: bool) -> Decision:
    name = edit.new[0].name
    needs: list[Need] = []
    if in_class and name in CREATION and BODY in edit.facets:
        return Decision(edit, "R", f"{name} ran already for classes that exist", REPLACE)
    if in_class and name in IDENTITY and BODY in edit.facets:
        needs.append("no instances")
    if in_class and name in _MAKING and BODY in edit.facets:
        needs.append("not made")
    if edit.facets & METADATA:
        needs.append("unconsumed")
    if _driven_otherwise(edit):
        needs.append("none suspended")
    what = ", ".join(sorted(edit.facets))
    return Decision(edit, "A", f"{what}; the function keeps its identity", "", tuple(needs))


def _driven_otherwise(edit: Edit) -> bool:
    """Whether new code would drive a generator in another way than suspended ones expect. One
    that a context manager holds has given all it gives.
    """
    old, new = edit.codes
    if old is None or new is None or codes.kind(old) not in _GENERATORS:
        return False
    nodes = definition(edit.new[0]).decorator_list if edit.kind == "function" else []
    names = {(dotted(callee(each)) or "").rpartition(".")[2] for each in nodes}
    if names & {"contextmanager", "asynccontextmanager"}:
        return False
    return protocol(old) != protocol(new)


def _decorators(edit: Edit) -> Decision:
    if edit.cause:
        reason = f"a decorator got its argument from {edit.cause}, which changed"
        return Decision(edit, "R", reason, REPLACE)
    names = {
        (dotted(callee(each)) or "").rpartition(".")[2]
        for item in (*edit.old, *edit.new)
        for each in definition(item).decorator_list
    }
    known = names <= {"property", "staticmethod", "classmethod", "cached_property", "setter"}
    reason = "decorators changed: what they made of the function is already in use"
    return Decision(edit, "Q" if known else "R", reason, REPLACE)


def _impure_default(edit: Edit, imports: Mapping[str, str]) -> str:
    before = defaults(definition(edit.old[0]))
    changed = changed_defaults(edit)
    for name, value in defaults(definition(edit.new[0])).items():
        if name in changed and not is_pure(value, imports, fresh=name not in before):
            return name
    return ""
