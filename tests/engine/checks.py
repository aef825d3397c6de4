"""The lines of a scenario's checks: each expression is true, and what it was otherwise is shown."""

from __future__ import annotations

import ast
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Failed(Exception):  # noqa: N818  # it is a verdict, not an error of this program
    """The scenario does not hold; the text says where."""


def _explain(node: ast.expr, scope: dict[str, Any]) -> str:
    if isinstance(node, ast.Compare) and len(node.comparators) == 1:
        left, right = node.left, node.comparators[0]
        values = [
            eval(compile(ast.Expression(side), "<check>", "eval"), scope) for side in (left, right)
        ]
        return f"{values[0]!r:.300} against {values[1]!r:.300}"
    return "false"


def check(stage: str, text: str, scope: dict[str, Any]) -> None:
    """Each expression statement of `text` must be true; other statements are run."""
    for node in ast.parse(text).body:
        shown = ast.unparse(node)
        try:
            if isinstance(node, ast.Expr):
                code = compile(ast.Expression(node.value), f"<{stage}>", "eval")
                if not eval(code, scope):
                    raise Failed(f"{stage}: {shown}: {_explain(node.value, scope)}")
            else:
                exec(compile(ast.Module([node], []), f"<{stage}>", "exec"), scope)
        except Failed:
            raise
        except BaseException as error:
            raise Failed(f"{stage}: {shown}: raised\n{traceback.format_exc()}") from error


def raises(call: Callable[[], object], *kinds: type[BaseException]) -> bool:
    """True when `call()` raises one of `kinds`: for the check lines of scenarios."""
    try:
        call()
    except kinds:
        return True
    return False
