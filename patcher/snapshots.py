"""A list of names or classes, made at import, lacks what the patch adds and keeps what it removes.

Looked for in the text of import-time statements: `globals()`, `dir(x)`, `vars(x)`, `x.__dict__`,
`inspect.getmembers(x)` and `x.__subclasses__()`, where what they give is gone through or copied.
What a condition on the name alone leaves out does not count.
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.names import dotted
from zdpatch.patcher.spread import was_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.tracing import World

_OWN: Final = frozenset({"globals", "locals", "vars", "dir"})
_OF: Final = frozenset({"dir", "vars", "getmembers", "getmembers_static"})
_COPIES: Final = frozenset({"list", "tuple", "set", "frozenset", "dict", "sorted", "len", "copy"})
_VIEWS: Final = frozenset({"items", "keys", "values", "copy"})
_TESTS: Final = frozenset({"startswith", "endswith", "isupper", "islower", "isidentifier"})


def stale_snapshots(edits: Sequence[Edit], world: World) -> Iterator[Edit]:
    """Edits of kind "stale" for statements on both sides that listed the names of what gains or
    loses one.
    """
    moved = [edit for edit in edits if edit.kind in {"added", "removed"}]
    for each in world.versions.values() if moved else ():
        if each.new is None or each.base is None:
            continue
        for item in each.new.outline.every():
            cause = _cause(each, item, moved, world) if item.kind in {"value", "effect"} else None
            if cause is not None and was_there(each.base, item):
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="metadata"
                )


def _cause(each: ModuleVersions, item: Item, moved: Sequence[Edit], world: World) -> str | None:
    conditions = list(_conditions(item.node))
    for node in _listed(item.node):
        target = _target(node, each.name, item, world)
        if target is None:
            continue
        for edit in moved:
            if _listing(edit, target, world) and _before(edit, item, node, each.name):
                name = edit.qualname.rpartition(".")[2]
                if all(may_hold(test, names, name) for names, test in conditions):
                    return edit.path
    return None


def _listed(statement: ast.stmt) -> Iterator[ast.expr]:
    """Expressions of a statement that are gone through or copied, without `.items()` and such."""
    for part in ast.walk(statement):
        match part:
            case ast.comprehension(iter=node) | ast.For(iter=node) | ast.Starred(value=node):
                yield _bare(node)
            case ast.Call(func=func, args=[first, *_]):
                if (dotted(func) or "").rpartition(".")[2] in _COPIES:
                    yield _bare(first)
            case ast.Assign(value=node) | ast.AnnAssign(value=ast.expr() as node):
                # these are copies by themselves
                if isinstance(node, ast.Call) and _called(node) in {*_OF, "__subclasses__"} - {
                    "vars"
                }:
                    yield node
            case _:
                pass


def _bare(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if inner is not None and node.func.attr in _VIEWS:  # type: ignore[attr-defined]
            node = inner
        elif node.args and _called(node) in _COPIES:
            node = node.args[0]
        else:
            break
    return node


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else (dotted(node.func) or "")


def _target(node: ast.expr, module: str, item: Item, world: World) -> tuple[str, Name] | None:
    """("names" or "classes", path of what is listed); the path of a module ends with nothing."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return _path(node.value, module, item, world)
    if not isinstance(node, ast.Call):
        return None
    called = _called(node)
    if called == "__subclasses__" and isinstance(node.func, ast.Attribute):
        found = _path(node.func.value, module, item, world)
        return None if found is None else ("classes", found[1])
    if called in _OWN and not node.args:
        return "names", (module, "" if called == "globals" else item.scope)
    return _path(node.args[0], module, item, world) if called in _OF and node.args else None


def _path(node: ast.expr, module: str, item: Item, world: World) -> tuple[str, Name] | None:
    name = dotted(node)
    value = world.look(module, item.scope, name) if name is not None else None
    if type(value) is ModuleType:
        return "names", (str(reach.namespace(value).get("__name__")), "")
    path = world.names.get(id(value))
    return None if path is None else ("names", path)


def _listing(edit: Edit, target: tuple[str, Name], world: World) -> bool:
    """Whether what the edit adds or removes is one of what was listed."""
    what, (module, path) = target
    if what == "names":
        return (edit.module, edit.scope) == (module, path)
    node = (edit.new or edit.old)[-1].node
    listed = world.classes.get((module, path))
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    found = (world.look(edit.module, edit.scope, dotted(base) or "?") for base in bases)
    return any(value is listed for value in found)


def _before(edit: Edit, item: Item, node: ast.expr, module: str) -> bool:
    """A list of the own names has only those bound above it."""
    own = isinstance(node, ast.Call) and _called(node) in _OWN and not node.args
    if not own or edit.module != module or not edit.new:
        return True
    return edit.new[0].line < item.line


def _conditions(statement: ast.stmt) -> Iterator[tuple[set[str], ast.expr]]:
    """(loop variables, condition) of each condition that all which is taken must meet."""
    for part in ast.walk(statement):
        tests: list[ast.expr] = []
        if isinstance(part, ast.comprehension):
            tests = part.ifs
        elif isinstance(part, ast.For) and len(part.body) == 1 and isinstance(part.body[0], ast.If):
            tests = [part.body[0].test] if not part.body[0].orelse else []
        target = getattr(part, "target", None)
        if tests and target is not None:
            first = target.elts[0] if isinstance(target, ast.Tuple) else target
            names = {first.id} if isinstance(first, ast.Name) else set[str]()
            for test in tests:
                both = isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)
                for each in cast("ast.BoolOp", test).values if both else [test]:
                    yield names, each


def may_hold(test: ast.expr, names: set[str], name: str) -> bool:
    """Whether a condition may let a name pass: only what asks nothing but the name is tried."""
    quiet = (
        ast.Name, ast.Constant, ast.Compare, ast.UnaryOp, ast.Not, ast.Subscript, ast.Slice,
        ast.Attribute, ast.Call, ast.Tuple, ast.BoolOp, ast.expr_context, ast.cmpop, ast.boolop,
    )  # fmt: skip
    for part in ast.walk(test):
        own = not isinstance(part, ast.Name) or part.id in names
        method = not isinstance(part, ast.Attribute) or part.attr in _TESTS
        called = not isinstance(part, ast.Call) or isinstance(part.func, ast.Attribute)
        if not isinstance(part, quiet) or not (own and method and called):
            return True
    code = compile(ast.Expression(test), "<condition>", "eval")
    try:
        return bool(eval(code, {"__builtins__": {}}, dict.fromkeys(names, name)))  # noqa: S307 - only methods of text
    except (TypeError, ValueError, IndexError):
        return True
