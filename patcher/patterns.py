"""A class pattern loads the attributes that it names: an object that lacks one does not match."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from zdpatch.patcher.names import dotted
from zdpatch.patcher.parts import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def loaded(pattern: ast.pattern, root: str) -> Iterator[tuple[str, str, ast.pattern]]:
    """(object, attribute, where) for each attribute by name; `root` is what is matched, as a dotted
    name ("" when it has none).
    """
    match pattern:
        case ast.MatchAs(pattern=inner) if inner is not None:
            yield from loaded(inner, root)
        case ast.MatchOr(patterns=each):
            for one in each:
                yield from loaded(one, root)
        case ast.MatchClass():
            for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                yield root, name, pattern
                yield from loaded(inner, f"{root}.{name}" if root else "")
            for inner in pattern.patterns:
                yield from loaded(inner, "")
        case ast.MatchSequence(patterns=each) | ast.MatchMapping(patterns=each):
            for one in each:
                yield from loaded(one, "")
        case _:
            pass


def captured(pattern: ast.AST) -> Iterator[str]:
    """Variables that a pattern, or one inside of it, binds."""
    for part in parts(pattern):
        if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name is not None:
            yield part.name
        elif isinstance(part, ast.MatchMapping) and part.rest is not None:
            yield part.rest


def dispensed(cases: Sequence[ast.match_case]) -> Iterator[str]:
    """Attributes for whose absence a later case for the same class is there."""
    for index, case in enumerate(cases):
        later = [one for each in cases[index + 1 :] for one in _of_class(each.pattern)]
        for each in _of_class(case.pattern):
            for other in later:
                if dotted(other.cls) == dotted(each.cls) and not other.patterns:
                    yield from {*each.kwd_attrs} - {*other.kwd_attrs}


def _of_class(pattern: ast.pattern) -> Iterator[ast.MatchClass]:
    return (part for part in parts(pattern) if isinstance(part, ast.MatchClass))


def positional(node: ast.Assign) -> Iterator[str]:
    """Attributes that a class names for patterns without names."""
    named = any(isinstance(e, ast.Name) and e.id == "__match_args__" for e in node.targets)
    if named and isinstance(node.value, ast.Tuple | ast.List):
        for each in node.value.elts:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value
