"""Code that nowhere names what it would read cannot have read it: the text of a decorator's module,
and of every module that this one imports, and so on, has no word for signatures, annotations,
defaults or docstrings.

The standard library is left out: the functions of it which read such things are among the words.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
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
        "xmlrpc", "register_function", "pickle",
    }
)  # fmt: skip
OF_FIELDS: Final = frozenset({"dataclass", "make_dataclass"})  # they read no function
OF_DOCSTRINGS: Final = frozenset(
    {"__doc__", "getdoc", "cleandoc", "getsource", "getsourcelines", "getmembers", "dir", "vars",
     "getmembers_static", "WRAPPER_ASSIGNMENTS", "__dict__", "attrgetter", "import_module",
     "__import__", "linecache", "co_filename", "pydoc", "doctest", "xmlrpc", "register_function"}
)  # fmt: skip
_STANDARD: Final = frozenset({*sys.stdlib_module_names, "builtins", "typing_extensions"})
_MOST: Final = 400  # modules; who imports more is not looked at


@dataclass(frozen=True, eq=False)
class Silence:
    """What was read of the texts of one process."""

    _texts: dict[str, tuple[frozenset[str], frozenset[str]] | None] = field(
        default_factory=dict[str, "tuple[frozenset[str], frozenset[str]] | None"]
    )

    def of(self, value: object, words: frozenset[str]) -> bool:
        """Whether calling `value`, a function, method, class or object of another class, comes to
        no code that has one of `words`.
        """
        pending = list(_homes(value))
        seen = set(pending)
        if not pending:
            return False
        while pending and len(seen) <= _MOST:
            name = pending.pop()
            if name.partition(".")[0] in _STANDARD:
                continue
            text = self._read(name)
            if text is None or text[0] & words:
                return False
            fresh = text[1] - seen
            seen |= fresh
            pending += fresh
        return not pending

    def _read(self, name: str) -> tuple[frozenset[str], frozenset[str]] | None:
        """The words of a module and the modules that it imports; None when it has no text."""
        if name not in self._texts:
            self._texts[name] = _parsed(name)
        return self._texts[name]


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


def _parsed(name: str) -> tuple[frozenset[str], frozenset[str]] | None:
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
    return frozenset(words), frozenset(each for each in imported if each in sys.modules)


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.alias):
        yield from node.name.split(".")
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


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
