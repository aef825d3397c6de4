"""What definitions name, and so may come to: read once for each module, and turned round to find
who names a thing.

A name counts whether it is read or called: in the body, when the definition is called; in what it
made, when that is.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.inner import inner_reads
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import Name, meanings, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

_Body = tuple[Name, list[Name]]  # a path, and what it names
# A path, its statement, and what that binds a call of; whether it is a call of what the name gave.
_Bound = tuple[Name, "Item", list[tuple[Name, bool]]]
# What runs when a class is called, or put into another class.
_RUN_BY_CLASS: Final = frozenset({"__init__", "__new__", "__post_init__", "__set_name__"})
# Decorators that call nothing of what those below them made.
_QUIET: Final = frozenset(
    {"property", "staticmethod", "classmethod", "abc.abstractmethod", "typing.override",
     "typing.final", "typing_extensions.override", "functools.lru_cache", "functools.cache",
     "functools.cached_property", "contextlib.contextmanager"}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bodies:
    """What the definitions of one module name. `modules`: the names of all modules that a dotted
    name may lead to.
    """

    name: str
    outline: Outline
    modules: frozenset[str]
    _made: dict[int, list[Name]] = field(default_factory=dict[int, list[Name]])

    @cached_property
    def reads(self) -> list[_Body]:
        """What each path may come to, by itself or by what it made."""
        found: list[_Body] = []
        for item in self.outline.items:
            for path, read in _body_names(item, self.outline.imports):
                found.append(((self.name, path), [*self._means(read)]))
            for path, full in _inner_imports(item, self.outline):
                found.append(((self.name, path), [*split(full, self.modules)]))
        return found

    @cached_property
    def functions(self) -> list[tuple[Name, Item]]:
        """Functions and methods by path."""
        every = (item for item in self.outline.every() if item.kind == "function")
        return [((self.name, item.qualname), item) for item in every]

    @cached_property
    def run(self) -> list[_Body]:
        """What functions, and classes by their initialisers, come to when they are called."""
        found: list[_Body] = []
        for name, item in self.functions:
            named = self._run_by(item, made=False)
            found.append((name, named))
            if item.name in _RUN_BY_CLASS and item.scope:
                found.append(((self.name, item.scope), named))
        return found

    @cached_property
    def aliases(self) -> list[_Body]:
        """What stands for something else under another name."""
        return [
            ((self.name, item.qualname), [*self._means(read)])
            for item in self.outline.items
            if item.kind == "value"
            for read in _alias(item)
        ]

    @cached_property
    def bound(self) -> list[_Bound]:
        """Values and decorated functions, which a call may have given."""
        return [
            ((self.name, item.qualname), item, [*self._makers(item)])
            for item in self.outline.every()
            if item.kind == "value"
            or (isinstance(item.node, FunctionNode) and item.node.decorator_list)
        ]

    def made(self, item: Item) -> list[Name]:
        """What a function comes to when what it gives back is called."""
        if id(item) not in self._made:
            self._made[id(item)] = self._run_by(item, made=True)
        return self._made[id(item)]

    def _run_by(self, item: Item, *, made: bool) -> list[Name]:
        reads = item.run_names(self.outline.keepers, made=made)
        found = [name for read in reads for name in self._means(read)]
        # also what the functions inside of it import
        full = inner_reads(item.node, self.outline)
        return found + [name for each in full for name in split(each, self.modules)]

    def _makers(self, item: Item) -> Iterator[tuple[Name, bool]]:
        for callee, called in made_by(item, self.outline.imports).items():
            for name in meanings(self.outline, item.scope, callee, self.modules):
                yield name, called

    def _means(self, read: str) -> Iterator[Name]:
        return meanings(self.outline, "", read, self.modules)


@dataclass(frozen=True, eq=False)
class Named:
    """What the definitions of some modules name."""

    bodies: tuple[Bodies, ...]

    @cached_property
    def run(self) -> list[_Body]:
        """See `Bodies.run`; names that stand for something come last."""
        found = [body for each in self.bodies for body in each.run]
        return found + [body for each in self.bodies for body in each.aliases]

    @cached_property
    def bound(self) -> list[_Bound]:
        """See `Bodies.bound`."""
        return [one for each in self.bodies for one in each.bound]

    @cached_property
    def readers(self) -> dict[Name, list[Name]]:
        """Who may come to a name."""
        return _turned(body for each in self.bodies for body in each.reads)

    @cached_property
    def runners(self) -> dict[Name, list[Name]]:
        """Who comes to a name when it is called."""
        return _turned(self.run)


class Names:
    """What definitions name, kept for the modules that were asked for last."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[object, Bodies]] = {}
        self._last: Named | None = None

    def of(self, scope: Mapping[str, ModuleVersions], modules: Collection[str]) -> Named:
        """What the definitions of `scope` name. `modules` are the names of all modules that a
        dotted name may lead to.
        """
        every = frozenset(modules)
        bodies = tuple(
            self._of(each.name, each.new.outline, every)
            for each in scope.values()
            if each.new is not None
        )
        if self._last is not None and self._last.bodies == bodies:
            return self._last
        found = Named(bodies)
        if len(scope) > 1 or self._last is None:
            self._last = found
        return found

    def _of(self, name: str, outline: Outline, modules: frozenset[str]) -> Bodies:
        key = (outline, len(outline.imports), modules)  # names that are learnt are only added
        known = self._bodies.get(name)
        if known is None or known[0] != key:
            known = self._bodies[name] = key, Bodies(name, outline, modules)
        return known[1]


def closed(
    reached: Mapping[Name, str],
    namers: Mapping[Name, list[Name]],
    within: Collection[Name] | None = None,
) -> dict[Name, str]:
    """`reached`, and what comes to it by `namers`, step by step; only of `within`, if given."""
    found = dict(reached)
    pending = list(found)
    while pending:
        name = pending.pop()
        for caller in namers.get(name, ()):
            if caller not in found and (within is None or caller in within):
                found[caller] = found[name]
                pending.append(caller)
    return found


def _turned(bodies: Iterable[_Body]) -> dict[Name, list[Name]]:
    found: dict[Name, list[Name]] = {}
    for path, names in bodies:
        for name in names:
            found.setdefault(name, []).append(path)
    return found


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
    if item.kind != "value" or not isinstance(value, ast.Call):
        return {}
    target = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if len(target) != 1:
        return {}
    name = dotted(value.func)
    calls = [dotted(part.func) for part in ast.walk(value) if isinstance(part, ast.Call)]
    plain = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target[0], ast.Name)
    return {name: False} if plain and name is not None and calls.count(name) == 1 else {}


def _is_quiet(name: str, imports: Mapping[str, str]) -> bool:
    known = origin(name, imports) in _QUIET
    return known or name.rpartition(".")[2] in {"setter", "getter", "deleter"}


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
