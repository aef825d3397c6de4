"""Changed is transitive: an unchanged statement which read a changed name when it ran is itself
changed.

Names are (module, qualified name) pairs. Reads are followed through imports, attribute chains and
class scopes. An example: `MAX` from 5 to 6 changes `UA = f"lib/{MAX}"` and `def f(n=MAX)`, which
nobody edited.
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import reach
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    DECORATORS,
    DEFAULTS,
    TYPE_PARAMS,
    Edit,
    ModuleVersions,
    Version,
)
from zdpatch.patcher.facets import defaults
from zdpatch.patcher.generics import params_of
from zdpatch.patcher.names import FunctionNode, annotations_of, fetched_module, uses
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.purity import origin

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

Name = tuple[str, str]


def meanings(outline: Outline, scope: str, name: str, modules: Container[str]) -> Iterator[Name]:
    """Every (module, qualname) that a dotted `name` read in `scope` may stand for."""
    root = name.partition(".")[0]
    if scope and outline.binders(scope, root):
        # until the class has bound the name itself, its body reads the module's
        yield outline.name, f"{scope}.{name}"
    yield outline.name, name
    yield outline.name, root
    if root in outline.imports:
        yield from split(origin(name, outline.imports), modules)


def split(full: str, modules: Container[str]) -> Iterator[Name]:
    """A full dotted name as (module, rest) for each of `modules` it can start with."""
    head, _, last = full.rpartition(".")
    rest = last
    while head:
        if head in modules:
            yield head, rest
        head, _, last = head.rpartition(".")
        rest = f"{last}.{rest}"


def learn(outline: Outline, space: Mapping[str, object]) -> None:
    """Take names that are bound to modules got by their names (`m = import_module("a.b")`) for
    imported ones: `space` has what they are bound to here.
    """
    for item in outline.items:
        value = getattr(item.node, "value", None)
        if len(item.names) == 1 and isinstance(value, ast.expr) and fetched_module(value):
            module = space.get(item.name)
            if type(module) is ModuleType:
                outline.imports.setdefault(item.name, str(reach.namespace(module)["__name__"]))


def absolute_source(source: tuple[ast.ImportFrom, str], outline: Outline) -> str:
    """The full dotted name that one name of a `from` import stands for."""
    node, name = source
    return f"{absolute(node, outline.name, package=outline.package)}.{name}"


def going(
    removed: Iterable[Edit], gone: Iterable[str], versions: Mapping[str, ModuleVersions]
) -> dict[Name, str]:
    """Names of modules that go, by their edits, or with their modules (`gone`)."""
    found = {(edit.module, edit.qualname): edit.path for edit in removed if not edit.scope}
    for name in gone:
        base = versions[name].base
        for item in base.outline.items if base is not None else ():
            found |= {(name, each): f"{name}:{each}" for each in item.names}
    return found


def stale_reads(
    versions: Mapping[str, ModuleVersions], changed: Mapping[Name, str], done: Iterable[Edit]
) -> list[Edit]:
    """Edits of the statements that read a name of `changed` (name to the path that caused it).

    Statements which `done` already edits are left out; the caller repeats until nothing is new.
    """
    edited = {_key(edit) for edit in done}
    found: list[Edit] = []
    for each in versions.values():
        if each.new is None or each.base is None:
            continue
        for edit in stale_in(each, versions, changed):
            if _key(edit) not in edited:
                found.append(edit)
                edited.add(_key(edit))
    return found


def stale_in(
    each: ModuleVersions, versions: Mapping[str, ModuleVersions], changed: Mapping[Name, str]
) -> Iterator[Edit]:
    """The edits of one module's statements that read a name of `changed`."""
    assert each.new is not None
    for item in each.new.outline.every():
        if item.kind == "star":
            yield from _stale_star(each, item, versions, changed)
        elif (cause := _fetched(item, versions, changed)) is not None:
            if each.base is not None and was_there(each.base, item):
                yield Edit(each.name, item.qualname, "stale", (item,), (item,), cause=cause)
        elif (cause := _cause(each.new, item, versions, changed)) is not None:
            yield from _stale(each, item, cause, versions, changed)


def _stale_star(
    each: ModuleVersions,
    item: Item,
    versions: Mapping[str, ModuleVersions],
    changed: Mapping[Name, str],
) -> Iterator[Edit]:
    """A star import took every exported name; what the module binds itself is not from there."""
    assert each.base is not None
    assert each.new is not None
    source = versions.get(item.source)
    for (module, name), cause in changed.items():
        if module != item.source or "." in name or source is None or source.new is None:
            continue
        if not source.new.outline.exports(name):
            continue
        own = each.new.outline.binders("", name)
        if not own:
            yield Edit(each.name, name, "value", (item,), (item,), cause=cause)
        for binder in own:  # the first may have made its value from the imported one
            if _reads_itself(binder, name) and was_there(each.base, binder):
                yield Edit(each.name, name, "stale", (binder,), (binder,), cause=cause)


def _reads_itself(item: Item, name: str) -> bool:
    node = item.node
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id == name
    return name in item.ran.reads


def _key(edit: Edit) -> tuple[object, ...]:
    """A function may be edited and read a changed name besides; everything else has one edit."""
    role = edit.new[-1].role if edit.new else ""
    return (
        edit.module,
        edit.kind,
        edit.qualname,
        role,
        edit.stale,
        edit.kind == "function" and bool(edit.cause),
    )


def _fetched(
    item: Item, versions: Mapping[str, ModuleVersions], changed: Mapping[Name, str]
) -> str | None:
    """A changed name read of a module that was got by its name (`sys.modules["a"].b`)."""
    names = (name for full in sorted(item.fetched) for name in split(full, versions))
    return next((changed[name] for name in names if name in changed), None)


def cause_of(
    version: Version,
    item: Item,
    versions: Mapping[str, ModuleVersions],
    changed: Mapping[Name, str],
) -> str | None:
    """The path to blame for a changed name that a statement reads; None when it reads none."""
    return _fetched(item, versions, changed) or _cause(version, item, versions, changed)


def _cause(
    version: Version,
    item: Item,
    versions: Mapping[str, ModuleVersions],
    changed: Mapping[Name, str],
) -> str | None:
    if item.kind == "field" and item.lazy_annotations:
        return None
    if item.kind == "import":
        names = split(item.source, versions)
        return next((changed[name] for name in names if name in changed), None)
    for source in item.imported:
        full = absolute_source(source, version.outline)
        if found := next((changed[n] for n in split(full, versions) if n in changed), None):
            return found
    for read in sorted(item.reads):
        for name in meanings(version.outline, item.scope, read, versions):
            if name in changed and name != (version.outline.name, item.qualname):
                return changed[name]
            if name in changed and item.kind == "value":
                return changed[name]
    return None


def _stale(
    each: ModuleVersions,
    item: Item,
    cause: str,
    versions: Mapping[str, ModuleVersions],
    changed: Mapping[Name, str],
) -> Iterator[Edit]:
    """The edits of one statement, a name each; none for a new one: it is made from new values."""
    assert each.base is not None
    assert each.new is not None
    if item.kind == "effect":
        if was_there(each.base, item):
            qualname = f"{item.scope}:{item.line}" if item.scope else f":{item.line}"
            yield Edit(each.name, qualname, "stale", (item,), (item,), cause=cause)
        return
    for name in item.names:
        old = tuple(each.base.outline.binders(item.scope, name))
        qualname = f"{item.scope}.{name}" if item.scope else name
        if not old:
            continue
        if item.kind in {"value", "import"}:
            new = tuple(each.new.outline.binders(item.scope, name))
            yield Edit(each.name, qualname, "value", old, new, cause=cause)
        elif item.kind == "class":
            yield Edit(each.name, qualname, "header", old, (item,), cause=cause)
        elif item.kind == "field":
            yield Edit(each.name, qualname, "fields", old, (item,), cause=cause)
        elif (edit := _stale_function(each, item, cause, versions, changed)) is not None:
            yield edit


def _stale_function(
    each: ModuleVersions,
    item: Item,
    cause: str,
    versions: Mapping[str, ModuleVersions],
    changed: Mapping[Name, str],
) -> Edit | None:
    assert each.new is not None
    assert each.base is not None
    node = item.node
    assert isinstance(node, FunctionNode)
    outline = each.new.outline

    def reads(*nodes: ast.AST) -> bool:
        used = uses(*nodes).reads
        every = (name for read in used for name in meanings(outline, item.scope, read, versions))
        return any(name in changed for name in every)

    facets: set[str] = set()
    stale = frozenset(name for name, value in defaults(node).items() if reads(value))
    if stale:
        facets.add(DEFAULTS)
    if reads(*node.decorator_list):
        facets.add(DECORATORS)
    if not item.lazy_annotations and reads(*annotations_of(node).values()):
        facets.add(ANNOTATIONS)
    if reads(*params_of(node)):
        facets |= {TYPE_PARAMS, ANNOTATIONS}
    if not facets:
        return None
    old = next(
        (i for i in each.base.outline.binders(item.scope, item.name) if i.role == item.role), None
    )
    if old is None or old.kind != "function":
        return None
    pair = (each.base.code_of(old), each.new.code_of(item))
    return Edit(
        each.name, item.qualname, "function", (old,), (item,), frozenset(facets), pair,
        cause=cause, stale=stale,
    )  # fmt: skip


def was_there(base: Version, item: Item) -> bool:
    """False for a statement that is new: it is evaluated once, with the new values."""
    if item.names:
        group = base.outline.binders(item.scope, item.name)
    else:
        group = [each for each in base.outline.scopes.get(item.scope, ()) if not each.names]
    return any(each is item or each.shape == item.shape for each in group)
