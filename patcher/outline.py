"""The outline of a module is the list of statements that run when it is imported, scope by scope,
each under its definition path.

Branches decided by the text alone (`TYPE_CHECKING`, `__name__ == "__main__"`, `sys.version_info`)
are resolved here, so that everything later sees one straight list.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from zdpatch.patcher.assigned import with_assigned
from zdpatch.patcher.branches import Branches, branch_key, decided, taken_blocks, without_blocks
from zdpatch.patcher.interpolated import with_names
from zdpatch.patcher.items import DECIDED, Item
from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import KEEPING_BUILTINS, NAMED_TUPLE, OWN, origin
from zdpatch.patcher.statements import (
    bound_names,
    grows_all,
    is_text,
    is_value,
    role_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, eq=False)
class Outline:
    """One version of one module: its items, what it imports, and its definitions by path."""

    name: str
    package: bool
    source: bytes
    tree: ast.Module
    items: tuple[Item, ...]
    lazy_annotations: bool
    imports: dict[str, str] = field(default_factory=dict[str, str])
    inner_reads: dict[int, set[str]] = field(default_factory=dict[int, Any], repr=False)
    """What `inner.inner_reads` has found, by the node."""

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines of its source."""
        return self.source.splitlines()

    @cached_property
    def scopes(self) -> dict[str, tuple[Item, ...]]:
        """Items by scope: "" for the module, then every class by qualified name."""
        found: dict[str, tuple[Item, ...]] = {"": self.items}
        for item in self.every():
            if item.kind == "class" or (item.kind == "function" and item.children):
                found[item.qualname] = item.children
        return found

    def every(self) -> Iterator[Item]:
        """All items, outer before inner."""
        pending = list(reversed(self.items))
        while pending:
            item = pending.pop()
            yield item
            pending.extend(reversed(item.children))

    @cached_property
    def origins(self) -> Mapping[str, str]:
        """What names stand for, as `purity` asks: imports, and named tuples made here."""
        own = {
            item.name: NAMED_TUPLE for item in self.items if _makes_named_tuple(item, self.imports)
        }
        return self.imports | own

    @property
    def keepers(self) -> Mapping[str, str]:
        """`imports`, and the built-in functions of `deferred` which nothing here can hide."""
        return {**self._built_in, **self.imports}

    @cached_property
    def _built_in(self) -> Mapping[str, str]:
        """Empty when names come by a star, or functions bind names of the module."""
        if self.has_star or b"global" in self.source:
            return {}
        bound = {name for item in self.items for name in item.names}
        return {name: name for name in KEEPING_BUILTINS - bound}

    @cached_property
    def own_origins(self) -> Mapping[str, str]:
        """The same, with functions marked that the tree defines, or may define, itself."""
        functions = {
            item.name
            for item in self.items
            if isinstance(item.node, ast.FunctionDef) and not item.node.decorator_list
        }
        return {**self.origins, **dict.fromkeys(self._near | functions, OWN)}

    @cached_property
    def own_definitions(self) -> frozenset[str]:
        """Names of functions and classes that the tree defines, or may define, itself."""
        kinds = {"function", "class", "value"}  # a value may be an alias
        return self._near | {name for i in self.items if i.kind in kinds for name in i.names}

    @cached_property
    def _near(self) -> frozenset[str]:
        """Names imported from the package that the module is in."""
        top = self.name.partition(".")[0]
        imports = [item for item in self.items if item.kind == "import"]
        return frozenset(i.name for i in imports if i.source.partition(".")[0] == top)

    @cached_property
    def exported(self) -> frozenset[str] | None:
        """What `from ... import *` takes by a literal `__all__`; None when there is no such."""
        found: set[str] = set()
        items = self.binders("", "__all__")
        for item in items:
            try:
                found.update(ast.literal_eval(cast("ast.expr", getattr(item.node, "value", None))))
            except (ValueError, TypeError):
                return None
        return frozenset(found) if items else None

    def exports(self, name: str) -> bool:
        """Whether a star import takes `name`."""
        return not name.startswith("_") if self.exported is None else name in self.exported

    def following(self, branches: Branches) -> Outline:
        """The same source, read with `branches` known to be taken."""
        return _outlined(self.name, self.source, self.tree, package=self.package, branches=branches)

    def binders(self, scope: str, name: str) -> list[Item]:
        """The items of `scope` that bind `name`, in order."""
        return self._binders.get((scope, name), [])

    @cached_property
    def _binders(self) -> dict[tuple[str, str], list[Item]]:
        found: dict[tuple[str, str], list[Item]] = {}
        for scope, items in self.scopes.items():
            for item in items:
                for name in dict.fromkeys(item.names):
                    found.setdefault((scope, name), []).append(item)
        return found

    @cached_property
    def functions(self) -> dict[str, list[Item]]:
        """Definitions by qualified name; the accessors of a property share one."""
        found: dict[str, list[Item]] = {}
        for item in self.every():
            if item.kind == "function":
                found.setdefault(item.qualname, []).append(item)
        return found

    @cached_property
    def has_star(self) -> bool:
        """Whether the module imports names that it does not say."""
        return any(item.kind == "star" for item in self.items)


def outline(
    name: str, source: bytes, *, package: bool, branches: Branches | None = None
) -> Outline:
    """Parse one module. `branches` are those which this process is known to have taken.

    Raises SyntaxError or UnicodeDecodeError (as SyntaxError) for what does not parse.
    """
    try:
        tree = with_names(ast.parse(importlib.util.decode_source(source)))
    except (UnicodeDecodeError, ValueError) as error:
        raise SyntaxError(str(error)) from error
    return _outlined(name, source, tree, package=package, branches=branches or {})


def _outlined(
    name: str, source: bytes, tree: ast.Module, *, package: bool, branches: Branches
) -> Outline:
    lazy = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )
    imports: dict[str, str] = {}
    reader = _Reader(name, package=package, lazy=lazy, imports=imports, branches=branches)
    items = tuple(with_assigned(list(reader.scope(tree.body, ""))))
    return Outline(name, package, source, tree, items, lazy, imports)


class _Reader:
    def __init__(
        self,
        module: str,
        *,
        package: bool,
        lazy: bool,
        imports: dict[str, str],
        branches: Branches,
    ) -> None:
        self.branches = branches
        self.module = module
        self.package = package
        self.lazy = lazy
        self.imports = imports

    def scope(self, body: list[ast.stmt], scope: str) -> Iterator[Item]:
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and is_text(first.value):
            yield Item("value", scope, ("__doc__",), first)
        for node in body:
            yield from self._statement(node, scope)

    def _statement(self, node: ast.stmt, scope: str) -> Iterator[Item]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield Item(
                    "function", scope, (node.name,), node, role_of(node), lazy_annotations=self.lazy
                )
            case ast.ClassDef():
                inner = f"{scope}.{node.name}" if scope else node.name
                children = tuple(self.scope(node.body, inner))
                yield Item("class", scope, (node.name,), node, children=children)
            case ast.Import() | ast.ImportFrom():
                yield from self._imports(node, scope)
            case ast.If() if (taken := self._decided(node)) is not None:
                for inner_node in taken:
                    yield from self._statement(inner_node, scope)
            case ast.AnnAssign(value=None, target=ast.Name(id=name)):
                yield Item("field", scope, (name,), node, lazy_annotations=self.lazy)
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=ast.Call() as call) if (grown := grows_all(call)) is not None:
                yield from self._other(ast.copy_location(grown, node), scope)
            case _:
                yield from self._other(node, scope)

    def _decided(self, node: ast.If) -> list[ast.stmt] | None:
        return decided(node, self.imports, started=self.module == "__main__")

    def _other(self, node: ast.stmt, scope: str) -> Iterator[Item]:
        names = bound_names(node)
        known = not scope and branch_key(node) in self.branches
        if names and not known and is_value(node, self.imports):
            yield Item("value", scope, names, node, lazy_annotations=self.lazy)
            return
        if not scope and (taken := self.branches.get(branch_key(node))) is not None:
            # what decided it stays an item of its own: it may read a name that changes
            alone = without_blocks(node)
            yield Item("effect", scope, (), alone, DECIDED, lazy_annotations=self.lazy)
            for statement in taken_blocks(node, taken):
                yield from self._statement(statement, scope)
            return
        children: list[Item] = []
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                children += self._nested(inner, scope)
            elif isinstance(inner, ast.ExceptHandler | ast.match_case):
                for part in inner.body:
                    children += self._nested(part, scope)
        yield Item(
            "effect", scope, names, node, children=tuple(children), lazy_annotations=self.lazy
        )

    def _nested(self, node: ast.stmt, scope: str) -> list[Item]:
        """Definitions under a branch that only the running process has decided: found by their
        code, never by name.
        """
        return [
            item
            for item in self._statement(node, scope)
            if item.kind in {"function", "class", "effect"}
        ]

    def _imports(self, node: ast.Import | ast.ImportFrom, scope: str) -> Iterator[Item]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                single = ast.copy_location(ast.Import([alias]), node)
                name = alias.asname or alias.name.partition(".")[0]
                source = alias.name if alias.asname else name
                self.imports[name] = source
                # `import a.b` and `import a.c` both bind `a`: the role keeps them apart
                role = "" if alias.asname else alias.name
                yield Item("import", scope, (name,), single, role, source)
            return
        if node.module == "__future__":
            return
        base = absolute(node, self.module, package=self.package)
        for alias in node.names:
            one = ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
            if alias.name == "*":
                yield Item("star", scope, (), one, source=base)
                continue
            name = alias.asname or alias.name
            self.imports[name] = f"{base}.{alias.name}"
            yield Item("import", scope, (name,), one, source=f"{base}.{alias.name}")


def _makes_named_tuple(item: Item, imports: Mapping[str, str]) -> bool:
    makers = {"collections.namedtuple", "typing.NamedTuple"}
    value = getattr(item.node, "value", None)
    made = [value.func] if isinstance(value, ast.Call) and item.kind == "value" else []
    if isinstance(item.node, ast.ClassDef):
        made = item.node.bases
    return any(origin(dotted(each) or "", imports) in makers for each in made)


def absolute(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    """The absolute name of the module that `from ... import` names, in `module`."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)
