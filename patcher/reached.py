"""Who reaches what changes, by the names in bodies: when it is called, or when what it made is.

`def make(): def inner(): return helper() ...` reaches `helper` by what it gives back. A statement
that binds this, or decorates with it, has not run it; whoever calls the result does.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.inner import inner_reads
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import Name, meanings, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.outline import Item, Outline

# What runs when a class is called, or put into another class.
_RUN_BY_CLASS: Final = frozenset({"__init__", "__new__", "__post_init__", "__set_name__"})
# Decorators that call nothing of what those below them made.
_QUIET: Final = frozenset(
    {"property", "staticmethod", "classmethod", "abc.abstractmethod", "typing.override",
     "typing.final", "typing_extensions.override", "functools.lru_cache", "functools.cache",
     "functools.cached_property", "contextlib.contextmanager"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reach:
    """Names with the path to blame. `made`: reach a change when they are called, or when what they
    made is; `ran`: when they are called. `factories`: of these, decorators whose inner function,
    which decorates, runs none.
    """

    made: Mapping[Name, str]
    ran: Mapping[Name, str]
    factories: set[Name]

    @classmethod
    def of(
        cls,
        scope: Mapping[str, ModuleVersions],
        made: Mapping[Name, str],
        ran: Mapping[Name, str],
        modules: Collection[str],
    ) -> Reach:
        """What reaches `made`, or runs something of `ran`, in the modules of `scope`."""
        if not made:
            return cls(made, ran, set())
        every = reachable(scope, made, modules)
        bodies = [(path, [*names]) for path, names in _run_bodies(scope, modules) if path in every]
        named = [name for name, _, _ in bound(scope) if name in every]
        running = dict(ran) | {name: every[name] for name in named if name not in made}
        # a function that names a maker may call what it gives
        makers = every.keys() - _closed(running, bodies).keys() - made.keys()
        running |= {path: every[path] for path, names in bodies if makers.intersection(names)}
        running = _closed(running, bodies)
        found = cls(every, running, set())
        for name, item, each in _functions(scope):
            if name in every and name not in running:
                later = _means(item, each, modules, made=True)
                found.factories.update(() if running.keys() & set(later) else {name})
        return found

    def only_binds(self, each: ModuleVersions, item: Item, modules: Collection[str]) -> str | None:
        """The path to blame when a statement binds something made that reaches a change when it is
        called; else None.
        """
        assert each.new is not None
        for callee, called in made_by(item, each.new.outline.imports).items():
            for name in meanings(each.new.outline, item.scope, callee, modules):
                if name in self.made and self.quiet(name, called=called):
                    return self.made[name]
        return None

    def without(self, values: Collection[Name]) -> Reach:
        """The same; values that change are no calls."""
        made = {name: why for name, why in self.made.items() if name not in values}
        return replace(self, made=made)

    def quiet(self, name: Name, *, called: bool) -> bool:
        """Whether a call only makes what reaches a change; `called`: what it gives decorates."""
        return name not in self.ran and (not called or name in self.factories)


def made_by(item: Item, imports: Mapping[str, str]) -> dict[str, bool]:
    """The calls of a statement that binds just what they give, by the name called; whether it is
    a call of what the name gave (`@route("/")`).
    """
    node = item.node
    if isinstance(node, FunctionNode):
        callees = [
            (each.func, True) if isinstance(each, ast.Call) else (each, False)
            for each in node.decorator_list
        ]
        found = {dotted(callee) or "?": factory for callee, factory in callees}
        own = [name for name in found if not _is_quiet(name, imports)]
        return found if len(own) < 2 else {}
    value = getattr(node, "value", None)
    target = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if item.kind != "value" or not isinstance(value, ast.Call) or len(target) != 1:
        return {}
    name = dotted(value.func)
    calls = [dotted(part.func) for part in ast.walk(value) if isinstance(part, ast.Call)]
    plain = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target[0], ast.Name)
    return {name: False} if plain and name is not None and calls.count(name) == 1 else {}


def _is_quiet(name: str, imports: Mapping[str, str]) -> bool:
    known = origin(name, imports) in _QUIET
    return known or name.rpartition(".")[2] in {"setter", "getter", "deleter"}


def reachable(
    scope: Mapping[str, ModuleVersions], changed: Mapping[Name, str], modules: Collection[str]
) -> dict[Name, str]:
    """`changed`, and every function, class and name in `scope` that may reach one of them by name,
    by itself or by what it made.

    `modules` are the names of all modules that a dotted name may lead to.
    """
    if not changed:
        return {}
    bodies: list[tuple[Name, Iterable[Name]]] = []
    for each in scope.values():
        for item in each.new.outline.items if each.new else ():
            assert each.new is not None
            for path, read in _body_names(item, each.new.outline.imports):
                bodies.append(((each.name, path), meanings(each.new.outline, "", read, modules)))
            for path, full in _inner_imports(item, each.new.outline):
                bodies.append(((each.name, path), split(full, modules)))
    return _closed(changed, bodies)


def _closed(
    reached: Mapping[Name, str], bodies: Iterable[tuple[Name, Iterable[Name]]]
) -> dict[Name, str]:
    """`reached`, and what reaches it by the names in `bodies`."""
    graph: dict[Name, list[Name]] = {}
    for path, names in bodies:
        for name in names:
            graph.setdefault(name, []).append(path)
    found = dict(reached)
    pending = list(found)
    while pending:
        name = pending.pop()
        for caller in graph.get(name, ()):
            if caller not in found:
                found[caller] = found[name]
                pending.append(caller)
    return found


def _body_names(item: Item, imports: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(path, dotted name read) for what runs when the path, or what it makes, is called, or stands
    for in an alias: every global name in a body counts, whether read or called.
    """
    if item.kind == "function":
        yield from ((item.qualname, name) for name in item.global_names)
        yield from ((item.qualname, name) for name in made_by(item, imports))
    elif item.kind == "class":
        for child in item.children:
            if child.kind == "function":
                names = child.global_names
                yield from ((child.qualname, name) for name in names)
                yield from ((child.qualname, name) for name in made_by(child, imports))
                if child.name in _RUN_BY_CLASS:
                    yield from ((item.qualname, name) for name in names)
    elif item.kind == "value":
        yield from ((item.qualname, name) for name in [*_alias(item), *made_by(item, imports)])


def _inner_imports(item: Item, outline: Outline) -> Iterator[tuple[str, str]]:
    """(path, full dotted name read) for what functions and methods import when they are called."""
    if item.kind == "function":
        yield from ((item.qualname, full) for full in inner_reads(item.node, outline))
    elif item.kind == "class":
        for child in item.children:
            if child.kind == "function":
                for full in inner_reads(child.node, outline):
                    yield child.qualname, full
                    if child.name in _RUN_BY_CLASS:
                        yield item.qualname, full


def _alias(item: Item) -> list[str]:
    value = getattr(item.node, "value", None)
    name = dotted(value) if isinstance(value, ast.expr) else None
    return [] if name is None else [name]


def _functions(scope: Mapping[str, ModuleVersions]) -> Iterator[tuple[Name, Item, ModuleVersions]]:
    for each in scope.values():
        for item in each.new.outline.every() if each.new else ():
            if item.kind == "function":
                yield (each.name, item.qualname), item, each


def _run_bodies(
    scope: Mapping[str, ModuleVersions], modules: Collection[str]
) -> Iterator[tuple[Name, Iterator[Name]]]:
    """Paths with the names that are read when they are called."""
    for name, item, each in _functions(scope):
        yield name, _means(item, each, modules, made=False)
        if item.name in _RUN_BY_CLASS and item.scope:
            yield (each.name, item.scope), _means(item, each, modules, made=False)
    for each in scope.values():
        for item in each.new.outline.items if each.new else ():
            if item.kind == "value" and each.new is not None:
                for read in _alias(item):
                    found = meanings(each.new.outline, "", read, modules)
                    yield (each.name, item.qualname), found


def _means(
    item: Item, each: ModuleVersions, modules: Collection[str], *, made: bool
) -> Iterator[Name]:
    assert each.new is not None
    outline = each.new.outline
    for read in item.run_names(outline.imports, made=made):
        yield from meanings(outline, "", read, modules)
    for full in inner_reads(item.node, outline):  # also what the functions inside of it import
        yield from split(full, modules)


def bound(scope: Mapping[str, ModuleVersions]) -> Iterator[tuple[Name, Item, ModuleVersions]]:
    """Statements by the names of values and of decorated functions, which a call may have given."""
    for each in scope.values():
        for item in each.new.outline.every() if each.new else ():
            decorated = isinstance(item.node, FunctionNode) and item.node.decorator_list
            if item.kind == "value" or decorated:
                yield (each.name, item.qualname), item, each
