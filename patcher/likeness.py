"""Values tell apart two sources with the same code: what a process holds must be one's own.

Every statement that surely ran, and alone binds its name, is compared with what its name is bound
to now (see `matching`), every function and class with what is to be read from it. Programs set
other values too, so a source that is not in doubt is asked for less.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import facets_of_classes, facets_of_functions, imported_names
from zdpatch.patcher.assigned import IN_FUNCTION
from zdpatch.patcher.drift import Drift, keeps_names, plainly_made
from zdpatch.patcher.living import Living, sure
from zdpatch.patcher.matching import Matching, assigned, shown
from zdpatch.patcher.names import mangled
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import is_named_tuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType, FunctionType

    from zdpatch.patcher.bytecode import Bound
    from zdpatch.patcher.edits import Version
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item

# What a program hardly sets to another value of the same type.
_PLAIN: Final = frozenset({int, float, complex, str, bytes, bool, tuple})
_TABLES: Final = frozenset({list, dict, set})


def different_values(
    taken: Inventory, base: Version, known: Collection[CodeType] = (), *, doubt: bool
) -> list[Drift]:
    """Where a live object is another than the source behind `base` says, in order of lines."""
    compared = _Likeness(taken, base, known, doubt=doubt)
    found = compared.body(base.outline.items, "", compared.living.module, strict=True)
    return sorted({d.what: d for d in found}.values(), key=lambda d: (d.line, d.path))


class _Likeness:
    def __init__(
        self, taken: Inventory, base: Version, known: Collection[CodeType], *, doubt: bool
    ) -> None:
        self.name = taken.name
        self.doubt = doubt
        self.living = Living(taken, base)
        self.matching = Matching(self.living, known)

    def body(
        self, items: tuple[Item, ...], scope: str, bound: Bound, *, strict: bool
    ) -> Iterator[Drift]:
        """What the statements of the module, or of a class, left. `strict`: nothing else had a say
        in what became of the names of the class.
        """
        for item in items:
            if item.kind == "class":
                yield from self._class(item)
            elif item.kind == "function":
                yield from self._function(item)
            elif item.kind == "value":
                yield from self._value(item, scope, bound, strict=strict)
            elif item.kind == "import" and self.doubt and sure(item.name, bound):
                live = self.living.space(scope).get(item.name, MISSING)
                how = imported_names.other(item, live)
                yield from self._drifts(item, [how] if how else [])

    def _value(self, item: Item, scope: str, bound: Bound, *, strict: bool) -> Iterator[Drift]:
        space = self.living.space(scope)
        for name, node in assigned(item.node):
            own = mangled(scope, name)
            live = space.get(own, MISSING)
            if (
                own not in bound.once
                or live is MISSING
                or not self._tells(node, live, scope, strict)
            ):
                continue
            if self.matching.matches(node, live, scope, name) is False:
                path = f"{scope}.{name}" if scope else name
                what = f"{path} is {shown(live)} here and {ast.unparse(node):.60} in the source"
                yield Drift(f"{self.name}:{path}", item.line, what, "changed")

    def _tells(self, node: ast.expr, live: object, scope: str, strict: bool) -> bool:
        """Whether a difference says that the source is another."""
        if isinstance(node, ast.Constant) and node.value is None:
            return False  # a name that somebody else sets
        if strict and self.doubt:
            return True
        kinds = _PLAIN | _TABLES if self.doubt else _PLAIN
        return type(live) in kinds and type(self.matching.value(node, scope)) is type(live)

    def _class(self, item: Item) -> Iterator[Drift]:
        cls, bound = self.living.cls(item.qualname), self.living.bound(item.qualname)
        if cls is None or bound is None:
            return
        plain = plainly_made(cls) and not cast("ast.ClassDef", item.node).decorator_list
        strict = plain and keeps_names(cls) and not is_named_tuple(cls)
        if strict or type(cls) is type:
            yield from self.body(item.children, item.qualname, bound, strict=strict)
        else:
            inner = tuple(each for each in item.children if each.kind in {"class", "function"})
            yield from self.body(inner, item.qualname, bound, strict=False)
        if self.doubt:
            for part, how in facets_of_classes.of_class(self.matching, item, cls):
                what = f"{item.qualname} {how}"
                yield Drift(f"{self.name}:{item.qualname}", part.line, what, "changed")

    def _function(self, item: Item) -> Iterator[Drift]:
        function = facets_of_functions.live_function(self.matching, item)
        if function is None:
            return
        facets = facets_of_functions.of_function(self.matching, item, function, doubt=self.doubt)
        yield from self._drifts(item, facets)
        for child in item.children if self.doubt else ():
            if child.role == IN_FUNCTION:
                yield from self._attribute(child, item, function)

    def _attribute(self, child: Item, item: Item, function: FunctionType) -> Iterator[Drift]:
        """`function.name = value` at the top of the module."""
        twins = [each for each in item.children if each.name == child.name]
        elsewhere = self._stored(child.name) > 1
        held = vars(function).get(child.name, MISSING)
        if len(twins) > 1 or elsewhere or held is MISSING:
            return
        for _, node in assigned(child.node):
            if self.matching.matches(node, held, "", child.name) is False:
                here, text = shown(held), ast.unparse(node)
                how = f"has {child.name} = {here} here, and {text:.60} in the source"
                yield from self._drifts(item, [how], child.line)

    def _stored(self, name: str) -> int:
        """How often the source assigns to an attribute of this name."""
        every = ast.walk(self.matching.outline.tree)
        return sum(
            isinstance(each, ast.Attribute)
            and each.attr == name
            and not isinstance(each.ctx, ast.Load)
            for each in every
        )

    def _drifts(
        self, item: Item, hows: Iterator[str] | list[str], line: int = 0
    ) -> Iterator[Drift]:
        for how in hows:
            what = f"{item.qualname} {how}"
            yield Drift(f"{self.name}:{item.qualname}", line or item.line, what, "changed")
