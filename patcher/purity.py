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
    from collections.abc import Iterator, Mapping

# Calls whose result depends only on the arguments, or on what does not change while a process runs,
# and compares by value.
PURE_CALLS: Final = frozenset(
    {
        "re.compile", "re.escape", "frozenset", "tuple", "str", "int", "float", "bool", "bytes",
        "len", "min", "max", "sum", "sorted", "abs", "map", "filter", "zip", "reversed",
        "enumerate", "any", "all", "round", "range", "ord", "chr", "slice", "complex", "hex", "oct",
        "bin", "divmod", "pow", "repr", "format", "ascii", "hasattr", "bytes.fromhex",
        "float.fromhex", "int.from_bytes", "struct.Struct", "struct.calcsize", "struct.pack",
        "datetime.timedelta", "datetime.date", "datetime.datetime", "datetime.time",
        "datetime.timezone", "datetime.date.fromisoformat", "datetime.datetime.fromisoformat",
        "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "string.Template",
        "types.MappingProxyType", "operator.itemgetter", "operator.attrgetter",
        "operator.methodcaller", "functools.partial", "logging.getLogger", "textwrap.dedent",
        "textwrap.indent", "calendar.timegm", "urllib.parse.quote", "urllib.parse.quote_plus",
        "urllib.parse.unquote", "urllib.parse.urljoin", "urllib.parse.urlencode",
        "urllib.parse.urlparse", "urllib.parse.urlsplit", "json.dumps", "inspect.cleandoc",
        "ipaddress.ip_network", "ipaddress.ip_address", "ipaddress.ip_interface",
        "ipaddress.IPv4Address", "ipaddress.IPv4Network", "ipaddress.IPv4Interface",
        "ipaddress.IPv6Address", "ipaddress.IPv6Network", "ipaddress.IPv6Interface",
        "hashlib.md5", "hashlib.sha1", "hashlib.sha256", "hashlib.sha512", "hashlib.blake2b",
        "os.path.join", "os.path.dirname", "os.path.basename", "os.path.abspath",
        "os.path.realpath", "os.path.normpath", "os.path.expanduser", "os.path.splitext",
        "os.fspath", "os.getenv", "os.environ.get", "pathlib.PurePath", "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath", "pathlib.Path", "platform.system", "platform.machine",
        "platform.python_implementation", "platform.python_version",
    }
)  # fmt: skip
# Every function of these is pure.
_PURE_MODULES: Final = frozenset({"math", "cmath", "base64", "binascii"})
# Calls that make a fresh object nobody else knows: right for a name that is new, not for one that
# has state.
FRESH_CALLS: Final = frozenset(
    {
        "object", "list", "dict", "set", "bytearray", "str.maketrans", "dict.fromkeys",
        "json.loads", "threading.Lock", "threading.RLock", "threading.local", "threading.Event",
        "threading.Condition", "threading.Semaphore", "contextvars.ContextVar",
        "collections.deque", "collections.OrderedDict", "collections.defaultdict",
        "collections.Counter", "collections.ChainMap", "collections.namedtuple",
        "weakref.WeakKeyDictionary", "weakref.WeakSet", "weakref.WeakValueDictionary",
        "itertools.count", "asyncio.Lock", "dataclasses.field", "enum.auto",
    }
)  # fmt: skip
# Of these, the ones that make a table: two of them can be told to be equal.
_TABLE_CALLS: Final = frozenset(
    {"list", "dict", "set", "bytearray", "str.maketrans", "dict.fromkeys", "json.loads"}
)
# Typing constructs: read by type checkers, not by running code.
TYPING_CALLS: Final = frozenset(
    f"{module}.{name}"
    for module in ("typing", "typing_extensions")
    for name in ("TypeVar", "ParamSpec", "TypeVarTuple", "NewType", "cast")
)
# Built-in classes that keep a function they are given, and call nothing.
KEEPING_BUILTINS: Final = frozenset({"property", "staticmethod", "classmethod"})
# Stands, in place of a dotted origin, for a named tuple that the module makes itself.
NAMED_TUPLE: Final = "<named tuple>"
# Stands in front of what the tree defines itself: whether a call of it is pure, its text tells.
OWN: Final = "<own>"
KNOWN_CALLS: Final = PURE_CALLS | FRESH_CALLS | TYPING_CALLS
# Methods of plain values: they change nothing.
_METHODS: Final = frozenset(
    {"join", "format", "encode", "decode", "lower", "upper", "strip", "lstrip", "rstrip", "split",
     "rsplit", "splitlines", "replace", "union", "intersection", "difference", "title",
     "startswith", "endswith", "partition", "zfill", "removeprefix", "removesuffix"}
)  # fmt: skip
# The same, but what an import brought may mean anything by them.
_OWN_METHODS: Final = frozenset(
    {"get", "items", "keys", "values", "copy", "index", "count", "find", "rfind", "rpartition",
     "casefold", "capitalize", "swapcase", "center", "ljust", "rjust", "expandtabs", "translate",
     "isdigit", "isalpha", "isalnum", "isidentifier", "issubset", "issuperset", "isdisjoint",
     "symmetric_difference", "to_bytes", "bit_length", "as_integer_ratio", "hex", "isoformat",
     "total_seconds", "quantize", "normalize", "limit_denominator", "strftime", "astimezone",
     "with_name", "with_suffix", "with_stem", "joinpath", "as_posix", "resolve", "absolute",
     "expanduser", "relative_to", "hexdigest", "digest", "match", "fullmatch", "search", "pack",
     "_replace"}
)  # fmt: skip
_REPLACERS: Final = frozenset({"sub", "subn"})
# These call, at once, what they are given.
CALLERS: Final = frozenset({"sorted", "map", "filter", "min", "max"})
_PLAIN: Final = (
    ast.Constant, ast.Name, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.IfExp,
    ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Subscript,
    ast.Slice,
    ast.Starred, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr,
)  # fmt: skip
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MUTABLE: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def is_pure(node: ast.expr, imports: Mapping[str, str], *, fresh: bool = False) -> bool:
    """True when `node` can be evaluated again; with `fresh`, when it can be evaluated a first time.

    `imports` maps the names a module imports to their dotted origin ({"compile": "re.compile"}).
    """
    if _binds_around(node):
        return False
    for part in _evaluated(node):
        if not isinstance(part, ast.expr) or isinstance(part, _PLAIN):
            continue
        if isinstance(part, ast.Lambda) and fresh:
            continue  # a new function; it is not called here
        if not isinstance(part, ast.Call) or not _pure_call(part, imports, fresh=fresh):
            return False
    return True


def _binds_around(node: ast.expr) -> bool:
    """Whether a comprehension binds a name of the scope around it (PEP 572)."""
    loops = (p for p in ast.walk(node) if isinstance(p, _COMPREHENSIONS))
    return any(isinstance(part, ast.NamedExpr) for loop in loops for part in ast.walk(loop))


def _evaluated(node: ast.expr) -> Iterator[ast.AST]:
    """What is evaluated with `node`: the body of a lambda when its receiver calls it, else not."""
    pending: list[ast.AST] = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Lambda):
            yield part
            pending += [*part.args.defaults, *filter(None, part.args.kw_defaults)]
            continue
        yield part
        called = isinstance(part, ast.Call) and dotted(part.func) in CALLERS
        for child in ast.iter_child_nodes(part):
            given = child.value if isinstance(child, ast.keyword) else child
            pending.append(given.body if called and isinstance(given, ast.Lambda) else child)


def _pure_call(node: ast.Call, imports: Mapping[str, str], *, fresh: bool) -> bool:
    name = dotted(node.func)
    if name is not None and is_pure_callable(origin(name, imports), fresh=fresh):
        return True
    if name is not None and origin(name, imports) == "type":
        return len(node.args) == 1
    # a method of a literal, or of something that `evaluate` will insist is a plain value
    if not isinstance(node.func, ast.Attribute):
        return False
    own = name is None or name.partition(".")[0] not in imports
    if node.func.attr in _REPLACERS:  # what they are given for the new text may be called
        return own and len(node.args) > 1 and isinstance(node.args[0], ast.Constant)
    return node.func.attr in _METHODS or (own and node.func.attr in _OWN_METHODS)


def is_pure_callable(name: str, *, fresh: bool = True) -> bool:
    """Whether a call of what has this dotted origin may be made again (a first time: `fresh`)."""
    listed = PURE_CALLS | TYPING_CALLS | (FRESH_CALLS if fresh else frozenset[str]())
    return (
        name in listed
        or name.rpartition(".")[0] in _PURE_MODULES
        or name == NAMED_TUPLE
        or name.startswith(OWN)
    )


def is_pure_method(name: str) -> bool:
    """Whether a method of this name changes nothing, on plain data."""
    return name in _METHODS or name in _OWN_METHODS or name in _REPLACERS


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


def only_tables(node: ast.expr, imports: Mapping[str, str]) -> bool:
    """True when all the state that evaluating `node` makes is of the built-in containers."""
    for part in _evaluated(node):
        name = dotted(part.func) if isinstance(part, ast.Call) else None
        if name is not None and origin(name, imports) in FRESH_CALLS - _TABLE_CALLS:
            return False
        if isinstance(part, ast.Lambda):
            return False
    return True


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
