"""Which branch of a module ran is decided by the text alone, or by what the process shows, or not
at all.

The text and the running Python decide `TYPE_CHECKING`, `__name__ == "__main__"` and
`sys.version_info`. For others `taken` tells a block from the process, and the outline reads that
block as if it stood there alone.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any, Final, Literal, cast

from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import origin

Taken = Literal["body", "orelse", "handler"]
Branches = Mapping[str, Taken]  # by `branch_key`
_ORDERED: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.GtE: ge, ast.Gt: gt, ast.Lt: lt, ast.LtE: le
}  # fmt: skip


def branch_key(node: ast.stmt) -> str:
    """What the choice of a branch depends on, by the text: the same for equal tests."""
    if isinstance(node, ast.If):
        return "if " + ast.dump(node.test)
    if isinstance(node, ast.Try) and not node.finalbody:
        imports = [each for each in node.body if isinstance(each, ast.Import | ast.ImportFrom)]
        caught = [each.type for each in node.handlers]
        names = [ast.dump(each) if each is not None else "" for each in caught]
        return "|".join(["try", *sorted(map(ast.dump, imports)), *names])
    return ""


def taken_blocks(node: ast.stmt, taken: Taken) -> list[ast.stmt]:
    """The statements that ran."""
    if isinstance(node, ast.Try):
        return node.handlers[0].body if taken == "handler" else [*node.body, *node.orelse]
    assert isinstance(node, ast.If)
    return node.body if taken == "body" else node.orelse


def without_blocks(node: ast.stmt) -> ast.stmt:
    """The statement alone: what decides which of its blocks runs."""
    test = node.test if isinstance(node, ast.If) else ast.Constant(value=True)
    return ast.fix_missing_locations(ast.copy_location(ast.If(test, [ast.Pass()], []), node))


def decided(node: ast.If, imports: dict[str, str], *, started: bool) -> list[ast.stmt] | None:
    """The branch of an `if` that the text and the running Python decide; None when only the process
    knows. `started`: whether the module is the program that was started.
    """
    value = _static(node.test, imports, started=started)
    if value is None:
        return None
    return node.body if value else node.orelse


def _static(test: ast.expr, imports: dict[str, str], *, started: bool) -> bool | None:
    if dotted(test) is not None and cast("str", dotted(test)).rpartition(".")[2] == "TYPE_CHECKING":
        return False
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _static(test.operand, imports, started=started)
        return None if inner is None else not inner
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, right = test.left, test.comparators[0]
    if isinstance(left, ast.Name) and left.id == "__name__":
        outcomes: dict[type[ast.cmpop], bool] = {ast.Eq: started, ast.NotEq: not started}
        return outcomes.get(type(test.ops[0])) if _is_main(right) else None
    name = dotted(left)
    if name and origin(name, imports) == "sys.version_info" and isinstance(right, ast.Tuple):
        return _version(test.ops[0], right)
    return None


def _is_main(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "__main__"


def _version(operator: ast.cmpop, right: ast.Tuple) -> bool | None:
    try:
        bound = cast("tuple[object, ...]", ast.literal_eval(right))
    except ValueError:
        return None
    running: Any = tuple(sys.version_info)
    compare = _ORDERED.get(type(operator))
    return None if compare is None else compare(running, bound)
