"""Whether an object is what an expression of the source gives: True, False, or None where that
cannot be told without running code of the application.

Names lead to living objects (see `living`); what is pure is computed again from them; displays
and calls of the standard library are compared part by part with what lives.
"""

from __future__ import annotations

import ast
import sys
from functools import cached_property
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, made_by_calls, tables
from zdpatch.patcher.computed import is_data
from zdpatch.patcher.evaluate import Unevaluable, guard
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import is_pure, origin
from zdpatch.patcher.reach import is_a
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import is_plain, same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType

    from zdpatch.patcher.living import Living

Answer = bool | None
_BUILTINS: Final = "__builtins__"
# What these give, or make, is of the process's surroundings or has an identity.
_ELSEWHERE: Final = ("os.", "platform.", "logging.", "hashlib.", "inspect.")
_OF_PATHS: Final = frozenset(
    f"os.path.{name}" for name in ("join", "dirname", "basename", "normpath", "splitext")
)
_ROWS: Final = (ast.Tuple, ast.List)
_FIRM: Final = frozenset({"function", "class", "import"})
_MODULE_NAMES: Final = frozenset({"__name__", "__file__", "__package__"})


class Matching:
    """Compares expressions of one source with objects of the module that may be made of it.

    `known`: codes whose presence active patches explain.
    """

    def __init__(self, living: Living, known: Collection[CodeType] = ()) -> None:
        self.living = living
        self.outline = living.base.outline
        self.known = {codes.digest(code) for code in known}
        self._values: dict[tuple[str, str], Answer] = {}

    @cached_property
    def tables(self) -> tables.Tables:
        """What the source does with its tables."""
        return tables.Tables(self.outline.tree)

    @cached_property
    def lambdas(self) -> dict[int, set[bytes]]:
        """Digests of the lambdas of the source by line."""
        found: dict[int, set[bytes]] = {}
        for group in self.living.base.flat.values():
            for code in group:
                if code.co_name == "<lambda>":
                    found.setdefault(code.co_firstlineno, set()).add(codes.digest(code))
        return found

    def matches(self, node: ast.expr, live: object, scope: str = "", name: str = "") -> Answer:
        """Whether `live` is what `node` gives in the class `scope` ("" for the module).

        `name`: what the object is bound to; a table under a name that is filled is not compared.
        """
        if isinstance(node, ast.Lambda):
            return self._is_lambda(node, live)
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            return tables.matches(self, node, live, scope, name)
        if dotted(node) is not None:
            found = self.living.named(node, scope)
            if found is not MISSING:
                return self._is_named(node, found, live, scope)
        elif isinstance(node, ast.Call):
            answer = made_by_calls.matches(self, node, live, scope, name)
            if answer is not None:
                return answer
        value = self.value(node, scope)
        if value is MISSING:
            return None
        alike = same(value, live)
        return alike or (None if tables.may_be_filled(self, value, name) else False)

    def value(self, node: ast.expr, scope: str = "") -> object:
        """What a pure expression gives, computed again; MISSING for every other."""
        if isinstance(node, ast.Constant):
            return node.value
        if not is_pure(node, self.outline.imports) or self._of_today(node):
            return MISSING
        roots = self._roots(node, scope)
        if roots is None:
            return MISSING
        item = Item("value", "", ("value",), ast.copy_location(ast.Expr(node), node))
        try:
            guard([item], lambda name: roots.get(name, MISSING))
            code = compile(ast.Expression(node), "<value>", "eval", dont_inherit=True)
            space = {**roots, _BUILTINS: __builtins__}
            made, again = (cast("object", eval(code, dict(space))) for _ in range(2))  # noqa: S307 - pure, see above
        except (Unevaluable, Exception):  # noqa: BLE001 - what raised when it ran bound nothing
            return MISSING
        return made if is_plain(made) and same(made, again) else MISSING

    # ------------------------------------------------------------ names

    def _is_named(self, node: ast.expr, found: object, live: object, scope: str) -> Answer:
        if found is live or same(found, live):
            return True
        return False if self.firm(node, found, scope) else None

    def firm(self, node: ast.expr, found: object, scope: str) -> bool:
        """Whether a name led to this when its statement ran, too."""
        root, *rest = (dotted(node) or "").split(".")
        item = self.living.binder(scope, root, node.lineno)
        if item is None:
            return root not in self.living.taken.namespace or root in _MODULE_NAMES
        said = item.kind == "value" and self._was_said(item, root)
        firm = said is True or item.kind in _FIRM
        if not rest or not firm:
            return firm
        source = origin(root, self.outline.imports).partition(".")[0]
        constant = is_a(found, type, ModuleType) or type(found) is FunctionType
        return constant or (source in sys.stdlib_module_names and not _changes(found))

    def _was_said(self, item: Item, name: str) -> Answer:
        """Whether what a name is bound to is what its one statement says."""
        key = (item.scope, name)
        if key not in self._values:
            self._values[key] = None  # it may lead back here
            written = next((value for each, value in assigned(item.node) if each == name), None)
            live = self.living.space(item.scope).get(name, MISSING)
            if written is not None and live is not MISSING:
                self._values[key] = self.matches(written, live, item.scope, name)
        return self._values[key]

    def _roots(self, node: ast.expr, scope: str) -> dict[str, object] | None:
        """What the names in a pure expression lead to; None when not all are sure."""
        inner = {p.id for p in ast.walk(node) if isinstance(p, ast.Name) and _stores(p)}
        found: dict[str, object] = {}
        for part in _chains(node):
            name = dotted(part) or ""
            root = name.partition(".")[0]
            if root in inner:
                continue
            value = self.living.named(_root_of(part), scope)
            whole = self.living.named(part, scope)
            known = value if whole is MISSING else whole
            if value is MISSING or _changes(known) or not self.firm(part, known, scope):
                return None
            found[root] = value
        return found

    def _of_today(self, node: ast.expr) -> bool:
        """Whether what an expression gives depends on more than what it says."""
        for part in ast.walk(node):
            name = dotted(part.func) if isinstance(part, ast.Call) else None
            full = "" if name is None else origin(name, self.outline.imports)
            if full.startswith(_ELSEWHERE) and full not in _OF_PATHS:
                return True
        return False

    # ------------------------------------------------------------ objects

    def _is_lambda(self, node: ast.Lambda, live: object) -> Answer:
        if type(live) is not FunctionType:
            return False
        digest = codes.digest(live.__code__)
        if digest in self.known:
            return None
        own = self.lambdas.get(node.lineno)
        return digest in own if own else None


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that an assignment binds, each with the expression that gives its value."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _parts(target, value)
        case _:
            return


def _parts(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, _ROWS) and isinstance(value, _ROWS):
        starred = any(isinstance(each, ast.Starred) for each in [*target.elts, *value.elts])
        if len(target.elts) == len(value.elts) and not starred:
            for name, part in zip(target.elts, value.elts, strict=True):
                yield from _parts(name, part)


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _root_of(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


def _changes(value: object) -> bool:
    """Whether an object may hold something else by now."""
    return is_a(value, list, dict, set) or not (is_plain(value) or type(value) is FunctionType)


def _chains(node: ast.AST) -> Iterator[ast.expr]:
    """The names that an expression reads, as whole attribute chains; one that is called, too."""
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Name | ast.Attribute) and dotted(part) is not None:
            if not (isinstance(part, ast.Name) and _stores(part)):
                yield part
            continue
        pending.extend(ast.iter_child_nodes(part))


def shown(value: object) -> str:
    """An object for people, without asking it."""
    if is_data(value):
        return f"{value!r:.60}"
    if type(value) is FunctionType:
        return value.__code__.co_qualname
    if is_a(value, type):
        return f"the class {cast('type', value).__qualname__}"
    return f"an object of {type(value).__qualname__}"
