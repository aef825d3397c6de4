"""Arguments are bound to the parameters of a definition as a call of it would bind them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, cast

from zdpatch.patcher.evaluate import Unevaluable
from zdpatch.patcher.plain import NO_BUILTINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.names import FunctionNode


def bind(
    node: FunctionNode,
    defaults: Mapping[str, object],
    arguments: list[object],
    words: dict[str, object],
) -> dict[str, object]:
    """Parameters by name. `defaults`: their values, by kind and place ("d0", and "k0" for those
    given by keyword only). Raises Unevaluable for a call that does not fit.
    """
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    extra = [each for each in (given.vararg, given.kwarg) if each is not None]
    shown = ast.Dict(
        [ast.Constant(each.arg) for each in [*every, *extra]],
        [ast.Name(each.arg, ast.Load()) for each in [*every, *extra]],
    )
    plain = ast.arguments(
        [ast.arg(each.arg) for each in given.posonlyargs],
        [ast.arg(each.arg) for each in given.args],
        ast.arg(given.vararg.arg) if given.vararg else None,
        [ast.arg(each.arg) for each in given.kwonlyargs],
        [
            None if each is None else ast.Name(f"k{i}", ast.Load())
            for i, each in enumerate(given.kw_defaults)
        ],
        ast.arg(given.kwarg.arg) if given.kwarg else None,
        [ast.Name(f"d{i}", ast.Load()) for i in range(len(given.defaults))],
    )
    binder = ast.fix_missing_locations(ast.Expression(ast.Lambda(plain, shown)))
    try:
        made = eval(compile(binder, "<binder>", "eval"), {**NO_BUILTINS, **defaults})  # noqa: S307 - binds names
        return cast("dict[str, object]", made(*arguments, **words))
    except TypeError as error:
        raise Unevaluable(f"it raises TypeError: {error}") from error
