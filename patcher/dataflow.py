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

from zdpatch.patcher.bodyflow import Body, Keep, imported, says_path
from zdpatch.patcher.climbs import NOWHERE
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spelling import parameters
from zdpatch.patcher.spread import meanings, split
from zdpatch.patcher.ways import CONTENT, NOTHING, Files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.spread import Name

_ROUNDS: Final = 12  # names found by names found by names
_PROPERTIES: Final = frozenset({"property", "cached_property"})
_REMEMBERS: Final = ("cache", "memo", "once", "lazy", "singleton", "fixture", "persist")
_EMPTIED: Final = frozenset({"functools.cache", "functools.lru_cache"})


@dataclass
class Flow:
    """What the names of some modules give of the files, when all of it is followed.

    `names`: of variables, and of calls of functions (those in `functions`); `read`: statements that
    had the content when they ran; `kept`: where functions keep it; `high`: what goes above the
    package's folder (see `climbs`).
    """

    outlines: Mapping[str, Outline]
    files: Files
    names: dict[Name, int] = field(default_factory=dict["Name", int])
    functions: set[Name] = field(default_factory=set["Name"])
    given: dict[Name, int] = field(default_factory=dict["Name", int])
    seen: set[int | str] = field(default_factory=set["int | str"])
    known: dict[str, Mapping[str, str]] = field(default_factory=dict[str, "Mapping[str, str]"])
    climbs: dict[Name, int] = field(default_factory=dict["Name", int])
    high: dict[Name, Item] = field(default_factory=dict["Name", "Item"])
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
        others = (
            self.given,
            self.climbs,
            self.high,
            self.read,
            self.kept,
            self.readers,
            self.functions,
        )
        return (*levels, *(len(each) for each in others))

    def imports(self, outline: Outline) -> Mapping[str, str]:
        """What names of a module stand for, those too that it tries to import."""
        if outline.name not in self.known:
            nodes = [node for node in outline.tree.body if isinstance(node, ast.Try | ast.If)]
            parts = [part for node in nodes for part in ast.walk(node)]
            tried = imported(reversed(parts), outline)
            self.known[outline.name] = {**tried, **outline.imports}
        return self.known[outline.name]

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
        for name, level in body.functions.items():
            self.functions.add((outline.name, f"{item.scope}.{name}" if item.scope else name))
            self.note(outline, item.scope, name, level)
        for name, steps in body.climbs.items():
            found = (outline.name, f"{item.scope}.{name}" if item.scope else name)
            self.climbs[found] = max(steps, self.climbs.get(found, NOWHERE))
        self._climbs(outline, item, body)
        if item.scope and (made := _factory(item.node, body)):
            place = (outline.name, item.scope, item.line, "object", item.scope)
            self.kept.add(Keep(*place, f"objects of {item.scope} (by {made})"))
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
            body.variables |= dict.fromkeys(others, self.given[name])
        if body.run() == CONTENT or body.gives:
            self.readers[name] = item
        self._climbs(outline, item, body)
        self.kept |= body.kept
        self.note(outline, item.scope, item.name, body.gives)
        if not (decorators := {*map(_last, node.decorator_list)}) & _PROPERTIES:
            self.functions.add(name)
            self.methods.add((outline.name, item.name))
        if body.gives == CONTENT and (kept := self._remembers(outline, item, node, decorators)):
            self.kept.add(kept)

    def _climbs(self, outline: Outline, item: Item, body: Body) -> None:
        """Note what goes above the folder of the package, from there or on the way to the files."""
        reads = body.most == CONTENT or bool(body.gives)
        if body.writes() or (body.highest() > 0 and (reads or self.files.own(outline.name))):
            self.high[outline.name, item.qualname or f":{item.line}"] = item

    def _remembers(
        self, outline: Outline, item: Item, node: FunctionNode, decorators: set[str]
    ) -> Keep | None:
        """Where a decorator keeps what a function gives; what `functools` caches can be emptied."""
        place = (outline.name, item.qualname, node.lineno)
        if "cached_property" in decorators:
            what = f"objects of {item.scope} (.{item.name})"
            return Keep(*place, "object", item.scope, what)
        for each in node.decorator_list:
            name = dotted(each.func if isinstance(each, ast.Call) else each) or ""
            full = origin(name, outline.imports)
            known = any(word in full.rpartition(".")[2].lower() for word in _REMEMBERS)
            if full not in _EMPTIED and (known or self._wraps(outline, item.scope, name)):
                return Keep(*place, "other", name, f"what {name} remembers")
        return None

    def _wraps(self, outline: Outline, scope: str, name: str) -> bool:
        """Whether a decorator of these modules has places to keep things in."""
        for module, path in meanings(outline, scope, name, self.outlines):
            inner, _, last = path.rpartition(".")
            binders = self.outlines[module].binders(inner, last)
            if any(_stateful(item.node) for item in binders if item.kind in {"function", "class"}):
                return True
        return False

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


def _factory(node: ast.stmt, body: Body) -> str:
    """The function that fills a field of objects with the content, if one does."""
    words = (w for p in ast.walk(node) if isinstance(p, ast.Call) for w in p.keywords)
    for word in words:
        name = dotted(word.value)
        if name and word.arg in {"default_factory", "factory"} and body.ways.called(name):
            return name
    return ""


def _stateful(node: ast.stmt) -> bool:
    """Whether a decorator may keep what the functions give that it wraps."""
    if isinstance(node, ast.ClassDef):
        return True
    inner = [p for p in ast.walk(node) if isinstance(p, FunctionNode) and p is not node]
    parts = [part for each in inner for part in ast.walk(each)]
    stores = (p for p in parts if isinstance(p, ast.Subscript | ast.Attribute))
    puts = any(isinstance(part.ctx, ast.Store) for part in stores)
    return puts or any(isinstance(part, ast.Nonlocal | ast.Global) for part in parts)
