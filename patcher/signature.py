"""A signature change is compatible when every call that was right before is right after, and means
the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast

    from zdpatch.patcher.names import FunctionNode


def breaks(old: FunctionNode, new: FunctionNode) -> str:
    """Why calls written for `old` may fail or mean something else on `new`; "" when they cannot."""
    return (
        _positional(old.args, new.args)
        or _keyword_only(old.args, new.args)
        or _stars(old.args, new.args)
    )


def _positional(old: ast.arguments, new: ast.arguments) -> str:
    before = [*old.posonlyargs, *old.args]
    after = [*new.posonlyargs, *new.args]
    required_before = len(before) - len(old.defaults)
    required_after = len(after) - len(new.defaults)
    for index, each in enumerate(before):
        if index >= len(after):
            return f"parameter {each.arg!r} is gone"
        only_position = index < len(old.posonlyargs)
        if after[index].arg != each.arg and not only_position:
            return f"parameter {each.arg!r} is renamed, moved or gone"
        if index < len(new.posonlyargs) and not only_position:
            return f"parameter {each.arg!r} no longer takes a keyword"
    named = {
        each.arg
        for each, default in zip(old.kwonlyargs, old.kw_defaults, strict=True)
        if default is None
    }
    for each in after[required_before:required_after]:
        if each.arg not in named:
            return f"parameter {each.arg!r} is required now"
    if len(after) > len(before) and old.vararg is not None:
        return f"parameter {after[len(before)].arg!r} takes what went to *{old.vararg.arg}"
    return ""


def _keyword_only(old: ast.arguments, new: ast.arguments) -> str:
    after = {
        each.arg: default is not None
        for each, default in zip(new.kwonlyargs, new.kw_defaults, strict=True)
    }
    before = {
        each.arg: default is not None
        for each, default in zip(old.kwonlyargs, old.kw_defaults, strict=True)
    }
    positional = [each.arg for each in new.args]
    optional_ones = positional[len(positional) - len(new.defaults) :] if new.defaults else []
    for name, optional in before.items():
        if name in positional:  # every call by keyword stays right
            if optional and name not in optional_ones:
                return f"keyword {name!r} is required now"
            continue
        if name not in after:
            return f"keyword {name!r} is gone or moved"
        if optional and not after[name]:
            return f"keyword {name!r} is required now"
    for name, optional in after.items():
        if name not in before and not optional:
            return f"keyword {name!r} is required now"
    return ""


def _stars(old: ast.arguments, new: ast.arguments) -> str:
    if old.vararg is not None and new.vararg is None:
        return f"*{old.vararg.arg} is gone"
    if old.kwarg is not None and new.kwarg is None:
        return f"**{old.kwarg.arg} is gone"
    return ""
