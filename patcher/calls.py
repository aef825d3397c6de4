"""A statement which called, when it ran, what would give another answer now is stale.

That is so for a call of a function whose code changes, of one that reads a changed value, of a
class whose initialiser does, and of whatever reaches one of these by name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.called import (
    decorates_otherwise,
    does_otherwise,
    runs_otherwise,
    surely_runs_otherwise,
    takes_otherwise,
)
from zdpatch.patcher.edits import Edit, ModuleVersions
from zdpatch.patcher.held import HELD, held_names, used
from zdpatch.patcher.hooks import may_call_methods
from zdpatch.patcher.inner import EVERY, executed
from zdpatch.patcher.named import Names, made_by
from zdpatch.patcher.names import dotted
from zdpatch.patcher.own_names import GIVING, gives_name, may_be_read, own_names
from zdpatch.patcher.purity import origin
from zdpatch.patcher.reached import Reach
from zdpatch.patcher.spread import Name, meanings, was_there

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from zdpatch.patcher.items import Item

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
    full, outer, held = changed.reaches(scope, versions)
    full, outer = full.without(changed.values), outer.without(changed.values)
    walked = changed.walked
    for each in scope.values():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            # a decorator is judged without the wrapper it makes, which is patched where it lives
            reached = outer if item.kind == "function" else full
            cause = taken = used(each, item, held, versions)
            cause = cause or _reached(each, item, versions, reached, resolve)
            cause = cause or _decorating(each, item, changed.given, versions)
            cause = cause or whole(each, item, changed.replaced)
            cause = cause or _executed(each, item, walked)
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                how = "call" if taken is None else HELD
                yield Edit(each.name, qualname, "stale", (item,), (item,), cause=cause, detail=how)


def _reached(
    each: ModuleVersions,
    item: Item,
    versions: Mapping[str, ModuleVersions],
    reach: Reach,
    resolve: Resolve,
) -> str | None:
    assert each.new is not None
    reached = reach.made
    makers = made_by(item, each.new.outline.imports)
    for call in sorted(item.calls):
        for name in meanings(each.new.outline, item.scope, call, versions):
            if name not in reached:
                continue
            only_made = call in makers and reach.quiet(name, called=makers[call])
            if not only_made or may_call_methods(each, item.scope, versions):
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


def _decorating(
    each: ModuleVersions,
    item: Item,
    given: Mapping[Name, str],
    versions: Mapping[str, ModuleVersions],
) -> str | None:
    """A function that changes, of which what it gave has decorated the definition (`@f(1)`)."""
    assert each.new is not None
    for decorator in getattr(item.node, "decorator_list", ()) if given else ():
        name = dotted(decorator.func) if isinstance(decorator, ast.Call) else None
        for meant in meanings(each.new.outline, item.scope, name or "", versions):
            if meant in given:
                return given[meant]
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
    aliases = own_names(each.new.outline) if values else set[str]()
    if item.calls & GIVING or aliases & item.reads:
        if aliases & set(item.names) and gives_name(item):
            return None
        for (module, path), why in values.items():
            if module == each.name and may_be_read(item, path, each.new.outline):
                return why
    return None


@dataclass(frozen=True)
class Changed:
    """What is another now, each with the path to blame. `full`: functions whose code differs at
    all, and values. `outer`: the same, without functions of which only what they make differs.
    `ran` and `ran_outer`: of these, what differs when it is called itself, and not only when what
    it gives back is (see `Reach`). `given`: functions that give back what does something else.
    `held`: names bound to what one of `full` gave, of which only that differs.
    `made`: initialisers; `methods`: what of classes is changed, there or gone, initialisers aside.
    `names`: what definitions name, kept for whoever asks again.
    """

    full: Mapping[Name, str]
    outer: Mapping[Name, str]
    ran: Mapping[Name, str]
    ran_outer: Mapping[Name, str]
    values: Mapping[Name, str]
    replaced: Mapping[Name, str]
    made: Mapping[Name, str]
    methods: Mapping[Name, str]
    given: Mapping[Name, str]
    held: Mapping[Name, str]
    names: Names = field(default_factory=Names)

    @classmethod
    def of(
        cls,
        edits: Collection[Edit],
        versions: Mapping[str, ModuleVersions],
        values: Mapping[Name, str],
        new: Collection[Name] = (),
        names: Names | None = None,
    ) -> Changed:
        """From the edits, and the names with another value, of which `new` had none before."""
        full, outer, ran = dict(values), dict(values), dict(values)
        given: dict[Name, str] = {}
        for edit in edits:
            name = (edit.module, edit.qualname)
            if edit.kind == "function" and does_otherwise(edit):
                full[name] = edit.path
                if surely_runs_otherwise(edit, versions):
                    outer[name] = edit.path
                if runs_otherwise(edit, versions):
                    ran[name] = edit.path
                if decorates_otherwise(edit):
                    given[name] = edit.path
            if edit.kind == "function" and takes_otherwise(edit):
                full[name] = outer[name] = ran[name] = edit.path
            elif edit.kind == "nested" and edit.old[-1].kind == "value":  # a named lambda
                lambdas = {(edit.module, each): edit.path for each in edit.old[-1].names}
                full |= lambdas
                ran |= lambdas
        # allowed, with a count of instances
        made = {name: why for name, why in full.items() if _last(name) in _MAKING}
        full = {name: why for name, why in full.items() if name not in made}
        replaced = {name: why for name, why in values.items() if name not in new}
        moved = {(e.module, e.qualname): e.path for e in edits if e.kind in {"added", "removed"}}
        methods = {name: why for name, why in {**moved, **full}.items() if "." in name[1]}
        methods = {name: why for name, why in methods.items() if _last(name) not in _MAKING}
        ran = {name: why for name, why in ran.items() if name in full}
        names = names or Names()
        return cls(full, outer, ran, outer, values, replaced, made, methods, given, {}, names)

    def through(self, versions: Mapping[str, ModuleVersions]) -> Changed:
        """The same, with what reaches it in `versions`."""
        full, outer, held = self.reaches(versions, versions, walked={})
        return replace(
            self, full=full.made, outer=outer.made, ran=full.ran, ran_outer=outer.ran, held=held
        )

    def also(self, methods: Mapping[Name, str]) -> Changed:
        """The same, with more methods of classes."""
        return replace(self, methods={**methods, **self.methods}) if methods else self

    @cached_property
    def walked(self) -> dict[Name, str]:
        """What stands for every name of a module of which one has another value."""
        return {(m, EVERY): why for (m, name), why in self.replaced.items() if "." not in name}

    def reaches(
        self,
        scope: Mapping[str, ModuleVersions],
        versions: Mapping[str, ModuleVersions],
        walked: Mapping[Name, str] | None = None,
    ) -> tuple[Reach, Reach, dict[Name, str]]:
        """What reaches `full` and `outer` in the modules of `scope`, and the names which hold what
        has been made and not run.
        """
        more = {**(self.walked if walked is None else walked), **self.held}
        named = self.names.of(scope, versions)
        alike = self.full == self.outer and self.ran == self.ran_outer
        while True:
            full = outer = Reach.of(named, {**self.full, **more}, {**self.ran, **more})
            if not alike:
                outer = Reach.of(named, {**self.outer, **more}, {**self.ran_outer, **more})
            held = held_names(named, (full, outer), self.held)
            fresh = {name: why for name, why in held.items() if name not in full.made}
            if not fresh:
                return full, outer, held
            more |= fresh


def _last(name: Name) -> str:
    return name[1].rpartition(".")[2]
