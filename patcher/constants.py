"""Values that pure functions of the standard library make of literals, made again to be compared.

`re.compile("a", re.I)`, `timedelta(days=2)`, `frozenset({1, 2})`: nothing but literals and names of
the standard library goes in, so the same text gives an equal value whenever it runs.
"""

from __future__ import annotations

import ast
import builtins
import sys
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.evaluate import Unevaluable, guard
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import PURE_CALLS, origin
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import is_plain, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zdpatch.patcher.outline import Outline

# These depend on the process or its surroundings, or make no value that compares.
_ELSEWHERE: Final = ("os.", "platform.", "logging.", "hashlib.", "functools.", "inspect.")
_CALLS: Final = frozenset(
    name for name in PURE_CALLS if not name.startswith(_ELSEWHERE) and name != "hasattr"
)
# Names of these are never anything else (`re.I`, `datetime.timezone.utc`).
_CONSTANT_MODULES: Final = frozenset({"re", "string", "math", "datetime", "decimal", "calendar"})
_QUIET: Final = (
    ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.Call,
    ast.Name, ast.Attribute, ast.keyword, ast.operator, ast.unaryop, ast.expr_context,
)  # fmt: skip


def constant(
    node: ast.expr, space: Mapping[str, object], outline: Outline, prefix: str
) -> object | None:
    """The value of a call in the module whose namespace is `space`, or in its class `prefix`
    ("Cart."); None when it is no such call. Runs no code but that of the standard library.
    """
    imports = outline.imports
    if not isinstance(node, ast.Call) or not _is_quiet(node, imports):
        return None
    roots = {name.partition(".")[0] for name in _names(node)}
    scopes = ["", prefix.rstrip(".")] if prefix else [""]
    if any(_bound_otherwise(root, outline, scopes) for root in roots):
        return None
    known = {root: space.get(root, vars(builtins).get(root, MISSING)) for root in roots}
    item = Item("value", "", ("value",), ast.copy_location(ast.Expr(node), node))
    try:
        guard([item], lambda name: known.get(name, MISSING))
        code = compile(ast.Expression(node), "<constant>", "eval", dont_inherit=True)
        made, again = (cast("object", eval(code, dict(known))) for _ in range(2))  # noqa: S307 - pure, see above
    except (Unevaluable, Exception):  # noqa: BLE001 - what raised when it ran bound nothing
        return None
    return made if is_plain(made) and same(made, again) else None


def _is_quiet(node: ast.Call, imports: Mapping[str, str]) -> bool:
    """Whether only listed functions are called, and only constants of modules are read besides."""
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    inner = {id(part.value) for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    for part in ast.walk(node):
        if not isinstance(part, _QUIET):
            return False
        if isinstance(part, ast.Call):
            name = dotted(part.func)
            if name is None or origin(name, imports) not in _CALLS:
                return False
        if id(part) in inner or not isinstance(part, (ast.Name, ast.Attribute)):
            continue
        top = origin(dotted(part) or "", imports).partition(".")[0]
        if id(part) not in called and top not in _CONSTANT_MODULES:
            return False
    return True


def _names(node: ast.expr) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _bound_otherwise(root: str, outline: Outline, scopes: list[str]) -> bool:
    """Whether a name may be another than the one import, or the builtin, that it seems to be."""
    items = [item for scope in scopes for item in outline.binders(scope, root)]
    if not items:
        return outline.has_star or root not in vars(builtins)
    library = items[0].source.partition(".")[0] in sys.stdlib_module_names
    return len(items) != 1 or items[0].kind != "import" or not library
