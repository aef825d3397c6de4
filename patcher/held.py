"""Names that hold what a call made and nobody has run, as far as statements only pass it on: any
other use at import may have run it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, annotations_of, dotted, uses
from zdpatch.patcher.spread import Name, meanings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.named import Named
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.reached import Reach

_LOOKING: Final = frozenset({"eval", "exec", "globals", "locals", "vars"})
HELD: Final = "held"  # detail of an edit of kind "stale"


def held_names(
    named: Named, reaches: tuple[Reach, Reach], known: Mapping[Name, str]
) -> dict[Name, str]:
    """`known`, and the names in the modules of `named` that hold something made, with the path to
    blame.

    `reaches`: who reaches a change at all, for values, and without what decorators make.
    """
    found = dict(known)
    full, outer = reaches
    for name, item, makers in named.bound:
        reach = outer if isinstance(item.node, FunctionNode) else full
        if (why := reach.only_binds(makers)) is not None:
            found[name] = why
    size = -1
    while size != len(found):
        size = len(found)
        for name, why in [*_passed_on(named, found)]:
            found.setdefault(name, why)
    return found


def _passed_on(named: Named, held: Mapping[Name, str]) -> Iterator[tuple[Name, str]]:
    if not held:
        return
    for each in named.bodies:
        for item in each.outline.every():
            if item.kind != "value" or not _only_binds(item.node):
                continue
            why = _held_in(_loaded(item), each.outline, item, held, each.modules)
            for name in item.names if why is not None else ():
                yield (each.name, f"{item.scope}.{name}" if item.scope else name), why or ""


def used(
    each: ModuleVersions, item: Item, held: Mapping[Name, str], modules: Collection[str]
) -> str | None:
    """The path to blame when a statement may have run something that is held."""
    if not held or each.new is None:
        return None
    outline = each.new.outline
    why = _held_in(_loaded(item) | item.calls, outline, item, held, modules)
    if why is None:
        why = _by_text(each, item, held) or _by_attribute(item, held)
    elif isinstance(item.node, FunctionNode):
        values = [*item.node.args.defaults, *filter(None, item.node.args.kw_defaults)]
        values += [] if item.lazy_annotations else annotations_of(item.node).values()
        headers = [*item.node.decorator_list, *(v for v in values if not _only_holds(v))]
        read = uses(*headers).reads
        why = _held_in(read, outline, item, held, modules)
    elif item.kind == "value" and _only_binds(item.node):
        why = None
    return why


def _loaded(item: Item) -> set[str] | frozenset[str]:
    """What a statement reads, without the names that it only binds."""
    node = item.node
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        others = [] if isinstance(node, ast.Assign) else [node.annotation]
        parts = [node.value, *([] if item.lazy_annotations else others)]
        inside = (part for each in parts for part in ast.walk(each) if isinstance(part, ast.expr))
        return {name for part in inside if (name := dotted(part)) is not None}
    if isinstance(node, FunctionNode | ast.ClassDef):
        return item.reads
    names = (dotted(part) for part in ast.walk(node) if isinstance(part, ast.expr))
    return {name for name in names if name is not None}  # lambdas may run, too


def _held_in(
    reads: Collection[str],
    outline: Outline,
    item: Item,
    held: Mapping[Name, str],
    modules: Collection[str],
) -> str | None:
    for read in sorted(reads):
        for name in meanings(outline, item.scope, read, modules):
            if name in held:
                return held[name]
    return None


def _by_text(each: ModuleVersions, item: Item, held: Mapping[Name, str]) -> str | None:
    """A name of the module may be used by a text that is executed, or by the namespace."""
    if not item.calls & _LOOKING:
        return None
    return next((why for (module, _), why in held.items() if module == each.name), None)


def _by_attribute(item: Item, held: Mapping[Name, str]) -> str | None:
    """A name of a class is used by its last part, on objects of which the text tells no class."""
    if item.kind in {"function", "class"}:
        return None
    words = item.ran.methods | item.ran.loads
    for (_, name), why in held.items():
        owner, _, last = name.rpartition(".")
        if owner and last in words:
            return why
    return None


def _only_binds(node: ast.stmt) -> bool:
    """Whether a statement binds names to what it reads, or to displays of it, and runs nothing."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return _only_holds(value) and all(_only_names(target) for target in targets)
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            return _only_holds(value)
        case _:
            return False


def _only_names(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(isinstance(each, ast.Name) for each in target.elts)
    return isinstance(target, ast.Name)


def _only_holds(value: ast.expr) -> bool:
    match value:
        case ast.Constant() | ast.Name():
            return True
        case ast.Attribute():
            return dotted(value) is not None
        case ast.Tuple() | ast.List() | ast.Dict():
            parts = [*value.keys, *value.values] if isinstance(value, ast.Dict) else value.elts
            return all(part is not None and _only_holds(part) for part in parts)
        case ast.Lambda():
            defaults = [*value.args.defaults, *filter(None, value.args.kw_defaults)]
            return all(_only_holds(each) for each in defaults)
        case _:
            return False
