"""What a function imports itself, and what it reads of a whole module, it reads when called."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.purity import origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.outline import Outline

EVERY: Final = "*"  # stands for every name of a module
_WORDS: Final = (b"import", b"getattr(", b"vars(", b"__dict__")


def inner_reads(node: ast.AST, outline: Outline) -> set[str]:
    """Full dotted names that a definition reads of what it imports in its body; `EVERY` is the last
    part where it reads names that only running it tells.
    """
    if id(node) not in outline.inner_reads:
        found = _inner_reads(node, outline) if _worth(node, outline) else set[str]()
        outline.inner_reads[id(node)] = found
    return outline.inner_reads[id(node)]


def _inner_reads(node: ast.AST, outline: Outline) -> set[str]:
    own, found = _imported(node, outline)
    names = {**outline.imports, **own}
    for part in ast.walk(node):
        name = dotted(part) if own and isinstance(part, ast.Attribute) else None
        root, _, rest = (name or "").partition(".")
        if root in own:
            found.add(f"{own[root]}.{rest}")
        if (walked := _walked(part)) is not None:
            found.add(f"{origin(walked, names)}.{EVERY}")
    return found


def _worth(node: ast.AST, outline: Outline) -> bool:
    """Whether its text has what is looked for: most definitions need not be walked."""
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", None)
    text = b"\n".join(outline.lines[first - 1 : last])
    return any(word in text for word in _WORDS)


def _imported(node: ast.AST, outline: Outline) -> tuple[dict[str, str], set[str]]:
    """Full names by the names a definition binds them to, and those which importing reads."""
    own: dict[str, str] = {}
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom):
            owner = absolute(part, outline.name, package=outline.package)
            names = {alias.asname or alias.name: f"{owner}.{alias.name}" for alias in part.names}
            own |= names
            found.update(names.values())
        elif isinstance(part, ast.Import):
            for alias in part.names:
                name = alias.asname or alias.name.partition(".")[0]
                own[name] = alias.name if alias.asname else name
    return own, found


def _walked(node: ast.AST) -> str | None:
    """What `getattr(x, name)`, `vars(x)` and `x.__dict__` read by names that the text has not."""
    match node:
        case ast.Call(func=ast.Name(id="vars"), args=[owner]):
            return dotted(owner)
        case ast.Call(func=ast.Name(id="getattr"), args=[owner, name, *_]):
            return None if isinstance(name, ast.Constant) else dotted(owner)
        case ast.Attribute(value=owner, attr="__dict__"):
            return dotted(owner)
        case _:
            return None


def executed(node: ast.AST, outline: Outline) -> Iterator[str]:
    """Modules from which a text handed to `exec` imports every name."""
    for part in ast.walk(node):
        match part:
            case ast.Call(func=ast.Name(id="exec"), args=[ast.Constant(value=str(text)), *_]):
                yield from _stars(text, outline)
            case _:
                pass


def _stars(text: str, outline: Outline) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and part.names[0].name == "*":
            yield absolute(part, outline.name, package=outline.package)
