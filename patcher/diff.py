"""Two sources in, edits by definition path out: what differs at import time, and in which code
objects.

Bodies are compared by their compiled code (positions aside), so formatting, comments and the
annotations of locals are no edits; everything that runs at import is compared by its text.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher.edits import (
    BODY,
    DEFAULTS,
    POSTPONED,
    SIGNATURE,
    Edit,
    ModuleVersions,
    Version,
)
from zdpatch.patcher.facets import function_facets
from zdpatch.patcher.generics import params_of
from zdpatch.patcher.items import DECIDED
from zdpatch.patcher.nested import default_lambda_edits, lambda_edits, nested_edits
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.items import Item


def diff(versions: ModuleVersions) -> list[Edit]:
    """The edits of one module which both sides have."""
    base, new = versions.base, versions.new
    if base is None or new is None or versions.change.base == versions.change.new:
        return []
    return list(
        _Scopes(versions.name, base, new).compare("", base.outline.items, new.outline.items)
    )


class _Scopes:
    """Walks the scopes of both versions in step."""

    def __init__(self, module: str, base: Version, new: Version) -> None:
        self.module = module
        self.base = base
        self.new = new
        self.postponed = base.outline.lazy_annotations != new.outline.lazy_annotations

    def compare(
        self, scope: str, old_items: Iterable[Item], new_items: Iterable[Item]
    ) -> Iterator[Edit]:
        old, new = _by_name(old_items), _by_name(new_items)
        for name in dict.fromkeys([*new, *old]):
            yield from self._name(scope, name, old.get(name, []), new.get(name, []))
        yield from self._effects(scope, old_items, new_items)

    def _name(self, scope: str, name: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        qualname = f"{scope}.{name}" if scope else name
        old, new = _runtime(old), _runtime(new)
        if not _binding(old) and not _binding(new):
            # a bare annotation binds nothing: the name may be bound by a branch all the same
            yield from self._annotations(qualname, old, new)
            return
        if not _binding(old) or not _binding(new):
            kind = "removed" if _binding(old) else "added"
            yield Edit(self.module, qualname, kind, _bare_first(old), _bare_first(new))
            return
        if _group(old[-1]) != _group(new[-1]):
            yield Edit(self.module, qualname, "rebound", tuple(old), tuple(new))
            return
        kinds = [each.kind for each in new]
        mixed = "function" in kinds and kinds[-1] != "function"
        if mixed and kinds == [each.kind for each in old]:
            yield from self._mixed(qualname, old, new)
            return
        match new[-1].kind:
            case "function":
                yield from self._functions(qualname, old, new)
            case "class":
                yield from self._classes(qualname, old, new)
            case _:
                yield from self._values(qualname, old, new)

    def _mixed(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        """`def f` and then `f = deco(f)`: definitions by their code, the others by their text."""
        for before, after in zip(old, new, strict=True):
            if before.kind == "function":
                yield from self._function(qualname, before, after)
            elif before.shape != after.shape:
                yield Edit(self.module, qualname, "value", tuple(old), tuple(new))
                return

    def _values(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        if [_value_shape(item) for item in old] != [_value_shape(item) for item in new]:
            lambdas = lambda_edits(self.base, self.new, old, new)
            if lambdas is not None:
                yield from lambdas
                return
            if _same_literals(old, new):
                yield from self._annotations(qualname, old, new)
                return
            yield Edit(self.module, qualname, "value", tuple(old), tuple(new))
        else:
            yield from self._annotations(qualname, old, new)

    def _annotations(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        items = tuple(old), tuple(new)
        if [item.shape for item in old] != [item.shape for item in new]:
            yield Edit(self.module, qualname, "fields", *items)
        elif self.postponed and any(isinstance(item.node, ast.AnnAssign) for item in new):
            yield Edit(self.module, qualname, "fields", *items, detail=POSTPONED)

    def _functions(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        pairs, left_old, left_new = _pair(old, new)
        for before, after in pairs:
            yield from self._function(qualname, before, after)
        if left_old or left_new:
            yield Edit(
                self.module, qualname, "rebound", tuple(left_old or old), tuple(left_new or new)
            )

    def _function(self, qualname: str, old: Item, new: Item) -> Iterator[Edit]:
        if old.kind != "function" or new.kind != "function":
            if old.shape != new.shape:
                yield Edit(self.module, qualname, "rebound", (old,), (new,))
            return
        old_code, new_code = self.base.code_of(old), self.new.code_of(new)
        facets = function_facets(old, new, old_code, new_code)
        if DEFAULTS in facets and SIGNATURE not in facets:
            lambdas = default_lambda_edits(self.base, self.new, old, new)
            facets -= {DEFAULTS} if lambdas is not None else set()
            yield from lambdas or ()
        if facets:
            yield Edit(
                self.module, qualname, "function", (old,), (new,), facets, (old_code, new_code)
            )
        yield from self.compare(qualname, old.children, new.children)
        if old_code and new_code and BODY in facets:
            yield from nested_edits(self.module, old, new, old_code, new_code)

    def _classes(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        if len(old) != len(new):
            yield Edit(self.module, qualname, "rebound", tuple(old), tuple(new))
            return
        for before, after in zip(old, new, strict=True):
            if before.kind != "class" or after.kind != "class":
                yield from self._function(qualname, before, after)
                continue
            if self._header(self.base, before) != self._header(self.new, after):
                yield Edit(self.module, qualname, "header", (before,), (after,))
            yield from self.compare(before.qualname, before.children, after.children)

    @staticmethod
    def _header(version: Version, item: Item) -> str:
        assert isinstance(item.node, ast.ClassDef)
        node = item.node
        bases = list(node.bases)
        last = bases[-1] if bases else None
        if isinstance(last, ast.Name) and last.id == "object":
            # every class ends in it, said or not, unless the module calls something else so
            bases = bases if version.outline.binders("", "object") else bases[:-1]
        parts = [*bases, *(word.value for word in node.keywords), *node.decorator_list]
        parts += params_of(node)
        names = [word.arg or "**" for word in node.keywords]
        return "|".join([*map(ast.dump, parts), *names, str(len(bases))])

    def _effects(
        self, scope: str, old_items: Iterable[Item], new_items: Iterable[Item]
    ) -> Iterator[Edit]:
        old = [item for item in old_items if item.kind in {"effect", "star"}]
        new = [item for item in new_items if item.kind in {"effect", "star"}]
        pending = list(old)
        fresh: list[Item] = []
        for item in new:
            twin = next((each for each in pending if each.shape == item.shape), None)
            if twin is None:
                fresh.append(item)
                continue
            pending.remove(twin)
            yield from self._inside(twin, item)
        # the test of a branch whose way is known, alone: to run it or not is the same
        pending = [item for item in pending if item.role != DECIDED]
        for item in [item for item in fresh if item.role != DECIDED]:
            kind = type(item.node)
            was = next((e for e in pending if type(e.node) is kind and e.kind == item.kind), None)
            if was is not None:
                pending.remove(was)
            yield Edit(self.module, scope, "effect", () if was is None else (was,), (item,))
        for item in pending:
            yield Edit(self.module, scope, "effect", (item,), ())

    def _inside(self, old: Item, new: Item) -> Iterator[Edit]:
        """Definitions under the same branch: only their bodies can differ, their shapes are
        equal.
        """
        for before, after in zip(old.children, new.children, strict=True):
            if before.kind == "function":
                yield from self._function(after.qualname, before, after)
            elif before.kind == "class":
                yield from self._inside(before, after)


def _by_name(items: Iterable[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        if item.kind not in {"effect", "star"}:
            for name in item.names:
                found.setdefault(name, []).append(item)
    return found


def _binding(items: list[Item]) -> list[Item]:
    return [item for item in items if item.kind != "field"]


def _bare_first(items: list[Item]) -> tuple[Item, ...]:
    """The last item is the one that binds, wherever a bare annotation stands."""
    return tuple(sorted(items, key=lambda item: item.kind != "field"))


def _runtime(items: list[Item]) -> list[Item]:
    """Without what only type checkers see: overloads which a later definition replaces."""
    kept = [item for item in items if item.role != "overload"]
    return kept or items


def _group(item: Item) -> str:
    return "value" if item.kind in {"import", "field"} else item.kind


def _value_shape(item: Item) -> str:
    """What decides the value: not its annotation. A bare annotation decides none."""
    if isinstance(item.node, ast.AnnAssign):
        return f"Assign {ast.dump(item.node.value)}" if item.node.value else ""
    if isinstance(item.node, ast.Assign) and len(item.node.targets) == 1:
        target = item.node.targets[0]
        if isinstance(target, ast.Name):
            return f"Assign {ast.dump(item.node.value)}"
    return item.shape


def _same_literals(old: list[Item], new: list[Item]) -> bool:
    """Whether two displays of constants say the same value in other words."""
    if len(old) != 1 or len(new) != 1:
        return False
    nodes = old[0].node, new[0].node
    values: list[object] = []
    for node in nodes:
        value = getattr(node, "value", None)
        plain = isinstance(node, ast.Assign | ast.AnnAssign)
        if not plain or not isinstance(value, ast.Set | ast.List | ast.Dict):
            return False
        try:
            values.append(ast.literal_eval(value))
        except (ValueError, TypeError):
            return False
    return _targets(nodes[0]) == _targets(nodes[1]) and same(*values)


def _targets(node: ast.stmt) -> list[str]:
    found = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    return [ast.dump(each) for each in found]


def _pair(
    old: list[Item], new: list[Item]
) -> tuple[list[tuple[Item, Item]], list[Item], list[Item]]:
    """Definitions of one name which belong together: by role, the last with the last."""
    pairs: list[tuple[Item, Item]] = []
    left_old, left_new = list(old), list(new)
    for after in reversed(new):
        before = next((each for each in reversed(left_old) if each.role == after.role), None)
        if before is not None:
            pairs.append((before, after))
            left_old.remove(before)
            left_new.remove(after)
    return pairs[::-1], left_old, left_new
