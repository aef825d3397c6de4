"""A statement which called, when it ran, what would give another answer now is stale.

That is so for a call of a function whose code changes, of one that reads a changed value, of a
class whose initialiser does, and of whatever reaches one of these by name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.edits import BODY, Edit, ModuleVersions
from zdpatch.patcher.inner import EVERY, executed, inner_reads
from zdpatch.patcher.names import dotted
from zdpatch.patcher.nested import alone
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import Name, meanings, split, was_there

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import CodeType

    from zdpatch.patcher.outline import Item, Outline

# What runs when a class is called, or put into another class.
_RUN_BY_CLASS: Final = frozenset({"__init__", "__new__", "__post_init__", "__set_name__"})
_MAKING: Final = frozenset({"__init__", "__new__", "__post_init__"})
Resolve = Callable[[str, str], "Name | None"]


def stale_calls(
    versions: Mapping[str, ModuleVersions], changed: Changed, resolve: Resolve, only: str = ""
) -> Iterator[Edit]:
    """Edits of kind "stale" for statements of both sides that reached something of `changed`.

    `resolve(module, "a.go")` gives the method (module, "C.go") that a call on a live object ran;
    `only` restricts the statements, and the callers looked at, to those of one module.
    """
    scope = {only: versions[only]} if only else versions
    walked = {(m, EVERY): why for (m, name), why in changed.replaced.items() if "." not in name}
    full, outer = (
        {n: w for n, w in reachable(scope, names, versions).items() if n not in changed.values}
        for names in ({**changed.full, **walked}, {**changed.outer, **walked})
    )
    for each in scope.values():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            # a decorator is judged without the wrapper it makes, which is patched where it lives
            reached = outer if item.kind == "function" else full
            cause = _reached(each, item, versions, reached, resolve)
            cause = cause or whole(each, item, changed.replaced)
            cause = cause or _executed(each, item, walked)
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="call"
                )


def _reached(
    each: ModuleVersions,
    item: Item,
    versions: Mapping[str, ModuleVersions],
    reached: Mapping[Name, str],
    resolve: Resolve,
) -> str | None:
    assert each.new is not None
    for call in sorted(item.calls):
        for name in meanings(each.new.outline, item.scope, call, versions):
            if name in reached:
                return reached[name]
        ran = resolve(each.name, call) if "." in call else None
        if ran is not None and ran in reached:
            return reached[ran]
    if item.kind == "class":  # a class statement runs a hook of its bases
        for base in sorted(item.reads):
            for module, derived in meanings(each.new.outline, item.scope, base, versions):
                hook = (module, f"{derived}.__init_subclass__")
                if hook in reached:
                    return reached[hook]
    return None


def _executed(each: ModuleVersions, item: Item, walked: Mapping[Name, str]) -> str | None:
    """What a text that the statement executes took of a whole module."""
    assert each.new is not None
    modules = executed(item.node, each.new.outline) if "exec" in item.calls else ()
    return next((walked[name, EVERY] for name in modules if (name, EVERY) in walked), None)


def whole(each: ModuleVersions, item: Item, values: Mapping[Name, str]) -> str | None:
    """A call that got a module or class as an object may have read every name of it."""
    assert each.new is not None
    imports = each.new.outline.imports
    for _, given in sorted(item.passed):
        for module, path in values:
            owner = path.rpartition(".")[0]
            full = f"{module}.{owner}" if owner else module
            if origin(given, imports) == full or (each.name, given) == (module, owner):
                return values[module, path]
    if item.calls & {"globals", "locals", "vars"}:
        return next((why for (module, _), why in values.items() if module == each.name), None)
    return None


@dataclass(frozen=True, slots=True)
class Changed:
    """What is another now, each with the path to blame. `full`: functions whose code differs at
    all, and values. `outer`: the same, without functions of which only what they make differs.
    `made`: initialisers; `methods`: what of classes is changed, there or gone, initialisers aside.
    """

    full: Mapping[Name, str]
    outer: Mapping[Name, str]
    values: Mapping[Name, str]
    replaced: Mapping[Name, str]
    made: Mapping[Name, str]
    methods: Mapping[Name, str]

    @classmethod
    def of(
        cls, edits: Collection[Edit], values: Mapping[Name, str], new: Collection[Name] = ()
    ) -> Changed:
        """From the edits, and the names with another value, of which `new` had none before."""
        full, outer = dict(values), dict(values)
        for edit in edits:
            if edit.kind == "function" and BODY in edit.facets:
                full[edit.module, edit.qualname] = edit.path
                if _outer_differs(*edit.codes):
                    outer[edit.module, edit.qualname] = edit.path
            elif edit.kind == "nested" and edit.old[-1].kind == "value":  # a named lambda
                full |= {(edit.module, name): edit.path for name in edit.old[-1].names}
        # allowed, with a count of instances
        made = {name: why for name, why in full.items() if _last(name) in _MAKING}
        full = {name: why for name, why in full.items() if name not in made}
        replaced = {name: why for name, why in values.items() if name not in new}
        moved = {(e.module, e.qualname): e.path for e in edits if e.kind in {"added", "removed"}}
        methods = {name: why for name, why in {**moved, **full}.items() if "." in name[1]}
        methods = {name: why for name, why in methods.items() if _last(name) not in _MAKING}
        return cls(full, outer, values, replaced, made, methods)

    def through(self, versions: Mapping[str, ModuleVersions]) -> Changed:
        """The same, with what reaches it in `versions`."""
        full, outer = (reachable(versions, names, versions) for names in (self.full, self.outer))
        return replace(self, full=full, outer=outer)


def _last(name: Name) -> str:
    return name[1].rpartition(".")[2]


def _outer_differs(old: CodeType | None, new: CodeType | None) -> bool:
    return old is not None and new is not None and alone(old) != alone(new)


def reachable(
    scope: Mapping[str, ModuleVersions], changed: Mapping[Name, str], modules: Collection[str]
) -> dict[Name, str]:
    """`changed`, and every function and class in `scope` that may reach one of them by name.

    `modules` are the names of all modules that a dotted name may lead to.
    """
    reached = dict(changed)
    pending = list(reached)
    callers = _call_graph(scope, modules) if pending else {}
    while pending:
        name = pending.pop()
        for caller in callers.get(name, ()):
            if caller not in reached:
                reached[caller] = reached[name]
                pending.append(caller)
    return reached


def _call_graph(
    scope: Mapping[str, ModuleVersions], modules: Collection[str]
) -> dict[Name, list[Name]]:
    """Callers by what they name: every global name in a body counts, whether read or called."""
    found: dict[Name, list[Name]] = {}
    for each in scope.values():
        if each.new is None:
            continue
        for item in each.new.outline.items:
            for path, read in _body_names(item):
                for name in meanings(each.new.outline, "", read, modules):
                    found.setdefault(name, []).append((each.name, path))
            for path, full in _inner_imports(item, each.new.outline):
                for name in split(full, modules):
                    found.setdefault(name, []).append((each.name, path))
    return found


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


def _body_names(item: Item) -> Iterator[tuple[str, str]]:
    """(path, dotted name read) for what runs when the path is called, or stands for in an alias."""
    if item.kind == "function":
        yield from ((item.qualname, name) for name in item.global_names)
    elif item.kind == "class":
        for child in item.children:
            if child.kind == "function":
                names = child.global_names
                yield from ((child.qualname, name) for name in names)
                if child.name in _RUN_BY_CLASS:
                    yield from ((item.qualname, name) for name in names)
    elif item.kind == "value":
        value = getattr(item.node, "value", None)
        if isinstance(value, ast.expr) and (alias := dotted(value)) is not None:
            yield item.qualname, alias
