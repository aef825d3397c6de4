"""An expression is pure when evaluating it a second time has no effect and gives an equal value.

Purity is decided from the text: literals, operators, displays, attribute chains, subscripts, and
calls of the few library functions listed here. Whether the operands really are plain values is
checked again when the expression is evaluated (`evaluate`).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted

if TYPE_CHECKING:
    from collections.abc import Mapping

# Calls whose result depends only on the arguments and compares by value.
PURE_CALLS: Final = frozenset(
    {
        "re.compile", "re.escape", "frozenset", "tuple", "str", "int", "float", "bool", "bytes",
        "len",
        "min", "max", "sum", "sorted", "abs", "map", "filter", "zip", "reversed", "enumerate",
        "any", "all", "round", "range", "ord", "chr", "struct.Struct",
        "struct.calcsize", "slice", "complex", "hex", "oct", "bin", "datetime.timedelta",
        "decimal.Decimal",
        "fractions.Fraction", "os.path.join", "os.path.dirname", "os.path.basename",
        "pathlib.PurePath",
        "pathlib.PurePosixPath", "pathlib.Path",
    }
)  # fmt: skip
# Calls that make a fresh object nobody else knows: right for a name that is new, not for one that
# has state.
FRESH_CALLS: Final = frozenset(
    {
        "object", "list", "dict", "set", "bytearray", "logging.getLogger", "threading.Lock",
        "threading.RLock",
        "threading.local", "threading.Event", "threading.Condition", "threading.Semaphore",
        "contextvars.ContextVar", "collections.deque", "collections.OrderedDict",
        "collections.defaultdict",
        "collections.Counter", "collections.ChainMap", "weakref.WeakKeyDictionary",
        "weakref.WeakSet",
        "weakref.WeakValueDictionary", "functools.partial", "operator.itemgetter",
        "operator.attrgetter",
        "operator.methodcaller", "itertools.count", "asyncio.Lock", "types.MappingProxyType",
        "dataclasses.field", "enum.auto",
    }
)  # fmt: skip
# Typing constructs: read by type checkers, not by running code.
TYPING_CALLS: Final = frozenset(
    f"{module}.{name}"
    for module in ("typing", "typing_extensions")
    for name in ("TypeVar", "ParamSpec", "TypeVarTuple", "NewType", "cast")
)
KNOWN_CALLS: Final = PURE_CALLS | FRESH_CALLS | TYPING_CALLS
_METHODS: Final = frozenset(
    {"join", "format", "encode", "decode", "lower", "upper", "strip", "lstrip", "rstrip", "split",
     "rsplit", "splitlines", "replace", "union", "intersection", "difference", "title",
     "startswith",
     "endswith", "partition", "zfill", "removeprefix", "removesuffix"}
)  # fmt: skip
_PLAIN: Final = (
    ast.Constant, ast.Name, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.IfExp,
    ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Subscript,
    ast.Slice,
    ast.Starred, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
_MUTABLE: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def is_pure(node: ast.expr, imports: Mapping[str, str], *, fresh: bool = False) -> bool:
    """True when `node` can be evaluated again; with `fresh`, when it can be evaluated a first time.

    `imports` maps the names a module imports to their dotted origin ({"compile": "re.compile"}).
    """
    for part in ast.walk(node):
        if not isinstance(part, ast.expr) or isinstance(part, _PLAIN):
            continue
        if not isinstance(part, ast.Call) or not _pure_call(part, imports, fresh=fresh):
            return False
    return True


def _pure_call(node: ast.Call, imports: Mapping[str, str], *, fresh: bool) -> bool:
    allowed = PURE_CALLS | TYPING_CALLS | (FRESH_CALLS if fresh else frozenset[str]())
    name = dotted(node.func)
    if name is not None and origin(name, imports) in allowed:
        return True
    # a method of a literal, or of something that `evaluate` will insist is a plain value
    return isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS


def origin(name: str, imports: Mapping[str, str]) -> str:
    """The dotted name as its defining module spells it ("t.TypeVar" -> "typing.TypeVar")."""
    root, dot, rest = name.partition(".")
    return imports.get(root, root) + dot + rest


def is_typing(node: ast.expr, imports: Mapping[str, str]) -> bool:
    """True for `X = TypeVar(...)` and its like: replaced freely, nothing at run time
    depends on it.
    """
    name = dotted(node.func) if isinstance(node, ast.Call) else None
    return name is not None and origin(name, imports) in TYPING_CALLS


def makes_state(node: ast.expr, imports: Mapping[str, str]) -> bool:  # noqa: PLR0911 - one clause a kind of expression
    """True when the value is a fresh mutable object: two evaluations give two states."""
    if isinstance(node, _MUTABLE):
        return True
    if isinstance(node, ast.IfExp):
        return makes_state(node.body, imports) or makes_state(node.orelse, imports)
    if isinstance(node, ast.BoolOp):
        return any(makes_state(value, imports) for value in node.values)
    if isinstance(node, ast.BinOp):
        return makes_state(node.left, imports) or makes_state(node.right, imports)
    if isinstance(node, ast.Tuple):
        return any(makes_state(element, imports) for element in node.elts)
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        return name is not None and origin(name, imports) in {*FRESH_CALLS, "sorted"}
    return False
