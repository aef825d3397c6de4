"""Defaults, docstring, annotations and type parameters of live functions follow the new source, on
the functions and on the wrappers that copied them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from zdpatch.patcher.edits import (
    ANNOTATIONS,
    DEFAULTS,
    DOCSTRING,
    POSTPONED,
    SIGNATURE,
    TYPE_PARAMS,
    Edit,
)
from zdpatch.patcher.facets import changed_defaults, defaults
from zdpatch.patcher.overridden import merged_annotations, own_docstring
from zdpatch.patcher.remade import remade
from zdpatch.patcher.swap import Step
from zdpatch.patcher.values import same
from zdpatch.patcher.wrappers import Wrappers, slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FunctionType

    from zdpatch.patcher.inventory import Inventory, LiveFunction
    from zdpatch.patcher.names import FunctionNode
    from zdpatch.patcher.stage import Stage


class Metadata:
    """Collects the steps for what functions say of themselves.

    `refuse(edit, row, reason)` is called for what turns out impossible.
    """

    def __init__(
        self,
        stage: Stage,
        inventories: Iterable[Inventory],
        refuse: Callable[[Edit, str, str], None],
    ) -> None:
        self.stage = stage
        self.inventories = inventories
        self.refuse = refuse
        self.steps: list[Step] = []
        self.notices: list[str] = []

    @cached_property
    def _wrappers(self) -> Wrappers:
        taken = list(self.inventories)
        classes = (cls for each in taken for group in each.classes.values() for cls in group)
        return Wrappers([each.module for each in taken], classes)

    def add(self, edit: Edit, live: Sequence[LiveFunction]) -> None:
        """Add the steps of one function's edit."""
        facets = edit.facets
        if not facets & {DEFAULTS, SIGNATURE, ANNOTATIONS, POSTPONED, DOCSTRING}:
            return
        try:
            params = getattr(live[0].function, "__type_params__", ())
            made = remade(self.stage, edit, params, new=True)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of the patch may raise anything
            self.refuse(edit, "X", f"making it raises {type(error).__name__}: {error}")
            return
        for each in live:
            # a slot gives the function itself, not a method
            function: FunctionType = each.function  # pyright: ignore[reportAssignmentType]
            if facets & {DEFAULTS, SIGNATURE}:
                self._defaults(edit, function, made)
            if DOCSTRING in facets:
                self._document(edit, function, made.__doc__)
            if facets & {ANNOTATIONS, POSTPONED}:
                self._annotate(edit, function, made.__annotations__, params)
            if TYPE_PARAMS in facets:
                params = getattr(made, "__type_params__", ())
                self._copied(edit, function, "__type_params__", params)

    def _document(self, edit: Edit, function: FunctionType, new: str | None) -> None:
        if own_docstring(function, edit, new):
            self.notices.append(f"{edit.path}.__doc__ is not what the base has, and stays")
        else:
            self._copied(edit, function, "__doc__", new)

    def _annotate(
        self, edit: Edit, function: FunctionType, new: dict[str, object], params: Iterable[object]
    ) -> None:
        merged = merged_annotations(function, new, edit, self.stage, params)
        if isinstance(merged, str):
            self.refuse(edit, "X", f"the annotation of {merged!r} was changed at run time")
        else:
            self._copied(edit, function, "__annotations__", merged)

    # ------------------------------------------------------------ what wrappers copy

    def _copied(self, edit: Edit, function: FunctionType, name: str, value: object) -> None:
        """Set metadata on a function, and on the wrappers that took the very same object
        from it.
        """
        old, what = getattr(function, name), f"{edit.path}.{name}"
        self._set(function, name, value, old, what)
        for layer in self._wrappers.of(function):
            step = slot(layer, name, value, f"{what} ({type(layer).__name__})")
            if step is not None and step.expected is old:
                self.steps.append(step)
            elif step is not None and type(step.expected) is str:
                kind = type(layer).__name__
                self.notices.append(f"{what}: the {kind} round it has another {name}, and keeps it")

    def _set(
        self, function: FunctionType, name: str, value: object, expected: object, what: str
    ) -> None:
        self.steps.append(Step("function", function, name, value, expected, what))

    # ------------------------------------------------------------ defaults

    def _defaults(self, edit: Edit, function: FunctionType, made: FunctionType) -> None:
        old_node, new_node = (cast("FunctionNode", i[-1].node) for i in (edit.old, edit.new))
        present = default_values(old_node, function)
        if present is None:
            self.refuse(edit, "X", "its defaults were changed at run time")
            return
        fresh = default_values(new_node, made) or {}
        changed = changed_defaults(edit)
        if why := self._default_conflict(edit, present, changed):
            self.refuse(edit, "X", why)
            return
        values = {
            n: fresh[n] if n in changed or n not in present else present[n]
            for n in defaults(new_node)
        }
        positional, keyword = _arranged(new_node, values)
        what = f"{edit.path}.__defaults__"
        if positional != () or function.__defaults__:
            self._set(function, "__defaults__", positional or None, function.__defaults__, what)
        if keyword or function.__kwdefaults__:
            kwdefaults = cast("object", function.__kwdefaults__)
            self._set(
                function,
                "__kwdefaults__",
                keyword or None,
                kwdefaults,
                f"{edit.path}.__kwdefaults__",
            )

    def _default_conflict(
        self, edit: Edit, present: dict[str, object], changed: frozenset[str]
    ) -> str:
        compared = changed & set(present)
        if not compared:
            return ""
        try:
            old = remade(self.stage, edit, new=False)
        except Exception:  # noqa: BLE001 - code of the patch may raise anything
            return ""
        before = default_values(cast("FunctionNode", edit.old[-1].node), old) or {}
        for name in sorted(compared):
            if not same(present[name], before.get(name)):
                return f"the default of {name!r} was changed at run time"
        return ""


def default_values(node: FunctionNode, function: FunctionType) -> dict[str, object] | None:
    """The default objects of a function by parameter name; None when they do not fit the
    definition.
    """
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    named = positional[len(positional) - len(args.defaults) :]
    held = function.__defaults__ or ()
    keyword = dict(cast("dict[str, object]", function.__kwdefaults__ or {}))
    wanted = {
        a.arg for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None
    }
    if len(held) != len(named) or set(keyword) != wanted:
        return None
    return dict(zip(named, held, strict=True)) | keyword


def _arranged(
    node: FunctionNode, values: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    named = positional[len(positional) - len(args.defaults) :]
    keyword = {
        a.arg: values[a.arg]
        for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if d is not None
    }
    return tuple(values[name] for name in named), keyword
