"""Plain data, and what is known to make nothing else of it: operators and listed calls."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher.computed import is_data
from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.purity import is_pure_callable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Pure elsewhere, but what they give is no data, or is the process's of today.
_APART: Final = frozenset(
    {"logging.getLogger", "functools.partial", "os.getenv", "os.environ.get", "os.path.abspath",
     "os.path.realpath", "os.path.expanduser"}
)  # fmt: skip
_LAZY: Final = (map, filter, zip, reversed, enumerate)
NO_BUILTINS: Final[dict[str, object]] = {"__builtins__": {}}


class Once(list[object]):
    """What goes through things once: it is good for one use, at once, and has no value else."""

    def __bool__(self) -> bool:
        return True


def plain(value: object) -> bool:
    """Whether operators and methods of a value run nobody's code; a match of a pattern, too."""
    return is_data(value) or type(value) is re.Match


def immutable(value: object) -> bool:
    """Whether plain data cannot be changed by who holds it."""
    if type(value) in {tuple, frozenset}:
        return all(map(immutable, cast("tuple[object, ...]", value)))
    return type(value) not in {list, dict, set}


def operate(tree: ast.Expression, names: Mapping[str, object]) -> object:
    """What an expression gives on these operands. Raises Unevaluable for what raises."""
    try:
        code = compile(tree, "<operation>", "eval")
        return eval(code, dict(NO_BUILTINS), dict(names))  # noqa: S307 - operators on plain data
    except Exception as error:
        raise Unevaluable(f"it raises {type(error).__name__}: {error}") from error


def apply(called: Any, arguments: list[object], words: dict[str, object]) -> object:  # noqa: ANN401
    """What a call gives, if it is plain data. Raises Unevaluable."""
    try:
        given = [iter(each) if type(each) is Once else each for each in arguments]
        value: object = called(*given, **words)
        value = Once(cast("Iterable[object]", value)) if isinstance(value, _LAZY) else value
    except Exception as error:
        raise Unevaluable(f"it raises {type(error).__name__}: {error}") from error
    if not all(map(plain, value)) if isinstance(value, Once) else not plain(value):
        raise Unevaluable(f"a call gives a {type(value).__qualname__}, which is no plain data")
    return value


def is_listed(full: str) -> bool:
    """Whether what has this dotted origin gives plain data, and does nothing else."""
    makes_data = is_pure_callable(full, fresh=False) and full not in _APART
    return makes_data or full in {"list", "dict", "set"}


def asks_values(node: ast.Compare) -> bool:
    """Whether a comparison asks for no identity but that of None and the like."""
    asked = zip(node.ops, node.comparators, strict=True)
    return all(
        isinstance(part, ast.Constant) and (part.value is None or isinstance(part.value, bool))
        for op, part in asked
        if isinstance(op, ast.Is | ast.IsNot)
    )


def rebuilt(node: ast.AST, put: Callable[[ast.AST], ast.AST]) -> ast.AST:
    """A copy of one node with `put` applied to the nodes directly below."""
    fields: dict[str, object] = {}
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            parts = cast("list[object]", value)
            fields[name] = [put(each) if isinstance(each, ast.AST) else each for each in parts]
        else:
            fields[name] = put(value) if isinstance(value, ast.AST) else value
    return ast.copy_location(type(node)(**fields), node)
