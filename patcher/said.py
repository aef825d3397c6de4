"""A call that only prints or logs plain data keeps nothing that a program goes on with.

What is called is looked up in the live process: it must be the interpreter's own `print`, or a
function of `logging`. What it is given must turn into text without handing a value to other code.
"""

from __future__ import annotations

import ast
import builtins
import logging
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.computed import is_data
from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.patcher.outline import Outline

_LEVELS: Final = frozenset(
    {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"}
)
_STREAMS: Final = frozenset({"sys.stdout", "sys.stderr"})
_MAKES_TEXT: Final = ("str", "repr", "ascii", "format")
_OF_TEXT: Final = frozenset({"join", "format"})
# A class of the application may have these and its loggers are still those of `logging`.
_OWN: Final = frozenset(
    {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__init__", "__slots__",
     "__annotations__", "__firstlineno__", "__static_attributes__"}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Saying:
    """Where a statement stands. `resolve` looks up dotted names in its live module; `affected`:
    whether an expression reads anything that changes.
    """

    outline: Outline
    scope: str
    resolve: Callable[[str], object]
    affected: Callable[[ast.expr], bool]

    def says(self, node: ast.stmt) -> bool:
        """Whether the statement is a call that prints or logs what it is given, and no more."""
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return False
        call = node.value
        if self.affected(call.func) or not (self._prints(call) or self._logs(call)):
            return False
        return all(self._shown(each) for each in call.args) and all(
            self._shown(word.value) for word in call.keywords if word.arg != "file"
        )

    def _prints(self, call: ast.Call) -> bool:
        if _redirects(self.outline):
            return False
        words = [word for word in call.keywords if word.arg in {"file", None}]
        if any(word.arg is None or not self._stream(word.value) for word in words):
            return False
        return dotted(call.func) == "print" and _is_print(self._live(call.func))

    def _stream(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Constant):
            return node.value is None
        name = dotted(node)
        return name is not None and origin(name, self.outline.imports) in _STREAMS

    def _live(self, node: ast.expr) -> object:
        """What a dotted name is bound to here, and was all the time; None when that cannot be
        told.
        """
        name = dotted(node) or ""
        root = name.partition(".")[0]
        binders = self.outline.binders("", root)
        if not name or len(binders) > 1 or (self.scope and self.outline.binders(self.scope, root)):
            return None
        return self.resolve(name)

    # ------------------------------------------------------------ logging

    def _logs(self, call: ast.Call) -> bool:
        if _of_logging(self._live(call.func), _LEVELS):
            return True
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _LEVELS:
            return False
        owner = call.func.value
        logger = self._fetched(owner) if isinstance(owner, ast.Call) else self._live(owner)
        return _is_logger(logger, call.func.attr)

    def _fetched(self, call: ast.Call) -> object:
        """The logger that `logging.getLogger(...)` gives."""
        if call.keywords or not _of_logging(self._live(call.func), {"getLogger"}):
            return None
        match call.args:
            case []:
                return logging.root
            case [ast.Constant(value=str(name))]:
                return logging.Logger.manager.loggerDict.get(name)
            case [ast.Name(id="__name__")]:
                return logging.Logger.manager.loggerDict.get(self.outline.name)
            case _:
                return None

    # ------------------------------------------------------------ what is said

    def _shown(self, node: ast.expr) -> bool:
        """Whether making text of an expression hands no value that changes to other code."""
        if isinstance(node, ast.Tuple | ast.List):
            return all(self._shown(each) for each in node.elts)
        if isinstance(node, ast.Dict):
            keys = [key for key in node.keys if key is not None]
            return all(self._shown(each) for each in [*keys, *node.values])
        if isinstance(node, ast.Starred):
            return self._shown(node.value)
        return not self.affected(node) or self._text(node)

    def _text(self, node: ast.expr) -> bool:  # noqa: PLR0911 - one clause a kind of expression
        """Whether an expression surely gives plain data, made by the interpreter alone."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name | ast.Attribute):
            value = self._live(node)
            return value is not None and is_data(value)
        if isinstance(node, ast.JoinedStr):
            return all(map(self._text, node.values))
        if isinstance(node, ast.FormattedValue):
            spec = node.format_spec
            given = spec is not None and self.affected(spec)  # to whoever formats the value
            return self._text(node.value) if given else self._shown(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return _is_literal(node.left) and self._shown(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left) and self._text(node.right)
        return isinstance(node, ast.Call) and self._makes_text(node)

    def _makes_text(self, call: ast.Call) -> bool:
        values = [*call.args, *(word.value for word in call.keywords)]
        if isinstance(call.func, ast.Attribute):
            if not _is_literal(call.func.value) or call.func.attr not in _OF_TEXT:
                return False
            return all(self._shown(each) for each in values)
        if not isinstance(call.func, ast.Name):
            return False
        match values:
            case [ast.Name(id=each), value] if call.func.id == "map" and each in _MAKES_TEXT:
                return self._own(call.func) and self._own(values[0]) and self._shown(value)
            case [value] if call.func.id in _MAKES_TEXT:
                return self._own(call.func) and self._shown(value)
            case _:
                return False

    def _own(self, name: ast.expr) -> bool:
        """Whether a name stands for what the interpreter has under it."""
        return self._live(name) is vars(builtins).get(dotted(name) or "", self)


def _redirects(outline: Outline) -> bool:
    """Whether a module puts something else in place of the standard output."""
    names = {name.rpartition(".")[2] for name in _STREAMS}
    stored = (each for each in ast.walk(outline.tree) if isinstance(each, ast.Attribute))
    return any(each.attr in names and isinstance(each.ctx, ast.Store) for each in stored)


def _is_print(value: object) -> bool:
    """Whether a value is the interpreter's own `print`, and not what was put in its place."""
    if type(value) is not BuiltinFunctionType or value.__self__ is not builtins:
        return False
    return value.__name__ == "print"


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _of_logging(value: object, names: frozenset[str] | set[str]) -> bool:
    """Whether a value is a function that the module `logging` itself defines."""
    if type(value) is not FunctionType or value.__globals__ is not logging.__dict__:
        return False
    return value.__code__.co_qualname.rpartition(".")[2] in names


def _is_logger(value: object, method: str) -> bool:
    """Whether a value is a logger whose method is that of `logging`, with all that it comes to."""
    if value is None or not reach.is_a(value, logging.Logger):
        return False
    own = reach.class_dict(logging.Logger)
    for cls in mro(type(value)):
        if cls is logging.Logger:
            break
        names = reach.class_dict(cls).keys()
        if cls.__module__ != "logging" and names & (own.keys() | {"__getattribute__"}) - _OWN:
            return False
    functions = {name for name, each in own.items() if type(each) is FunctionType}
    state = cast("dict[str, object]", vars(value))
    return not state.keys() & functions and _of_logging(own.get(method), {method})
