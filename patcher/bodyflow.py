"""What one function, or one statement of a scope, makes of a data file: what it gives to others,
and where it keeps it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.climbs import NOWHERE, begins, climb, climbed
from zdpatch.patcher.customs import (
    LETS_GO,
    SETTERS,
    TAKES,
    made_here,
    makes,
    may_keep,
    remembers_paths,
    writes,
)
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spelling import parameters, receiver
from zdpatch.patcher.spread import meanings, split
from zdpatch.patcher.ways import CONTENT, HARMLESS, NOTHING, ODD, PATH, Ways

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.dataflow import Flow
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.spread import Name

_MAKING: Final = ("__init__", "__new__", "__post_init__", "__attrs_post_init__")


@dataclass(frozen=True)
class Keep:
    """A place where a function puts what it read. `kind`: "variable" of the module, "table" that a
    variable of the module names, "object" (of class `name`), "class" (an attribute of one),
    "closure" (of the function `name`), or "other".
    """

    module: str
    qualname: str
    line: int
    kind: str
    name: str
    what: str


NO_KEEP: Final = Keep("", "", 0, "", "", "")


class Body:
    """One function, or one statement of a scope."""

    def __init__(  # noqa: PLR0913 - where it stands, and what it is
        self,
        flow: Flow,
        outline: Outline,
        scope: str,
        nodes: Iterable[ast.AST],
        *,
        node: FunctionNode | None = None,
        qualname: str = "",
        scope_level: bool = False,
    ) -> None:
        self.flow = flow
        self.outline = outline
        self.scope = scope
        self.qualname = qualname
        self.scope_level = scope_level
        self.parts = [part for each in nodes for part in ast.walk(each)]
        self.own = receiver(node) if node is not None and scope else ""
        self.making = bool(scope) and qualname.rpartition(".")[2] in _MAKING
        words = node.decorator_list if node is not None else []
        self.of_class = any(dotted(each) == "classmethod" for each in words)
        self.taken = set(parameters(node)) if node is not None else set[str]()
        shared = [p for p in self.parts if isinstance(p, ast.Global | ast.Nonlocal)]
        self.shared = {name for part in shared for name in part.names}
        self.variables: dict[str, int] = {}
        self.kept: set[Keep] = set()
        self.most = self.gives = NOTHING
        self.imports = {**flow.imports(outline), **imported(self.parts, outline)}
        named = partial(flow.of, outline, scope, self.imports)
        # names of this body for functions, and what calls of them give
        self.functions: dict[str, int] = {}
        self.ways = Ways(flow.files, self.imports, self.variables, named, self._called, flow.seen)
        for part in self.parts:
            self._function(part)

    def _called(self, name: str) -> int:
        """What a call of a name gives."""
        found = self.flow.of(self.outline, self.scope, self.imports, name, called=True)
        return max(found, self.functions.get(name, NOTHING))

    def _function(self, part: ast.AST) -> None:
        """A name for a function that reads is no reading."""
        match part:
            case ast.Assign(targets=targets, value=value):
                pass
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
                | ast.For(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
            ):
                targets = [target]
            case _:
                return
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if len(names) == len(targets) and (level := self.ways.function(value)):
            self.ways.bound.add(id(value))
            self.functions |= dict.fromkeys(names, level)

    def run(self) -> int:
        """Follow it; the most that any of its expressions gives."""
        while True:
            before = dict(self.variables), self.gives
            for part in self.parts:
                self._part(part)
            if (self.variables, self.gives) == before:
                break
        read = (p for p in self.parts if not isinstance(getattr(p, "ctx", None), ast.Store))
        levels = (self.ways.given(each) for each in read if isinstance(each, ast.expr))
        self.most = max(levels, default=NOTHING)
        return self.most

    @cached_property
    def climbs(self) -> dict[str, int]:
        """How far above the folder of the package its variables lead (see `climbs`)."""
        return climbed(self.parts, self._up)

    def highest(self) -> int:
        """The same of all its expressions."""
        every = (part for part in self.parts if isinstance(part, ast.expr))
        return max((climb(each, self._up, self.climbs) for each in every), default=NOWHERE)

    def writes(self) -> bool:
        """Whether it may write where its package lies: that would be in the folder."""
        for part in self.parts:
            if not isinstance(part, ast.Call):
                continue
            owner = [part.func.value] if isinstance(part.func, ast.Attribute) else []
            near = [*part.args, *(word.value for word in part.keywords), *owner]
            if writes(part) and any(climb(each, self._up, self.climbs) != NOWHERE for each in near):
                return True
        return False

    def _up(self, name: str) -> int:
        if name == "__file__":
            roots = self.flow.files.packages
            return begins(self.outline.name, roots, package=self.outline.package)
        every = {*meanings(self.outline, self.scope, name, self.flow.outlines)}
        every |= {*split(origin(name, self.imports), self.flow.outlines)}
        return max((self.flow.climbs.get(each, NOWHERE) for each in every), default=NOWHERE)

    def _part(self, part: ast.AST) -> None:  # noqa: PLR0912 - one case a kind of statement
        match part:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._store(target, value)
            case (
                ast.AugAssign(target=target, value=value)
                | ast.NamedExpr(target=target, value=value)
            ):
                self._store(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._store(target, value)
            case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                self._store(target, value)
            case ast.comprehension(target=target, iter=value):
                self._store(target, value)
            case ast.withitem(optional_vars=ast.expr() as target, context_expr=value):
                self._store(target, value)
            case ast.Return(value=value) | ast.Yield(value=value) | ast.YieldFrom(value=value):
                self.gives = max(self.gives, self.ways.given(value))
            case ast.Call():
                self._call(part)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self._inner(name, part)
            case ast.Match(subject=subject, cases=cases):
                if level := self.ways.given(subject):
                    self._captured(cases, level)
            case _:
                pass

    def _captured(self, cases: list[ast.match_case], level: int) -> None:
        """What patterns of a `match` take of its subject."""
        for part in (inner for case in cases for inner in ast.walk(case.pattern)):
            if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name is not None:
                self._bind(part.name, level, part.lineno)
            elif isinstance(part, ast.MatchMapping) and part.rest is not None:
                self._bind(part.rest, level, part.lineno)

    def _inner(self, name: str, node: FunctionNode) -> None:
        """A function inside holds what it names of the content for as long as it lives."""
        named = {p.id for p in ast.walk(node) if isinstance(p, ast.Name)}
        level = max((self.variables.get(each, NOTHING) for each in named), default=NOTHING)
        if level and not self.scope_level:
            self.variables[name] = max(level, self.variables.get(name, NOTHING))
            path = f"{self.qualname}.<locals>.{name}"
            self._keep(level, node.lineno, "closure", path, f"closures of {path}")

    def _store(self, target: ast.expr, value: ast.expr) -> None:
        level = self.ways.given(value)
        if not level:
            return
        match target:
            case ast.Name(id=name):
                self._bind(name, level, target.lineno)
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                for each in elts:
                    self._store(each, value)
            case ast.Starred(value=inner):
                self._store(inner, value)
            case ast.Attribute(value=owner, attr=attr):
                self._into_object(owner, attr, level, target.lineno)
            case ast.Subscript(value=owner):
                self._into(owner, level, target.lineno)
            case _:
                pass

    def _bind(self, name: str, level: int, line: int) -> None:
        if name in self.shared and not self.scope_level:
            kind = "variable" if self.outline.binders("", name) else "other"
            self._keep(level, line, kind, name, f"the variable {name}")
            self.flow.note(self.outline, "", name, level)
        self.variables[name] = max(level, self.variables.get(name, NOTHING))

    def _into_object(self, owner: ast.expr, attr: str, level: int, line: int) -> None:
        self.flow.attribute(self.outline.name, attr, level)
        name = dotted(owner)
        if name and name == self.own and self.of_class:
            path = f"{self.scope}.{attr}"
            self._keep(level, line, "class", path, f"the attribute {attr} of {self.scope}")
        elif name and name == self.own:
            if self.making and (self.outline.name, self.qualname) in self.flow.given:
                return  # the object is made of what it is given: it is followed itself
            self._keep(level, line, "object", self.scope, f"objects of {self.scope} (.{attr})")
        elif self._is_local(name):
            self._bind(str(name), level, line)
        else:
            self._keep(level, line, "other", attr, f"{ast.unparse(owner)}.{attr}")

    def _into(self, owner: ast.expr, level: int, line: int) -> None:
        """Put into a container."""
        name = dotted(owner)
        if self._is_local(name):
            self._bind(str(name), level, line)
        elif name and "." not in name and self.outline.binders("", name):
            self._keep(level, line, "table", name, f"the table {name}")
        elif name and name.partition(".")[0] == self.own and name.count(".") == 1:
            self._keep(level, line, "object", self.scope, f"objects of {self.scope} ({name})")
        else:
            self._keep(level, line, "other", name or "", ast.unparse(owner))

    def _is_local(self, name: str | None) -> bool:
        if name is None or "." in name or name in self.taken or name in self.shared:
            return False
        held = [*self._bindings(name)]
        return bool(held) and all(each is not None and self._fresh(each) for each in held)

    def _bindings(self, name: str) -> Iterator[ast.expr | None]:
        """What a variable may be; None where it is something else than the value of a statement."""
        whole: dict[int, ast.expr | None] = {}
        for part in self.parts:
            if isinstance(part, ast.Assign):
                whole |= {id(target): part.value for target in part.targets}
            elif isinstance(part, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
                whole[id(part.target)] = part.value
            elif isinstance(part, ast.withitem) and part.optional_vars is not None:
                whole[id(part.optional_vars)] = part.context_expr
            elif isinstance(part, ast.For | ast.AsyncFor | ast.comprehension):
                whole[id(part.target)] = part.iter
        for part in self.parts:
            if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Store):
                yield whole.get(id(part))

    def _fresh(self, node: ast.expr) -> bool:
        """Whether nobody else has the object that an expression gives: it is made here, or is what
        was read.
        """
        return made_here(node) or bool(self.ways.given(node))

    def _keep(self, level: int, line: int, kind: str, name: str, what: str) -> None:
        if level == CONTENT and not self.scope_level:
            self.kept.add(Keep(self.outline.name, self.qualname, line, kind, name, what))

    # ------------------------------------------------------------ calls

    def _call(self, node: ast.Call) -> None:
        """Who gets the content as an argument may keep it."""
        arguments: list[ast.expr] = [*node.args, *(word.value for word in node.keywords)]
        level = max(map(self.ways.given, arguments), default=NOTHING)
        if not level:
            return
        name = dotted(node.func)
        if name in SETTERS:
            self._keep(level, node.lineno, "other", name, f"what {name} sets")
        if name and (own := [*self._own_functions(name)]):
            for each in own:
                self.flow.given[each] = max(level, self.flow.given.get(each, NOTHING))
            self._made_of(name, level, node.lineno)
            return
        if isinstance(node.func, ast.Attribute):
            self._method(node.func, name, level, node.lineno)
        elif name and name in self.imports:
            self._outsider(self.imports[name], level, node.lineno)

    def _own_functions(self, name: str) -> Iterator[Name]:
        """Functions of these modules that a call of `name` may run."""
        every = [*meanings(self.outline, self.scope, name, self.flow.outlines)]
        every += split(origin(name, self.imports), self.flow.outlines)
        if self.own and name.startswith(f"{self.own}."):
            every.append((self.outline.name, f"{self.scope}.{name.partition('.')[2]}"))
        for module, path in every:
            scope, _, last = path.rpartition(".")
            for item in self.flow.outlines[module].binders(scope, last):
                if isinstance(item.node, FunctionNode):
                    yield module, path
                elif isinstance(item.node, ast.ClassDef):
                    yield from ((module, f"{path}.{made}") for made in _MAKING)

    def _made_of(self, name: str, level: int, line: int) -> None:
        """Objects of a class of these modules that are made of the content."""
        for module, path in [*meanings(self.outline, self.scope, name, self.flow.outlines)]:
            scope, _, last = path.rpartition(".")
            binders = self.flow.outlines[module].binders(scope, last)
            if any(isinstance(item.node, ast.ClassDef) for item in binders):
                kind = "object" if module == self.outline.name else "other"
                self._keep(level, line, kind, path, f"objects of {path}")

    def _method(self, func: ast.Attribute, name: str | None, level: int, line: int) -> None:
        """A method of something, or a function of a module, that gets the content."""
        root = (name or "").partition(".")[0]
        nodes = [*(item.node for item in self.outline.binders("", root)), *self.parts]
        whole = (part for part in nodes if isinstance(part, ast.Import))
        module = any((a.asname or a.name.partition(".")[0]) == root for n in whole for a in n.names)
        full = origin(name, self.imports) if name else ""
        if full in HARMLESS or self.ways.given(func.value) == PATH:
            return
        if name is not None and module:
            self._outsider(origin(name, self.imports), level, line)
        elif root in self.taken and func.attr in TAKES:
            return  # an answer that is being written, a log
        elif func.attr not in LETS_GO and not makes(func.value):
            self._into(func.value, CONTENT, line)

    def _outsider(self, full: str, level: int, line: int) -> None:
        """A function of another package gets the content, or a path to it."""
        if remembers_paths(full):
            self._keep(CONTENT, line, "other", full, f"what {full} keeps")
        if level == CONTENT and may_keep(full):
            self._keep(CONTENT, line, "other", full, f"what {full} makes of it")


def imported(parts: Iterable[ast.AST], outline: Outline) -> dict[str, str]:
    """What names stand for that are imported inside."""
    found: dict[str, str] = {}
    for part in parts:
        if isinstance(part, ast.Import):
            for each in part.names:
                root = each.name.partition(".")[0]
                found[each.asname or root] = each.name if each.asname else root
        elif isinstance(part, ast.ImportFrom):
            base = absolute(part, outline.name, package=outline.package)
            found |= {each.asname or each.name: f"{base}.{each.name}" for each in part.names}
    return found


def says_path(node: ast.AST) -> bool:
    """Whether it asks for places on disk, which stay as they are."""
    return any(
        (isinstance(part, ast.Name) and part.id in ODD)
        or (isinstance(part, ast.Attribute) and part.attr in ODD)
        for part in ast.walk(node)
    )
