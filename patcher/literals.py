"""Literal values tell apart two sources with the same code: what a process holds must be one's own.

Only what nothing else in the source can have set is compared: a name that one plain statement binds
to a literal, or to what the standard library makes of literals (see `constants`), and the literal
defaults of functions. Values of other types than the literal's were made by somebody (an Enum's
member, a field of a dataclass) and say nothing; so do tables, which programs fill, unless `tables`
says that the source is in doubt.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.constants import constant
from zdpatch.patcher.drift import Drift
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    from zdpatch.patcher.edits import Version
    from zdpatch.patcher.inventory import Inventory

_PLAIN: Final = frozenset({int, float, complex, str, bytes, bool, tuple})
_TABLES: Final = frozenset({list, dict, set})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def different_literals(taken: Inventory, base: Version, *, tables: bool) -> list[Drift]:
    """Where a live value is another than the source behind `base` says."""
    kinds = _PLAIN | _TABLES if tables else _PLAIN
    compared = _Literals(taken, base, kinds)
    return [*compared.body(base.outline.tree.body, base.code, taken.namespace, "")]


class _Literals:
    def __init__(self, taken: Inventory, base: Version, kinds: frozenset[type]) -> None:
        self.taken = taken
        self.kinds = kinds
        self.base = base
        self.bodies = base.written.class_bodies

    def body(
        self, nodes: list[ast.stmt], body: CodeType, space: Mapping[str, object], prefix: str
    ) -> Iterator[Drift]:
        once = self.base.written.bound(body).once
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                yield from self._class(node, prefix + node.name)
            elif isinstance(node, _Function):
                yield from self._defaults(node, prefix + node.name)
            else:
                name, written = _assigned(node)
                live = space.get(name)
                if name not in once or written is None:
                    continue
                value = literal(written)
                known = type(value) in self.kinds
                if value is None:
                    value = constant(written, self.taken.namespace, self.base.outline, prefix)
                    known = value is not None
                if known and type(live) is type(value) and not same(live, value):
                    what = f"{prefix}{name} is {live!r:.60} here and {value!r:.60} in the source"
                    yield self._drift(prefix + name, node.lineno, what)

    def _class(self, node: ast.ClassDef, path: str) -> Iterator[Drift]:
        live, bodies = self.taken.classes.get(path, []), self.bodies.get(path, [])
        if len(live) == len(bodies) == 1 and type(live[0]) is type:
            space = {str(key): value for key, value in reach.items(reach.class_dict(live[0]))}
            yield from self.body(node.body, bodies[0], space, f"{path}.")

    def _defaults(self, node: _Function, path: str) -> Iterator[Drift]:
        live = self.taken.functions.get(path, [])
        values = live[0].function.__defaults__ or () if len(live) == 1 else ()
        if len(values) != len(node.args.defaults):
            return
        for written, found in zip(node.args.defaults, values, strict=True):
            value = literal(written)
            if type(value) in _PLAIN and type(found) is type(value) and not same(found, value):
                what = f"a default of {path} is {found!r:.60} here and {value!r:.60} in the source"
                yield self._drift(path, node.lineno, what)

    def _drift(self, qualname: str, line: int, what: str) -> Drift:
        return Drift(f"{self.taken.name}:{qualname}", line, what, "changed")


def _assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """The name and the value of `NAME = value`; "" and None for any other statement."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Name):
            return target.id, node.value
    return "", None


def literal(node: ast.expr | None) -> object:
    """The value of a literal; None for what is none."""
    try:
        return None if node is None else cast("object", ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
