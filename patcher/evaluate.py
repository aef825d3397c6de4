"""Import-time statements run again in place: names they bind come back in a dict, nothing live is
written.

A statement is compiled alone, in the class nesting it stands in, and executed with the live
module's globals, so that functions and classes it makes belong to the live module. Names which the
patch gives a new value are put into the compiled constants, because the live module still has the
old ones.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CellType, CodeType, MappingProxyType, ModuleType
from typing import Final, cast

from zdpatch.patcher import codes, generics
from zdpatch.patcher.class_names import ClassNames, bound_later
from zdpatch.patcher.names import FunctionNode, dotted, mangled
from zdpatch.patcher.outline import Item, Outline, absolute
from zdpatch.patcher.purity import CALLERS, is_pure_callable
from zdpatch.patcher.reach import class_dict, is_a, namespace
from zdpatch.patcher.statements import bound_names
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import (
    is_known_function,
    is_library,
    is_named_tuple,
    is_plain,
    static_attribute,
)

_MARK: Final = "\0zdpatch:"


class Unevaluable(Exception):  # noqa: N818 - says what a statement is
    """A statement cannot be run again without reaching code of the application. `args[0]`
    says why.
    """


Find = Callable[[str, str], object]  # (module, dotted name read there) -> new value, or MISSING


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement stands: the live module, its file name and future flags, and the class, if
    any.
    """

    module: ModuleType
    filename: str
    flags: int = 0
    scope: str = ""
    live_class: type | None = None
    class_names: Mapping[str, object] = field(default_factory=dict[str, object])
    outline: Outline | None = None  # knows the type parameters of the classes in `scope`
    text: Outline | None = None  # of the side that runs: which names the class binds by then
    params: Mapping[str, object] = field(default_factory=dict[str, object])  # live ones, by name


def run(items: Iterable[Item], place: Place, find: Find) -> dict[str, object]:
    """Run binding statements of one scope, in order; the names they bind.

    `find` gives the new value of what the patch changes, MISSING for everything else. Functions
    made in a class get the live class as `__class__`. Raises what the statements raise.
    """
    bound: dict[str, object] = {}
    if place.live_class is not None:
        own = {mangled(place.scope, name) for item in items for name in item.names}
        bound = ClassNames(place.live_class, place.class_names, own)
    for item in items:
        if item.kind == "import":
            bound[item.name] = _import(item, place.module.__name__, find)
            continue
        if isinstance(bound, ClassNames):
            later = bound_later(place.scope, item, place.text)
            bound.later = {mangled(place.scope, name) for name in later}
        code = _compile(_Fill(place, item, bound, find), item.node, place)
        closure = generics.cells(code, place.params)
        exec(code, vars(place.module), bound, closure=closure)  # noqa: S102 - verified source of the patch
    cell = bound.pop("__classcell__", None)
    if isinstance(cell, CellType):
        cell.cell_contents = place.live_class
    return dict(bound)


def _import(item: Item, module: str, find: Find) -> object:
    """The object an import statement binds, staged ones first."""
    if isinstance(item.node, ast.Import):
        alias = item.node.names[0]
        loaded = find("", alias.name)
        if loaded is MISSING:
            loaded = importlib.import_module(alias.name)
        root = loaded if alias.asname else find("", item.source)
        return sys.modules[item.source] if root is MISSING else root
    staged = find("", item.source)
    if staged is not MISSING:
        return staged
    owner, _, name = item.source.rpartition(".")
    loaded = importlib.import_module(owner)
    try:
        return getattr(loaded, name)
    except AttributeError:
        try:
            return importlib.import_module(item.source)
        except ImportError as error:
            reason = f"{module}: cannot import name {name!r} from {owner!r}"
            raise ImportError(reason) from error


def live_import(item: Item) -> object:
    """What an import bound when it ran, looked up without importing; MISSING when it is not to be
    found.
    """
    node = item.node
    if isinstance(node, ast.Import):
        return sys.modules.get(item.source, MISSING)
    owner, _, name = item.source.rpartition(".")
    module = sys.modules.get(owner)
    if module is not None and name in vars(module):
        return vars(module)[name]
    return sys.modules.get(item.source, MISSING)


def _compile(fill: _Fill, node: ast.stmt, place: Place) -> CodeType:
    filled = cast("ast.stmt", fill.visit(copy.deepcopy(node)))
    tree = generics.nest(filled, place.scope, place.outline)
    code = compile(tree, place.filename, "exec", flags=place.flags, dont_inherit=True)
    if place.scope:
        code = codes.class_bodies(code)[place.scope][0]
    return _with_values(code, fill.values)


def _with_values(code: CodeType, values: list[object]) -> CodeType:
    if not values:
        return code

    def real(constant: object) -> object:
        if isinstance(constant, CodeType):
            return _with_values(constant, values)
        if isinstance(constant, str) and constant.startswith(_MARK):
            return values[int(constant.removeprefix(_MARK))]
        return constant

    return code.replace(co_consts=tuple(map(real, code.co_consts)))


class _Fill(ast.NodeTransformer):
    """Puts a marked constant in place of each staged name which the statement reads when it
    runs.
    """

    def __init__(self, place: Place, item: Item, bound: Mapping[str, object], find: Find) -> None:
        self.module = place.module.__name__
        self.package = "__path__" in namespace(place.module)
        self.local = set(bound.keys())
        if place.live_class is not None:
            inner = set(class_dict(place.live_class)) | set(place.class_names)
            later = bound_later(place.scope, item, place.text)
            self.local |= inner - set(bound_names(item.node)) - later
        elif item.kind != "class":
            self.local |= set(bound_names(item.node))
        self.find = find
        self.lazy = bool(place.flags & __future__.annotations.compiler_flag)
        self.values: list[object] = []

    def _constant(self, node: ast.expr, value: object) -> ast.expr:
        # `x if 1 else 0` keeps the compiler from folding the placeholder into its surroundings
        self.values.append(value)
        mark = ast.Constant(f"{_MARK}{len(self.values) - 1}")
        filled = ast.IfExp(ast.Constant(value=True), mark, ast.Constant(value=0))
        return ast.fix_missing_locations(ast.copy_location(filled, node))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._chain(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = dotted(node)
        filled = self._chain(node, name) if name is not None else node
        return cast("ast.expr", self.generic_visit(node)) if filled is node else filled

    def _chain(self, node: ast.Name | ast.Attribute, name: str) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or name.partition(".")[0] in self.local:
            return node
        value = self.find(self.module, name)
        return node if value is MISSING else self._constant(node, value)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """An import inside a branch: what the patch changes is bound to its new value."""
        owner = absolute(node, self.module, package=self.package)
        made: list[ast.stmt] = []
        for alias in node.names:
            value = MISSING if alias.name == "*" else self.find("", f"{owner}.{alias.name}")
            if value is MISSING:
                made.append(ast.ImportFrom(node.module, [alias], node.level))
            else:
                name = ast.Name(alias.asname or alias.name, ast.Store())
                filled = self._constant(ast.copy_location(ast.Constant(None), node), value)
                made.append(ast.Assign([name], filled))
        return [ast.fix_missing_locations(ast.copy_location(each, node)) for each in made]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        for part in ("decorator_list", "bases", "keywords"):
            setattr(node, part, [self.visit(each) for each in getattr(node, part)])
        outer = self.local
        body: list[ast.stmt] = []
        for each in node.body:  # a name is the class's own only after it was bound
            body.append(self.visit(each))
            self.local = self.local | set(bound_names(each))
        node.body, self.local = body, outer
        return node

    def _comprehension(self, node: ast.expr) -> ast.expr:
        outer = self.local
        self.local = outer | _inner_targets(node)
        try:
            return cast("ast.expr", self.generic_visit(node))
        finally:
            self.local = outer

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        node.args = self.visit(node.args)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if dotted(node.func) in CALLERS:  # the bodies of lambdas run now
            for given in [*node.args, *(word.value for word in node.keywords)]:
                if isinstance(given, ast.Lambda):
                    self._body(given)
        return node

    def _body(self, node: ast.Lambda) -> None:
        outer = self.local
        self.local = outer | {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        node.body = self.visit(node.body)
        self.local = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return self._function(node)

    def visit_TypeAlias(self, node: ast.stmt) -> ast.stmt:
        return node  # its value is looked up when somebody asks for it

    def _function(self, node: FunctionNode) -> ast.stmt:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        outer = self.local
        self.local = outer | generics.param_names(node)
        node.args = self.visit(node.args)
        if node.returns is not None and not self.lazy:
            node.returns = self.visit(node.returns)
        self.local = outer
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node if self.lazy else cast("ast.arg", self.generic_visit(node))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if not self.lazy:
            return cast("ast.stmt", self.generic_visit(node))
        node.value = None if node.value is None else self.visit(node.value)
        return node  # the annotation is kept as its text


# ---------------------------------------------------------------- values


def guard(items: Iterable[Item], lookup: Callable[[str], object]) -> None:
    """Raise Unevaluable unless running `items` again reaches only plain values.

    `lookup(name)` gives the present value of a plain name, or `MISSING`.
    """
    for item in items:
        if item.kind == "import" or generics.is_alias(item.node) or _moves_only(item.node):
            continue
        local = set(bound_names(item.node)) | _inner_targets(item.node)
        kept = _kept(item.node, local, lookup)
        for node in _chains(item.node):
            if id(node) in kept:
                continue
            callee = node.func if isinstance(node, ast.Call) else node
            name = dotted(callee) or ""
            if name.partition(".")[0] in local:
                continue
            if isinstance(node, ast.Call):
                _callee(node, lookup)
            else:
                _plain(name, lookup)


def _moves_only(node: ast.stmt) -> bool:
    """True when the value is only looked up and put together: no operator runs on it."""
    value = getattr(node, "value", None)
    if not isinstance(value, ast.expr):
        return False
    quiet = (ast.Name, ast.Tuple, ast.List, ast.Dict, ast.Constant, ast.expr_context)
    return all(isinstance(part, quiet) for part in ast.walk(value))


def _kept(node: ast.stmt, local: set[str], lookup: Callable[[str], object]) -> set[int]:
    """Names handed to what only keeps them: whatever they are, no code of theirs runs."""
    found: set[int] = set()
    for part in ast.walk(node):
        name = dotted(part.func) if isinstance(part, ast.Call) else None
        if not isinstance(part, ast.Call) or not name or name.partition(".")[0] in local:
            continue
        if _resolve(name, lookup)[1] in (functools.partial, MappingProxyType):
            found.update(map(id, [*part.args, *(word.value for word in part.keywords)]))
    return found


def _inner_targets(node: ast.AST) -> set[str]:
    targets = {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }
    return targets | {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}


def _chains(node: ast.AST) -> Iterable[ast.expr]:
    """The names read by a statement, as whole attribute chains, and its calls."""
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Call):
            yield part
        if isinstance(part, ast.Name | ast.Attribute) and dotted(part) is not None:
            if not isinstance(part.ctx, ast.Store):
                yield part
            continue
        if isinstance(part, ast.AnnAssign):
            pending += [part.value] if part.value else []
            continue
        pending.extend(ast.iter_child_nodes(part))


def _plain(name: str, lookup: Callable[[str], object]) -> None:
    staged = lookup(name) if "." in name else MISSING
    if staged is not MISSING and is_plain(staged):
        return  # the patch has a value for the attribute
    value = _resolve(name, lookup)[1]
    if value is MISSING:
        raise Unevaluable(f"{name} has no value here")
    if not is_plain(value) and not is_known_function(value):
        raise Unevaluable(f"{name} is a {type(value).__qualname__}, not a plain value")


def _resolve(name: str, lookup: Callable[[str], object]) -> tuple[object, object]:
    """A dotted name, and the object that has it as its attribute (MISSING for a plain name)."""
    root, *rest = name.split(".")
    owner: object = MISSING
    value = lookup(root)
    if value is MISSING:
        value = getattr(builtins, root, MISSING)
    for attribute in rest:
        try:
            owner, value = value, static_attribute(value, attribute)
        except TypeError as error:
            raise Unevaluable(f"{name} reads an attribute of a {error}") from error
    return owner, value


def _callee(node: ast.Call, lookup: Callable[[str], object]) -> None:
    """What a pure call names must be what the list of pure calls means by it."""
    name = dotted(node.func)
    if name is None:
        return
    owner, value = _resolve(name, lookup)
    if is_a(owner, ModuleType) and not _listed(cast("ModuleType", owner), name):
        raise Unevaluable(f"{name} may have effects when it is called")
    application = is_a(value, type) and not is_library(cast("type", value))
    if application and not is_named_tuple(cast("type", value)):
        raise Unevaluable(f"{name} is a class of the application")
    if value is hasattr:
        asked = dotted(node.args[0]) if node.args else None
        value = _resolve(asked, lookup)[1] if asked else MISSING
        if type(value) is not ModuleType or "__getattr__" in namespace(value):
            raise Unevaluable(f"{asked} may answer hasattr() by code of its own")


def _listed(module: ModuleType, name: str) -> bool:
    last = name.rpartition(".")[2]
    names = {module.__name__, *({"os.path"} if module is os.path else ())}
    return any(is_pure_callable(f"{each}.{last}") for each in names)
