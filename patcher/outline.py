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
from typing import TYPE_CHECKING, Final, Literal, cast

from zdpatch.patcher.assigned import with_assigned
from zdpatch.patcher.branches import Branches, branch_key, decided, taken_blocks, without_blocks
from zdpatch.patcher.generics import is_alias, params_of
from zdpatch.patcher.names import FunctionNode, Uses, dotted, uses
from zdpatch.patcher.operations import Ran, ran_by_statement
from zdpatch.patcher.purity import NAMED_TUPLE, is_pure, origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["function", "class", "value", "import", "field", "star", "effect"]
DECIDED: Final = "decided"  # role of what is left of a branch: the test, which has no effect
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, eq=False)
class Item:
    """One import-time statement of a scope.

    `scope` is "" or the qualified name of a class; `names` are what it binds; `role` tells apart
    the definitions of one name which belong together ("setter", "overload", ...).
    """

    kind: Kind
    scope: str
    names: tuple[str, ...]
    node: ast.stmt
    role: str = ""
    source: str = ""  # imports: dotted origin of the bound name
    lazy_annotations: bool = False
    children: tuple[Item, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""

    @property
    def qualname(self) -> str:
        return f"{self.scope}.{self.name}" if self.scope else self.name

    @property
    def line(self) -> int:
        return self.node.lineno

    @cached_property
    def shape(self) -> str:
        """What the statement says, without positions: equal shapes are the same statement."""
        return (
            ast.dump(_without_bodies(self.node)) if self.kind == "effect" else ast.dump(self.node)
        )

    @cached_property
    def reads(self) -> frozenset[str]:
        return frozenset(self._uses.reads)

    @cached_property
    def calls(self) -> frozenset[str]:
        return frozenset(self._uses.calls)

    @cached_property
    def passed(self) -> frozenset[tuple[str, str]]:
        """(callee, argument) of the calls that got a plain name."""
        return frozenset(self._uses.passed)

    @cached_property
    def fetched(self) -> frozenset[str]:
        """Full names read of modules that the statement gets by their names."""
        return frozenset(self._uses.fetched)

    @cached_property
    def imported(self) -> tuple[tuple[ast.ImportFrom, str], ...]:
        """Names that a branch imports when it runs."""
        if self.kind not in {"value", "effect"}:
            return ()
        found = (part for part in ast.walk(self.node) if isinstance(part, ast.ImportFrom))
        return tuple((node, alias.name) for node in found for alias in node.names)

    @cached_property
    def global_names(self) -> frozenset[str]:
        """Dotted names of a definition whose root is none of its own parameters and variables."""
        own: set[str] = set()
        names: set[str] = set()
        for part in ast.walk(self.node):
            if isinstance(part, ast.arg):
                own.add(part.arg)
            elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                own.add(part.id)
            elif isinstance(part, ast.Name | ast.Attribute) and (name := dotted(part)) is not None:
                names.add(name)
        return frozenset(name for name in names if name.partition(".")[0] not in own)

    @cached_property
    def ran(self) -> Ran:
        """What the statement does when the body that it stands in is executed."""
        return ran_by_statement(self.node)

    @cached_property
    def _uses(self) -> Uses:
        if isinstance(self.node, ast.ClassDef):
            header: list[ast.AST] = [*self.node.bases, *params_of(self.node)]
            header += [word.value for word in self.node.keywords]
            found = uses(*header)
            for decorator in self.node.decorator_list:
                found.calls.update(uses(ast.Call(decorator, [], [])).calls)
                found.reads.update(uses(decorator).reads)
            return found
        return uses(self.node, lazy_annotations=self.lazy_annotations)


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
        tree = ast.parse(importlib.util.decode_source(source))
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
        if isinstance(first, ast.Expr) and _is_text(first.value):
            yield Item("value", scope, ("__doc__",), first)
        for node in body:
            yield from self._statement(node, scope)

    def _statement(self, node: ast.stmt, scope: str) -> Iterator[Item]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield Item(
                    "function", scope, (node.name,), node, _role(node), lazy_annotations=self.lazy
                )
            case ast.ClassDef():
                inner = f"{scope}.{node.name}" if scope else node.name
                children = tuple(self.scope(node.body, inner))
                yield Item("class", scope, (node.name,), node, children=children)
            case ast.Import() | ast.ImportFrom():
                yield from self._imports(node, scope)
            case ast.If() if (taken := decided(node, self.imports)) is not None:
                for inner_node in taken:
                    yield from self._statement(inner_node, scope)
            case ast.AnnAssign(value=None, target=ast.Name(id=name)):
                yield Item("field", scope, (name,), node, lazy_annotations=self.lazy)
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=ast.Call() as call) if (grown := _grows_all(call)) is not None:
                yield from self._other(ast.copy_location(grown, node), scope)
            case _:
                yield from self._other(node, scope)

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


def _role(node: FunctionNode) -> str:
    """Tells `@x.setter def x` from `@property def x`, and `@overload` from the real one."""
    for decorator in node.decorator_list:
        name = dotted(decorator) or ""
        last = name.rpartition(".")[2]
        if last == "overload":
            return "overload"
        if "." in name and last in {"setter", "getter", "deleter", "register"}:
            return name
    return ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def bound_names(node: ast.AST) -> tuple[str, ...]:
    """Names a statement binds in its own scope, in order of appearance, branches included."""
    found: dict[str, None] = {}
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop(0)
        match part:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found[name] = None
                continue
            case ast.Name(id=name, ctx=ast.Store()):
                found[name] = None
            case ast.alias(name=name, asname=asname):
                found[asname or name.partition(".")[0]] = None
            case (
                ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp()
            ):
                continue
            case _:
                pass
        pending.extend(ast.iter_child_nodes(part))
    return tuple(found)


def is_value(node: ast.stmt, imports: dict[str, str]) -> bool:  # noqa: PLR0911 - one clause a kind of statement
    """True for statements that do nothing but bind names to values (branches of such statements
    included).
    """

    def every(body: list[ast.stmt]) -> bool:
        return all(is_value(part, imports) for part in body)

    match node:
        case ast.Pass() | ast.Import():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.ImportFrom():
            return all(alias.name != "*" for alias in node.names)
        case ast.Assign(targets=targets):
            return all(_plain_target(target) for target in targets)
        case ast.AnnAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.AugAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.If():
            return is_pure(node.test, imports) and every(node.body) and every(node.orelse)
        case ast.Try():
            handlers = all(every(handler.body) for handler in node.handlers)
            return every(node.body) and handlers and every(node.orelse) and every(node.finalbody)
        case _:
            return is_alias(node)


def _grows_all(call: ast.Call) -> ast.stmt | None:
    """`__all__.append(x)` and `.extend(xs)` as the augmented assignments that they are."""
    method = dotted(call.func)
    if method not in {"__all__.append", "__all__.extend"} or len(call.args) != 1 or call.keywords:
        return None
    given = call.args[0]
    added = ast.List([given], ast.Load()) if method == "__all__.append" else given
    name = ast.Name("__all__", ast.Store())
    grown = ast.AugAssign(name, ast.Add(), ast.copy_location(added, given))
    return ast.fix_missing_locations(ast.copy_location(grown, call))


def _plain_target(node: ast.expr) -> bool:
    if isinstance(node, ast.Starred):
        return _plain_target(node.value)
    if isinstance(node, ast.Tuple | ast.List):
        return all(_plain_target(element) for element in node.elts)
    return isinstance(node, ast.Name)


class _Bodies(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        blank = ast.FunctionDef(**{**dict(ast.iter_fields(node)), "body": []})
        return ast.copy_location(blank, node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        blank = ast.AsyncFunctionDef(**{**dict(ast.iter_fields(node)), "body": []})
        return ast.copy_location(blank, node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        fields: dict[str, object] = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                parts = cast("list[object]", value)
                fields[name] = [self.visit(v) if isinstance(v, ast.AST) else v for v in parts]
            else:
                fields[name] = self.visit(value) if isinstance(value, ast.AST) else value
        return type(node)(**fields)


def _without_bodies(node: ast.stmt) -> ast.AST:
    """A copy in which function bodies are blank: they are compared by their code, not here."""
    return cast("ast.AST", _Bodies().visit(node))
