"""The text of a function takes the place of a definition in the source of a module, and nothing
else of that source changes: decorators stay, and what was put there is read again and compared.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import textwrap
import tokenize
from typing import TYPE_CHECKING, Final, TypeAlias

from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.outline import outline

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_IMPLIED: Final = ("__name__", "__file__", "__doc__", "__package__", "__spec__", "__class__")
_DEF: Final = re.compile(r"((?:async\s+)?def\s+)\w+")


def graft(source: bytes, path: str, text: str, dropped: Collection[str] = ()) -> bytes:
    """`source` with the function of `text` as its definition "qualname" of `path` ("module:a.b").

    Decorators of `text` are those of `dropped` alone. Raises AuthorError ZDP-004 for a definition
    that is not there, or is there more than once, and ZDP-206 for a text that cannot be there.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    old = source.decode(encoding)
    given = _function(path, text, dropped)
    target = _definition(path, ast.parse(old))
    end = "\r\n" if "\r\n" in old else "\n"
    lines = old.splitlines()
    fresh = _indented(_lines(textwrap.dedent(text), given), target.col_offset, target.name)
    assert target.end_lineno is not None
    lines[target.lineno - 1 : target.end_lineno] = fresh
    new = end.join(lines) + (end if old.endswith("\n") else "")
    _check(path, given, _definition(path, ast.parse(new)))
    _check_names(path, given, new.encode(encoding))
    return new.encode(encoding)


def _function(path: str, text: str, dropped: Collection[str]) -> _Function:
    try:
        body = ast.parse(textwrap.dedent(text)).body
    except SyntaxError as error:
        raise _unfit(path, f"its text does not stand alone: {error.msg}") from error
    if len(body) != 1 or not isinstance(body[0], FunctionNode):
        raise _unfit(path, "its text is not that of one function")
    for each in body[0].decorator_list:
        call = each.func if isinstance(each, ast.Call) else each
        last = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        if last not in dropped:
            raise _unfit(path, f"it has a decorator, {ast.unparse(each)}: the old ones stay")
    body[0].decorator_list = []
    return body[0]


def _definition(path: str, tree: ast.Module) -> _Function:
    """The one definition that a path names."""
    *scopes, name = path.partition(":")[2].split(".")
    body: list[ast.stmt] = tree.body
    for scope in scopes:
        found = [n for n in body if isinstance(n, ast.ClassDef) and n.name == scope]
        body = found[0].body if len(found) == 1 else []
    named = [n for n in body if isinstance(n, FunctionNode) and n.name == name]
    if len(named) != 1:
        number = "no" if not named else f"{len(named)} times a"
        raise AuthorError("ZDP-004", f"there is {number} function {path}", next="give its path")
    return named[0]


def _lines(text: str, node: _Function) -> list[tuple[str, bool]]:
    """The lines of a function without its decorators; False: the line begins inside of a text."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        inside.update(range(token.start[0] + 1, token.end[0] + 1))
    assert node.end_lineno is not None
    numbered = enumerate(text.splitlines(), 1)
    return [(line, n not in inside) for n, line in numbered if node.lineno <= n <= node.end_lineno]


def _indented(lines: list[tuple[str, bool]], column: int, name: str) -> list[str]:
    first, *rest = lines
    head = " " * column + _DEF.sub(rf"\g<1>{name}", first[0], count=1)
    return [head, *(" " * column + line if free and line else line for line, free in rest)]


def _check(
    path: str,
    given: _Function,
    placed: _Function,
) -> None:
    """What stands there now is what was given."""
    same = type(given) is type(placed) and all(
        ast.dump(a) == ast.dump(b)
        for a, b in ((given.args, placed.args), (ast.Module(given.body), ast.Module(placed.body)))
    )
    if not same:
        raise _unfit(path, "put there, its text means something else")


def _check_names(path: str, given: _Function, source: bytes) -> None:
    """What it reads must be there; that of another module or of a notebook is not."""
    module = path.partition(":")[0]
    items = outline(module, source, package=False).items
    if any(item.kind == "star" for item in items):
        return
    there = {name for item in items for name in item.names}
    there |= {*_bound(given), *vars(builtins), *_IMPLIED}
    used = (n for n in ast.walk(given) if isinstance(n, ast.Name))
    read = {n.id for n in used if isinstance(n.ctx, ast.Load)}
    if missing := sorted(read - there):
        raise _unfit(path, f"it reads {', '.join(missing)}, which {module} does not have")


def _bound(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _unfit(path: str, why: str) -> AuthorError:
    return AuthorError("ZDP-206", f"the function cannot replace {path}: {why}")
