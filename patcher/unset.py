"""A variable of a module that only functions bind is not there when those which bind it now have
run already: to read it would fail.

Decided from the text of the whole patch: variables, own ones (`global`) and those of other modules
(`settings.limit = 2`), which a function binds only now, no statement of the module does, and a
function reads without having bound them before, and without being ready for their absence. Whether
they are there is then asked of the modules.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.parts import children
from zdpatch.patcher.places import declared
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spelling import asked, called, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Set

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

Variable = tuple[str, str]  # module, name
_State = frozenset[Variable] | None  # bound on every way to here; None where no way leads
_DEPTH: Final = 2
_READY: Final = {"NameError", "AttributeError", "Exception", "BaseException"}
_LEAVING: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue)


@dataclass(frozen=True, eq=False)
class Unset(Edit):
    """`variable` may be missing. `before`: what the function has bound, whenever it ran, until
    now.
    """

    variable: Variable = ("", "")
    before: frozenset[Variable] = field(default_factory=frozenset[Variable])


def unset(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Unset]:
    """An edit for each variable that one of `changed`, which are new functions, binds first."""
    fresh: dict[Variable, Function] = {}
    for function in changed:
        for variable in _Scope(function).stores():
            if not _by_statement(new, variable) and variable not in fresh:
                fresh[variable] = function
    for each in old.mentioning({name for _, name in fresh}):
        for variable in _Scope(each).stores():
            fresh.pop(variable, None)
    readers = new.mentioning({name for _, name in fresh})
    found: dict[Variable, tuple[Function, int]] = {}
    for reader in readers:
        for variable, line in _Flow(new, reader).unsafe().items():
            found.setdefault(variable, (reader, line))
    for variable in fresh.keys() & found.keys():
        function = fresh[variable]
        before = old.by_path.get(function.where, [])
        yield replace(
            _edit(function, before, variable, *found[variable]),
            before=_bound_before(old, before),
        )


def missing(edit: Unset) -> str:
    """Why the variable is not there; "" when it is, or nobody had bound it by now."""
    if not all(map(_is_there, edit.before)):
        return ""  # the function has not run to its end
    return "" if _is_there(edit.variable) else f"{edit.variable[0]} has no {edit.variable[1]}"


def _is_there(variable: Variable) -> bool:
    module = sys.modules.get(variable[0])
    if module is None:
        return True  # nothing of it has run
    space = reach.namespace(module)
    return variable[1] in space or "__getattr__" in space


def _bound_before(old: Side, before: list[Function]) -> frozenset[Variable]:
    """What the versions of a function bound on every way, and nothing else by a statement."""
    sure = [_Flow(old, each).settled(_DEPTH) for each in before]
    known = sure[0].intersection(*sure[1:]) if sure else frozenset[Variable]()
    return frozenset(each for each in known if not _by_statement(old, each))


def _edit(
    function: Function, before: list[Function], variable: Variable, reader: Function, line: int
) -> Unset:
    module, name = variable
    shown = name if module == function.outline.name else f"{module}.{name}"
    return Unset(
        *function.unfit(before),
        detail=(
            f"only the new {function.qualname} binds {shown}, which {reader.qualname} (line "
            f"{line}) reads; if {function.qualname} has run already, nothing binds it"
        ),
        variable=variable,
    )


def _by_statement(side: Side, variable: Variable) -> bool:
    """Whether the module itself binds a name when it is imported."""
    outline = side.outlines.get(variable[0])
    return outline is not None and bool(outline.binders("", variable[1]))


class _Scope:
    """Which variables of modules the names of a function stand for."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.module = function.outline.name
        self.declared = declared(function)
        self.local = function.bound.keys() - self.declared | function.outer
        self.imports = {**function.outline.imports, **_local_imports(function)}

    def stores(self) -> Iterator[Variable]:
        for part in self.function.parts if self.declared else ():
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                if part.id in self.declared:
                    yield self.module, part.id
            elif isinstance(part, FunctionNode | ast.ClassDef) and part.name in self.declared:
                yield self.module, part.name
            elif isinstance(part, ast.alias) and _bound_by(part) in self.declared:
                yield self.module, _bound_by(part)
        for access in self.function.accesses.stores:
            if found := self.of_module(access.root, access.name):
                yield found

    def of_module(self, root: str, name: str) -> Variable | None:
        """An attribute of what an import statement binds; from imports may give anything."""
        head = root.partition(".")[0]
        imported = head in self.imports and (head not in self.local or head in self.own_imports)
        return (origin(root, self.imports), name) if root and imported else None

    @property
    def own_imports(self) -> Set[str]:
        return _local_imports(self.function).keys()

    def read(self, node: ast.AST) -> Variable | None:
        """What an expression reads, or binds."""
        if isinstance(node, ast.Name):
            return (self.module, node.id) if node.id not in self.local else None
        if isinstance(node, ast.Attribute):
            return self.of_module(dotted(node.value) or "", node.attr)
        return None


def _local_imports(function: Function) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in function.parts:
        if isinstance(part, ast.Import):
            for alias in part.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(part, ast.ImportFrom):
            base = absolute(part, function.outline.name, package=function.outline.package)
            found |= {each.asname or each.name: f"{base}.{each.name}" for each in part.names}
    return found


def _bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


class _Flow:
    """The ways through a function."""

    def __init__(self, side: Side, function: Function) -> None:
        self.side, self.function = side, function
        self.scope = _Scope(function)
        self.reads: dict[Variable, int] = {}
        self.ready: set[str] = set()
        self.guarded = False
        self.depth = _DEPTH
        self.ends: list[_State] = []

    def unsafe(self) -> dict[Variable, int]:
        """What it reads without having bound it on every way, with the line."""
        self._block(self.function.node.body, frozenset())
        return {each: line for each, line in self.reads.items() if each[1] not in self.ready}

    def settled(self, depth: int) -> frozenset[Variable]:
        """What it has bound whenever it comes to an end."""
        self.depth = depth
        end = self._block(self.function.node.body, frozenset())
        return _meet(end, *self.ends) or frozenset()

    def _block(self, body: list[ast.stmt], state: _State) -> _State:
        for node in body:
            state = self._statement(node, state)
        return state

    def _statement(self, node: ast.stmt, state: _State) -> _State:
        match node:
            case ast.If():
                self._look(node.test, state)
                state = self._after(node.test, state)
                return _meet(self._block(node.body, state), self._block(node.orelse, state))
            case ast.While() | ast.For() | ast.AsyncFor():
                head = node.test if isinstance(node, ast.While) else node.iter
                self._look(head, state)
                self._block([*node.body, *node.orelse], self._after(head, state))
                return self._after(head, state)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._look(item, state)
                return self._block(node.body, state)
            case ast.Try() | ast.TryStar():
                return self._try(node, state)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                ends, self.ends = self.ends, []
                self._block(node.body, state)
                self.ends = ends
                return state
            case _:
                self._look(node, state)
                state = self._after(node, state)
                if isinstance(node, ast.Return):
                    self.ends.append(state)
                return None if isinstance(node, _LEAVING) else state

    def _try(self, node: ast.Try | ast.TryStar, state: _State) -> _State:
        guarded = self.guarded
        self.guarded = guarded or any(map(_catches, node.handlers))
        end = self._block(node.body, state)
        self.guarded = guarded
        ends = [self._block(node.orelse, end)]
        ends += [self._block(each.body, state) for each in node.handlers]
        final = self._block(node.finalbody, state)
        after = _meet(*ends)
        return None if after is None or final is None else after | final

    def _look(self, node: ast.AST, state: _State) -> None:
        """Note what is read."""
        if isinstance(node, ast.Call | ast.Compare):
            self.ready.update(asked(node))
        if isinstance(node, ast.Compare) and _of_namespace(node.comparators[0]):
            self.ready.update(texts([node.left]))
        if isinstance(getattr(node, "ctx", None), ast.Load):
            each = self.scope.read(node)
            if each is not None and not self.guarded and state is not None and each not in state:
                self.reads.setdefault(each, getattr(node, "lineno", 0))
        for child in children(node):
            self._look(child, state)

    def _after(self, node: ast.AST, state: _State) -> _State:
        """With what a statement, or an expression, has bound, and the functions it calls."""
        if state is None:
            return None
        found: set[Variable] = set()
        for part in ast.walk(node):
            if isinstance(getattr(part, "ctx", None), ast.Store):
                each = self.scope.read(part)
                found |= {each} if each is not None else set()
            elif isinstance(part, ast.Call) and self.depth:
                name = dotted(part.func) or ""
                path = (self.function.outline.name, name)
                for one in self.side.by_path.get(path, ()):
                    found |= _Flow(self.side, one).settled(self.depth - 1)
        return state | found


def _catches(handler: ast.ExceptHandler) -> bool:
    each = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or dotted(one) in _READY for one in each)


def _of_namespace(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and called(node) in {"globals", "vars"}


def _meet(*states: _State) -> _State:
    reached = [each for each in states if each is not None]
    return reached[0].intersection(*reached[1:]) if reached else None
