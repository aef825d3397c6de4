"""Where the content of a data file goes is followed through the functions of its package: read at
each use, or kept somewhere.

By the text, and in doubt the worse is assumed. Order inside a function does not count, nor which
way a branch went. Paths alone are not followed into what keeps them: those that live are looked for
in the process (see `folders`).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.bodyflow import Body, Keep, says_path
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spelling import parameters
from zdpatch.patcher.spread import meanings, split
from zdpatch.patcher.ways import CONTENT, NOTHING, Files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.outline import Item, Outline
    from zdpatch.patcher.spread import Name

_ROUNDS: Final = 12  # names found by names found by names
_PROPERTIES: Final = frozenset({"property", "cached_property"})
_EMPTIED: Final = frozenset({"functools.cache", "functools.lru_cache"})


@dataclass
class Flow:
    """What the names of some modules give of the files, when all of it is followed.

    `names`: of variables, and of calls of functions (those in `functions`); `read`: statements that
    had the content when they ran; `kept`: where functions keep it.
    """

    outlines: Mapping[str, Outline]
    files: Files
    names: dict[Name, int] = field(default_factory=dict["Name", int])
    functions: set[Name] = field(default_factory=set["Name"])
    given: set[Name] = field(default_factory=set["Name"])
    attributes: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    methods: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    read: dict[tuple[str, int], Item] = field(default_factory=dict["tuple[str, int]", "Item"])
    kept: set[Keep] = field(default_factory=set[Keep])
    readers: dict[Name, Item] = field(default_factory=dict["Name", "Item"])

    def solve(self) -> Flow:
        """Follow until nothing new is found."""
        for _ in range(_ROUNDS):
            before = self._size()
            for outline in self.outlines.values():
                for item in outline.every():
                    self._follow(outline, item)
            if self._size() == before:
                break
        return self

    def _size(self) -> tuple[object, ...]:
        levels = sum(self.names.values()), sum(sum(e.values()) for e in self.attributes.values())
        others = (self.given, self.read, self.kept, self.readers, self.functions)
        return (*levels, *map(len, others))

    def _follow(self, outline: Outline, item: Item) -> None:
        if item.kind in {"import", "star", "field"}:
            return
        if isinstance(item.node, FunctionNode):
            self._function(outline, item, item.node)
        elif not isinstance(item.node, ast.ClassDef):
            self._statement(outline, item)

    def _statement(self, outline: Outline, item: Item) -> None:
        body = Body(self, outline, item.scope, [item.node], scope_level=True)
        body.run()
        for name, level in body.variables.items():
            self.note(outline, item.scope, name, level)
        if body.most == CONTENT or (body.most and says_path(item.node)):
            self.read[outline.name, item.line] = item

    def _function(self, outline: Outline, item: Item, node: FunctionNode) -> None:
        header = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        if Body(self, outline, item.scope, header, scope_level=True).run() == CONTENT:
            self.read[outline.name, item.line] = item
        name = (outline.name, item.qualname)
        body = Body(self, outline, item.scope, node.body, node=node, qualname=item.qualname)
        if name in self.given:
            others = set(parameters(node)) - ({body.own} if item.scope else set())
            body.variables |= dict.fromkeys(others, CONTENT)
        if body.run() == CONTENT or body.gives:
            self.readers[name] = item
        self.kept |= body.kept
        self.note(outline, item.scope, item.name, body.gives)
        if not (decorators := {*map(_last, node.decorator_list)}) & _PROPERTIES:
            self.functions.add(name)
            self.methods.add((outline.name, item.name))
        if body.gives == CONTENT and (kept := _remembers(outline, item, node, decorators)):
            self.kept.add(kept)

    def note(self, outline: Outline, scope: str, name: str, level: int) -> None:
        """A name of a scope gives that."""
        if not level:
            return
        found = (outline.name, f"{scope}.{name}" if scope else name)
        self.names[found] = max(level, self.names.get(found, NOTHING))
        if scope:
            self.attribute(outline.name, name, level)

    def attribute(self, module: str, name: str, level: int) -> None:
        """An attribute of objects, or of a class, of this module gives that."""
        modules = self.attributes.setdefault(name, {})
        modules[module] = max(level, modules.get(module, NOTHING))

    def of(
        self,
        outline: Outline,
        scope: str,
        imports: Mapping[str, str],
        name: str,
        *,
        called: bool = False,
    ) -> int:
        """What a dotted name gives, or a call of it, read in a scope of a module, with `imports` of
        the function too.
        """
        every = {*meanings(outline, scope, name, self.outlines)}
        every |= {*split(origin(name, imports), self.outlines)}
        found = every & self.names.keys()
        levels = [self.names[each] for each in found if called or each not in self.functions]
        attribute = name.rpartition(".")[2] if "." in name else ""
        for module, level in self.attributes.get(attribute, {}).items():
            method = (module, attribute) in self.methods
            if (called or not method) and _knows(outline, imports, module):
                levels.append(level)
        return max(levels, default=NOTHING)


def _knows(outline: Outline, imports: Mapping[str, str], module: str) -> bool:
    """Whether a module may have objects of another one: it is that, or imports from it."""
    sources = imports.values()
    return module == outline.name or any(f"{s}.".startswith(f"{module}.") for s in sources)


def _last(node: ast.expr) -> str:
    """The last name of a decorator."""
    called = node.func if isinstance(node, ast.Call) else node
    return (dotted(called) or "").rpartition(".")[2]


def _remembers(
    outline: Outline, item: Item, node: FunctionNode, decorators: set[str]
) -> Keep | None:
    """Where a decorator keeps what a function gives; what `functools` caches can be emptied."""
    place = (outline.name, item.qualname, node.lineno)
    if "cached_property" in decorators:
        what = f"objects of {item.scope} (.{item.name})"
        return Keep(*place, "object", item.scope, what)
    origins = {origin(dotted(d.func if isinstance(d, ast.Call) else d) or "", outline.imports)
               for d in node.decorator_list}  # fmt: skip
    others = {each.rpartition(".")[2] for each in origins - _EMPTIED}
    caches = sorted(each for each in others if "cache" in each.lower() or "memo" in each.lower())
    return Keep(*place, "other", caches[0], f"what {caches[0]} remembers") if caches else None
