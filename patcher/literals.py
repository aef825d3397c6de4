"""The value of a literal, as the text has it."""

from __future__ import annotations

import ast
from typing import cast


def literal(node: ast.expr | None) -> object:
    """The value of a literal; None for what is none."""
    try:
        return None if node is None else cast("object", ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
