"""Code that nowhere names what it would read cannot have read it: the text of a decorator's module,
and of every module that this one imports, and so on, has no word for signatures, annotations,
defaults or docstrings.

The standard library is left out: the functions of it which read such things are among the words.
What the code calls out of tables is followed to where it comes from.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from zdpatch.patcher import reach
from zdpatch.patcher.fitness import own_attributes
from zdpatch.patcher.hooked import callables_in, called_tables
from zdpatch.patcher.importers import source_of
from zdpatch.patcher.outline import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

OF_SIGNATURES: Final = frozenset(
    {
        "signature", "Signature", "__signature__", "getfullargspec", "getargspec", "getcallargs",
        "formatargspec", "getargs", "get_type_hints", "get_annotations", "__annotations__",
        "__defaults__", "__kwdefaults__", "__type_params__", "co_argcount", "co_varnames",
        "co_kwonlyargcount", "co_posonlyargcount", "singledispatch", "singledispatchmethod",
        "create_autospec", "getsource", "getsourcelines", "dataclass", "make_dataclass",
        "getmembers", "getmembers_static", "WRAPPER_ASSIGNMENTS", "dir", "vars", "__dict__",
        "attrgetter", "import_module", "__import__", "linecache", "co_filename", "pydoc", "doctest",
        "xmlrpc", "register_function",
    }
)  # fmt: skip
OF_CLASSES: Final = frozenset({"__dict__"})  # that of a function has none of it
OF_FIELDS: Final = frozenset({"dataclass", "make_dataclass"})  # they read no function
OF_DOCSTRINGS: Final = frozenset(
    {"__doc__", "getdoc", "cleandoc", "getsource", "getsourcelines", "getmembers", "dir", "vars",
     "getmembers_static", "WRAPPER_ASSIGNMENTS", "__dict__", "attrgetter", "import_module",
     "__import__", "linecache", "co_filename", "pydoc", "doctest", "xmlrpc", "register_function"}
)  # fmt: skip
# Common words: they count in the package of who is called, and of hooks.
_COMMON: Final = frozenset(
    {"dir", "vars", "__dict__", "attrgetter", "import_module", "__import__", "linecache"}
)
_STANDARD: Final = frozenset({*sys.stdlib_module_names, "builtins", "typing_extensions"})
_MOST: Final = 400  # modules; who imports more is not looked at


class _Text(NamedTuple):
    """The words of a module, the modules that it imports, and tables out of which it calls."""

    words: frozenset[str]
    imported: frozenset[str]
    tables: frozenset[str]


@dataclass(frozen=True, eq=False)
class Silence:
    """What was read of the texts of one process."""

    _texts: dict[str, _Text | None] = field(default_factory=dict[str, "_Text | None"])

    def of(self, value: object, words: frozenset[str]) -> bool:
        """Whether calling `value`, a function, method, class or object of another class, comes to
        no code that has one of `words`.
        """
        pending = list(_homes(value))
        seen = set(pending)
        if not pending:
            return False
        near = {name.partition(".")[0] for name in pending}
        own = _attributes(value)
        while pending and len(seen) <= _MOST:
            name = pending.pop()
            if name.partition(".")[0] in _STANDARD:
                continue
            text = self._read(name)
            here = words if name.partition(".")[0] in near else words - _COMMON
            if text is None or text.words & here:
                return False
            space = reach.namespace(sys.modules[name])
            hooks = [*callables_in((space, *own), text.tables)]
            if any(_name(each) in words for each in hooks):
                return False
            of_hooks = set(chain.from_iterable(map(_homes, hooks)))
            near |= {each.partition(".")[0] for each in of_hooks}
            fresh = {*text.imported, *_modules_in(space), *of_hooks} - seen
            seen |= fresh
            pending += fresh
        return not pending

    def _read(self, name: str) -> _Text | None:
        """What was read of a module; None when it has no text."""
        if name not in self._texts:
            self._texts[name] = _parsed(name)
        return self._texts[name]


def _modules_in(space: dict[str, object]) -> Iterator[str]:
    """The modules that a namespace has, however it came to them."""
    for _, value in reach.items(space):
        if reach.is_a(value, ModuleType):
            name = reach.namespace(cast("ModuleType", value)).get("__name__")
            if type(name) is str and name in sys.modules:
                yield name


def _homes(value: object) -> Iterator[str]:
    """The modules of the code that a call runs first; none for what is not known."""
    if reach.is_a(value, staticmethod, classmethod, MethodType):
        inner = cast("MethodType", value).__func__
        own = getattr(value, "__self__", None)
        yield from _homes(inner)
        yield from _homes(own) if own is not None and type(value) is MethodType else ()
    elif type(value) is FunctionType:
        yield str(value.__globals__.get("__name__"))
    elif value is not None and not reach.is_a(value, ModuleType):
        cls = cast("type", value) if reach.is_a(value, type) else type(value)
        for each in cast("tuple[type, ...]", type.__dict__["__mro__"].__get__(cls)):
            yield str(reach.class_dict(each).get("__module__") or "builtins")


def _attributes(value: object) -> list[dict[str, object]]:
    """The attributes of the object that is called, or whose method is, and of its classes."""
    own = value.__self__ if type(value) is MethodType else value
    if type(own) is FunctionType:
        return []
    cls = cast("type", own) if reach.is_a(own, type) else type(own)
    spaces = [dict(reach.class_dict(each)) for each in cls.__mro__]
    return [*spaces, own_attributes(own) or {}]


def _name(value: object) -> str:
    function = next(iter(reach.inner_functions(value)), None)
    named = function if function is not None else value
    return named.__name__ if isinstance(named, FunctionType | BuiltinFunctionType) else ""


def _parsed(name: str) -> _Text | None:
    module = sys.modules.get(name)
    if not reach.is_a(module, ModuleType):
        return None
    found = cast("ModuleType", module)
    source = source_of(found)
    try:
        tree = ast.parse(source) if source is not None else None
    except (SyntaxError, ValueError, RecursionError):
        tree = None
    if tree is None:
        return None
    package = "__path__" in reach.namespace(found)
    words: set[str] = set()
    imported: set[str] = set()
    for node in ast.walk(tree):
        words.update(_words(node))
        imported.update(_imported(node, name, package=package))
    known = frozenset(each for each in imported if each in sys.modules)
    return _Text(frozenset(words), known, called_tables(tree))


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id
    elif isinstance(node, ast.Name) and node.id not in _BUILTIN:
        yield node.id
    elif isinstance(node, ast.Attribute) and node.attr not in _BUILTIN:
        yield node.attr
    elif isinstance(node, ast.alias):
        yield from node.name.split(".")
    elif isinstance(node, ast.Constant):
        yield from {node.value} - _BUILTIN if isinstance(node.value, str) else ()


_BUILTIN: Final = frozenset({"dir", "vars"})  # other things have these names as well


def _imported(node: ast.AST, module: str, *, package: bool) -> Iterator[str]:
    """Every module that an import may have loaded, with the packages that it is in."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    elif isinstance(node, ast.ImportFrom):
        owner = absolute(node, module, package=package)
        names = [owner, *(f"{owner}.{each.name}" for each in node.names)]
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[: depth + 1]) for depth in range(len(parts)))
