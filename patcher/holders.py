"""Which object a name in a function stands for, as far as the text tells: an object of a class, one
certain object, or one that nobody can know.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher.bodies import Function, functions
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.parts import children, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.outline import Outline

_COPIES: Final = frozenset({"copy", "deepcopy", "replace"})
Kind = Literal["instances", "object", "unknown"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Objects of a class, or one object, by module and dotted path as that module sees it.

    `made`: it is known to be new each time.
    """

    kind: Kind
    module: str = ""
    path: str = ""
    made: bool = False


UNKNOWN: Final = Holder("unknown")


@dataclass(eq=False)
class Side:
    """All modules of one side of a patch, read together."""

    outlines: dict[str, Outline]

    @cached_property
    def functions(self) -> list[Function]:
        return [each for outline in self.outlines.values() for each in functions(outline)]

    @cached_property
    def by_path(self) -> dict[tuple[str, str], list[Function]]:
        found: dict[tuple[str, str], list[Function]] = {}
        for each in self.functions:
            found.setdefault(each.where, []).append(each)
        return found

    def mentioning(self, names: Iterable[str]) -> list[Function]:
        """Functions whose text has one of `names`; private ones as their class writes them."""
        plain = {re.escape(re.sub(r"^_\w+?__", "__", name)) for name in names}
        pattern = re.compile("|".join(sorted(plain)).encode())
        return [each for each in self.functions if pattern.search(each.text)] if plain else []

    def _kinds(self, name: str) -> set[Holder]:
        """What is stored under an attribute, where every store says it."""
        found: set[Holder] = set()
        for each in self.mentioning([name]):
            for access in each.accesses.stores:
                if each.name(access.name) != name:
                    continue
                if isinstance(access.value, ast.Constant) and access.value.value is None:
                    continue
                found.add(UNKNOWN if access.value is None else self._made(each, access.value))
        return found

    @cached_property
    def classes(self) -> dict[tuple[str, str], ast.ClassDef]:
        """Every class statement by module and path, also inside functions."""
        return {
            (outline.name, path): node
            for outline in self.outlines.values()
            for path, node in _classes(outline.tree, "")
        }

    @cached_property
    def _modules(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(_module_names(one.tree)) for name, one in self.outlines.items()}

    def of_module(self, outline: Outline, root: str) -> bool:
        """Whether a dotted name begins with what an `import` statement binds."""
        return root.partition(".")[0] in self._modules[outline.name]

    def holder(self, each: Function, root: str) -> Holder:
        """What `root`, a dotted name, stands for in a function."""
        head, _, rest = root.partition(".")
        if not head:
            return UNKNOWN
        if head == each.own and not rest:
            return Holder("object" if each.of_class else "instances", each.outline.name, each.cls)
        if head not in each.bound:
            return UNKNOWN if head in each.outer else Holder("object", each.outline.name, root)
        if rest:
            kinds = self._kinds(each.name(rest.rpartition(".")[2]))
            only = next(iter(kinds)) if len(kinds) == 1 else UNKNOWN
            return Holder(only.kind, only.module, only.path)
        return self._variable(each, head)

    def _variable(self, each: Function, name: str) -> Holder:
        args = each.node.args
        for one in [*args.posonlyargs, *args.args, *args.kwonlyargs]:
            if one.arg == name and (path := _annotated(one.annotation)):
                found = self._class(each, path)
                return Holder("instances", *found) if found in self.classes else UNKNOWN
        values = each.bound[name]
        kinds = {UNKNOWN if value is None else self._made(each, value) for value in values}
        return kinds.pop() if len(kinds) == 1 else UNKNOWN

    def _made(self, each: Function, value: ast.expr) -> Holder:
        """The class of which an expression makes an object."""
        if not isinstance(value, ast.Call) or (callee := dotted(value.func)) is None:
            return UNKNOWN
        head, _, last = callee.rpartition(".")
        given = dotted(value.args[0]) if value.args else None
        if last == "__new__" and given is not None:
            return self._object_of(each, given)
        if last in _COPIES and given == each.own != "" and not each.of_class:
            return Holder("instances", each.outline.name, each.cls)
        if callee == f"{each.own}.__class__" or (callee == each.own and each.of_class):
            return self._object_of(each, each.own if each.of_class else callee)
        if callee.partition(".")[0] in each.bound or callee.partition(".")[0] in each.outer:
            return UNKNOWN
        return self._object_of(each, callee) if _looks_like_class(last or head) else UNKNOWN

    def _object_of(self, each: Function, name: str) -> Holder:
        if name in {each.own, f"{each.own}.__class__"}:
            return Holder("instances", each.outline.name, each.cls, made=True)
        if name.partition(".")[0] in each.bound:
            return UNKNOWN
        module, path = self._class(each, name)
        node = self.classes.get((module, path))
        made = node is not None and not _has(node, "__new__")
        return Holder("instances", module, path, made)

    def _class(self, each: Function, name: str) -> tuple[str, str]:
        """Where the class is defined, if in this patch; else as the function's module sees it."""
        own = each.outline.name
        if (own, name) in self.classes:
            return own, name
        head, _, rest = name.partition(".")
        source = each.outline.imports.get(head) or _imported(each, head)
        if source:
            module, _, path = f"{source}.{rest}".rstrip(".").rpartition(".")
            if (module, path) in self.classes:
                return module, path
        return own, name


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in children(node):
        if isinstance(child, ast.ClassDef):
            yield f"{prefix}{child.name}", child
            yield from _classes(child, f"{prefix}{child.name}.")
        elif isinstance(child, FunctionNode):
            yield from _classes(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _classes(child, prefix)


def _module_names(tree: ast.Module) -> Iterator[str]:
    for part in parts(tree):
        if isinstance(part, ast.Import):
            for alias in part.names:
                yield alias.asname or alias.name.partition(".")[0]


def _imported(each: Function, name: str) -> str:
    """The origin of a name that the function itself imports."""
    for part in each.parts:
        if isinstance(part, ast.ImportFrom):
            base = absolute(part, each.outline.name, package=each.outline.package)
            for alias in part.names:
                if (alias.asname or alias.name) == name:
                    return f"{base}.{alias.name}"
    return ""


def _annotated(node: ast.expr | None) -> str:
    """The class an annotation names: plain, as text, or `C | None`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return ""
    if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
        node = node.left
    return (dotted(node) or "") if node is not None else ""


def _looks_like_class(name: str) -> bool:
    """By custom; the process has the last word."""
    return name.lstrip("_")[:1].isupper()


def _has(node: ast.ClassDef, name: str) -> bool:
    return any(isinstance(each, FunctionNode) and each.name == name for each in node.body)


def bound_on(node: ast.ClassDef) -> Iterator[str]:
    """Names which the body of a class binds."""
    return bound_by(*node.body)


def bound_by(*body: ast.stmt) -> Iterator[str]:
    """Names which statements bind."""
    pending: list[ast.AST] = list(body)
    while pending:
        part = pending.pop()
        if isinstance(part, FunctionNode | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.AnnAssign) and part.value is None:
            continue
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, ast.alias):
            yield part.asname or part.name.partition(".")[0]
        else:
            pending.extend(children(part))
