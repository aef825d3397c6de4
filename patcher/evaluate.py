"""Import-time statements run again in place: names they bind come back in a dict, nothing live is
written.

A statement is compiled alone, in the class nesting it stands in, and executed with the live
module's globals, so that functions and classes it makes belong to the live module; new values are
filled in (see `filling`).
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CellType, CodeType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, generics
from zdpatch.patcher.class_names import ClassNames, bound_later
from zdpatch.patcher.filling import Fill, Find, in_functions, with_values
from zdpatch.patcher.names import dotted, mangled
from zdpatch.patcher.purity import is_pure_callable
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

if TYPE_CHECKING:
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

# Statements that run none of their parts after they have bound a name.
_SIMPLE: Final = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
)  # fmt: skip


__all__ = ["Find", "Place", "Unevaluable", "guard", "live_import", "run"]


class Unevaluable(Exception):  # noqa: N818 - says what a statement is
    """A statement cannot be run again without reaching code of the application. `args[0]`
    says why.
    """


Lookup = Callable[[str], object]
_KEEPING: Final = cast("tuple[object, ...]", (functools.partial, MappingProxyType))


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
        code = _compile(item, bound, place, find)
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


def _compile(item: Item, bound: Mapping[str, object], place: Place, find: Find) -> CodeType:
    fill = _fill(item, bound, place, find)
    filled = fill.statement(item.node)
    if fill.lost:
        raise Unevaluable(f"{min(fill.lost)} is bound and read in one statement")
    tree = generics.nest(filled, place.scope, place.outline)
    code = compile(tree, place.filename, "exec", flags=place.flags, dont_inherit=True)
    if place.scope:
        code = codes.class_bodies(code)[place.scope][0]
    return with_values(code, fill.values)


def _fill(item: Item, bound: Mapping[str, object], place: Place, find: Find) -> Fill:
    """What puts new values into a statement, of which `bound` are the names bound by those in
    front.
    """
    made, local = set(bound_names(item.node)), set(bound.keys())
    if place.live_class is not None:
        inner = set(class_dict(place.live_class)) | set(place.class_names)
        local |= inner - made - bound_later(place.scope, item, place.text)
    elif item.kind != "class":
        local |= made
    at_top = place.live_class is None
    parts = made if at_top and not isinstance(item.node, _SIMPLE) else set[str]()
    return Fill(
        place.module.__name__,
        find,
        local,
        given=bound if at_top else {},
        own=parts,
        package="__path__" in namespace(place.module),
        lazy=bool(place.flags & __future__.annotations.compiler_flag),
    )


# ---------------------------------------------------------------- values


def guard(items: Iterable[Item], lookup: Lookup, outside: Lookup | None = None) -> None:
    """Raise Unevaluable unless running `items` again reaches only plain values.

    `lookup(name)` gives the present value of a plain name, or `MISSING`; `outside` does for the
    functions in a statement of a class, which do not see its names.
    """
    for item in items:
        if item.kind == "import" or generics.is_alias(item.node) or _moves_only(item.node):
            continue
        targets = _inner_targets(item.node)
        local = set(bound_names(item.node)) | targets
        kept = _kept(item.node, local, lookup)
        inside = set(map(id, in_functions(item.node))) if outside is not None else set[int]()
        for node in _chains(item.node):
            if id(node) in kept:
                continue
            callee = node.func if isinstance(node, ast.Call) else node
            name = dotted(callee) or ""
            within = outside is not None and id(node) in inside
            if name.partition(".")[0] in (targets if within else local):
                continue
            look = outside if outside is not None and within else lookup
            if isinstance(node, ast.Call):
                _callee(node, look)
            else:
                _plain(name, look)


def _moves_only(node: ast.stmt) -> bool:
    """True when the value is only looked up and put together: no operator runs on it."""
    value = getattr(node, "value", None)
    if not isinstance(value, ast.expr):
        return False
    quiet = (ast.Name, ast.Tuple, ast.List, ast.Dict, ast.Constant, ast.expr_context)
    return all(isinstance(part, quiet) for part in ast.walk(value))


def _kept(node: ast.stmt, local: set[str], lookup: Lookup) -> set[int]:
    """Names handed to what only keeps them: whatever they are, no code of theirs runs."""
    found: set[int] = set()
    for part in ast.walk(node):
        name = dotted(part.func) if isinstance(part, ast.Call) else None
        if not isinstance(part, ast.Call) or not name or name.partition(".")[0] in local:
            continue
        value = _resolve(name, lookup)[1]
        if any(value is each for each in _KEEPING):  # `in` would ask the value whether it is equal
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


def _plain(name: str, lookup: Lookup) -> None:
    staged = lookup(name) if "." in name else MISSING
    if staged is not MISSING and is_plain(staged):
        return  # the patch has a value for the attribute
    value = _resolve(name, lookup)[1]
    if value is MISSING:
        raise Unevaluable(f"{name} has no value here")
    if not is_plain(value) and not is_known_function(value):
        raise Unevaluable(f"{name} is a {type(value).__qualname__}, not a plain value")


def _resolve(name: str, lookup: Lookup) -> tuple[object, object]:
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


def _callee(node: ast.Call, lookup: Lookup) -> None:
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
