"""Functions are all that have a body of their own: of modules, of classes wherever these are. What
is inside a function belongs to it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.accesses import accesses
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import FunctionNode, dotted, mangled
from zdpatch.patcher.parts import children, parts
from zdpatch.patcher.patterns import captured
from zdpatch.patcher.spelling import parameters, receiver, variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.touched import Accesses

_DEPTH: Final = 2  # an initialiser calls a method that calls a method
_OF_CLASS: Final = frozenset({"__new__", "__init_subclass__", "__class_getitem__"})


@dataclass(eq=False)
class Methods:
    """The functions of one class body by name, and what is known of them, by name and depth: the
    attributes they store on their object on every way.

    They lead to no `Function`: what a plan read goes when nobody holds it, without the collector.
    """

    nodes: dict[str, FunctionNode] = field(default_factory=dict[str, FunctionNode])
    settled: dict[tuple[str, int], frozenset[str]] = field(
        default_factory=dict[tuple[str, int], frozenset[str]]
    )


@dataclass(eq=False)
class Function:
    """One function of a version: `cls` is the class whose body it is in, `methods` are the
    functions there, `outer` are names of the functions around it.
    """

    outline: Outline
    qualname: str
    node: FunctionNode
    cls: str
    methods: Methods
    outer: frozenset[str]

    @property
    def where(self) -> tuple[str, str]:
        return self.outline.name, self.qualname

    def unfit(
        self, before: Iterable[Function]
    ) -> tuple[str, str, str, tuple[Item, ...], tuple[Item, ...]]:
        """The first fields of an edit which says that what lives does not fit this new function;
        `before`: its old versions.
        """
        scope, _, last = self.qualname.rpartition(".")
        old, new = (
            tuple(Item("function", scope, (last,), each.node) for each in side)
            for side in (before, (self,))
        )
        return self.outline.name, self.qualname, "unfit", old, new

    @cached_property
    def text(self) -> bytes:
        """Its lines."""
        return _text(self.outline, self.node)

    @cached_property
    def parts(self) -> list[ast.AST]:
        """All of it, level by level."""
        return parts(self.node)

    @cached_property
    def accesses(self) -> Accesses:
        return self._accesses(_DEPTH)

    @cached_property
    def _plain(self) -> Accesses:
        return accesses(self.node)

    def _accesses(self, depth: int) -> Accesses:
        """With what the methods it calls on its object store on the way, and those they call."""
        called = {
            a.name for a in self._plain.used if a.root == self.own
        } & self.methods.nodes.keys()
        if not depth or not self.own or not called:
            return self._plain
        settles = {name: self._settled_by(name, depth - 1) for name in called}
        return accesses(self.node, settles) if any(settles.values()) else self._plain

    def _settled_by(self, name: str, depth: int) -> frozenset[str]:
        known = self.methods.settled
        if (name, depth) not in known:
            node, path = self.methods.nodes[name], f"{self.cls}.{name}"
            method = Function(self.outline, path, node, self.cls, self.methods, self.outer)
            known[name, depth] = method._own_settled(depth)
        return known[name, depth]

    def _own_settled(self, depth: int) -> frozenset[str]:
        if not self.own or self.of_class:
            return frozenset()
        return frozenset(n for root, n in self._accesses(depth).settled if root == self.own)

    @cached_property
    def settled(self) -> frozenset[str]:
        """Attributes that it stores on its object on every way."""
        return frozenset(map(self.name, self._own_settled(_DEPTH)))

    @cached_property
    def own(self) -> str:
        """The name of its object, "" for a function and a static method."""
        static = any(dotted(each) == "staticmethod" for each in self.node.decorator_list)
        return "" if static or not self.cls else receiver(self.node)

    @cached_property
    def of_class(self) -> bool:
        """Whether its first parameter is the class."""
        named = any(dotted(each) == "classmethod" for each in self.node.decorator_list)
        return named or self.node.name in _OF_CLASS

    @cached_property
    def bound(self) -> dict[str, list[ast.expr | None]]:
        """What each of its variables may hold: expressions; None where it is something else."""
        found: dict[str, list[ast.expr | None]] = {name: [None] for name in parameters(self.node)}
        whole: dict[int, tuple[str, ast.expr]] = {}
        for part in self.parts:
            if isinstance(part, ast.Assign):
                whole |= {
                    id(e): (e.id, part.value) for e in part.targets if isinstance(e, ast.Name)
                }
            elif isinstance(part, ast.AnnAssign | ast.NamedExpr):
                if isinstance(part.target, ast.Name) and part.value is not None:
                    whole[id(part.target)] = part.target.id, part.value
            elif isinstance(part, ast.alias):
                found.setdefault(part.asname or part.name.partition(".")[0], []).append(None)
            elif isinstance(part, FunctionNode | ast.ClassDef | ast.ExceptHandler):
                found.setdefault(part.name or "", []).append(None)
            elif isinstance(part, ast.match_case):
                found |= {name: [None] for name in captured(part.pattern)}
        for part in self.parts:
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                found.setdefault(part.id, []).append(whole.get(id(part), ("", None))[1])
            elif isinstance(part, ast.arg):
                found.setdefault(part.arg, [None])
        return found

    def name(self, attribute: str) -> str:
        """An attribute as it is stored: private names belong to the class."""
        return mangled(self.cls, attribute)


def functions(outline: Outline) -> Iterator[Function]:
    """Those of a module, outer ones first."""
    return _Walk(outline).below(outline.tree.body, "", "", frozenset(), inside=False)


@dataclass(eq=False)
class _Walk:
    outline: Outline
    groups: dict[str, Methods] = field(default_factory=dict[str, Methods])

    def below(
        self, body: Iterable[ast.AST], prefix: str, cls: str, outer: frozenset[str], *, inside: bool
    ) -> Iterator[Function]:
        for node in body:
            if isinstance(node, FunctionNode):
                path = f"{prefix}{node.name}"
                if not inside:
                    group = self.groups.setdefault(cls, Methods()) if cls else Methods()
                    group.nodes[node.name] = node
                    yield Function(self.outline, path, node, cls, group, outer)
                if b"class " in _text(self.outline, node):
                    within = outer | set(variables(node))
                    below = children(node)
                    yield from self.below(below, f"{path}.<locals>.", "", within, inside=True)
            elif isinstance(node, ast.ClassDef):
                path = f"{prefix}{node.name}"
                yield from self.below(node.body, f"{path}.", path, outer, inside=False)
            elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
                yield from self.below(children(node), prefix, cls, outer, inside=inside)


def _text(outline: Outline, node: FunctionNode) -> bytes:
    first = min([node, *node.decorator_list], key=lambda each: each.lineno)
    return b"\n".join(outline.lines[first.lineno - 1 : node.end_lineno])
