"""An entry of a table that only functions put there is missing when those which put it now have run
already: what the new code expects there is not found, and what it registers never registered.

Decided from the text of the whole patch: an entry under a constant that a function stores only now
and another reads under the same constant, not being ready for its absence; and a function or class
that joins others which the function has put into the table. What is in the table is seen on it.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.fitting import held
from zdpatch.patcher.names import dotted
from zdpatch.patcher.places import Place, first, located

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

_ADDS: Final = frozenset({"append", "add", "appendleft"})
_READY: Final = {"KeyError", "LookupError", "Exception", "BaseException"}
_KEYS: Final = (str, int, bytes)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is put under `key` (as `repr` has it), or without one; `what`: the function or class, by
    its path, "" for anything else.
    """

    module: str
    table: str
    key: str
    what: str


@dataclass(frozen=True, eq=False)
class Unfilled(Edit):
    """`entry` may be missing in its table. `before`: what the old version of the function put into
    the same; `read`: somebody reads it by its key.
    """

    entry: Entry = Entry("", "", "", "")
    before: frozenset[Entry] = frozenset()
    read: bool = False


def unfilled(old: Side, new: Side, changed: Collection[Function]) -> Iterator[Unfilled]:
    """An edit for each entry that one of `changed`, which are new functions, puts into a table."""
    fresh: dict[Entry, Function] = {}
    for function in changed:
        for entry in _puts(new, function):
            if entry not in _at_first(new, entry):
                fresh.setdefault(entry, function)
    for each in old.mentioning({entry.table for entry in fresh}):
        for entry in _puts(old, each):
            fresh.pop(entry, None)
    for entry, function in fresh.items():
        earlier = old.by_path.get(function.where, [])
        puts = {put for each in earlier for put in _puts(old, each)}
        table = entry.module, entry.table
        before = frozenset(each for each in puts if (each.module, each.table) == table)
        reader = _reader(new, entry, function) if entry.key else None
        if reader is not None or (entry.what and any(each.what for each in before)):
            yield _edit(function, earlier, entry, before, reader)


def not_put(edit: Unfilled) -> str:
    """Why the entry is not there; "" when it is, or the function has put nothing there by now."""
    module = sys.modules.get(edit.entry.module)
    table = reach.namespace(module).get(edit.entry.table) if module is not None else None
    if not reach.is_a(table, dict, list, set, frozenset, tuple) or _is_in(edit.entry, table):
        return ""
    if edit.before and not any(_is_in(each, table) for each in edit.before):
        return ""  # the function has not run yet
    what = edit.entry.key or edit.entry.what
    return f"{edit.entry.module}.{edit.entry.table} has no {what}"


def _is_in(entry: Entry, table: object) -> bool:
    if entry.key:
        pairs = reach.items(cast("dict[object, object]", table)) if type(table) is dict else ()
        return any(type(key) in _KEYS and repr(key) == entry.key for key, _ in pairs)
    return any(_path(each) == entry.what for each in held(table))


def _path(value: object) -> str:
    if type(value) is FunctionType:
        return f"{value.__globals__.get('__name__')}:{value.__code__.co_qualname}"
    if reach.is_a(value, type):
        cls = cast("type", value)
        return f"{reach.class_dict(cls).get('__module__')}:{reach.qualname(cls)}"
    return ""


def _edit(
    function: Function,
    before: list[Function],
    entry: Entry,
    puts: frozenset[Entry],
    reader: Function | None,
) -> Unfilled:
    what = entry.key or entry.what.partition(":")[2]
    who = f", which {reader.qualname} (line {reader.node.lineno}) reads" if reader else ""
    return Unfilled(
        *function.unfit(before),
        detail=(
            f"only the new {function.qualname} puts {what} into the table {entry.table}{who}; "
            f"if {function.qualname} has run already, it is not there"
        ),
        entry=entry,
        before=puts,
        read=reader is not None,
    )


def _puts(side: Side, function: Function) -> Iterator[Entry]:
    """What a function puts into tables that modules have."""
    for part in function.parts:
        match part:
            case ast.Assign(targets=[ast.Subscript(value=table, slice=ast.Constant() as key)]):
                yield from _entry(side, function, table, key, part.value)
            case ast.Call(func=ast.Attribute(value=table, attr="setdefault"), args=[key, value]):
                if isinstance(key, ast.Constant):
                    yield from _entry(side, function, table, key, value)
            case ast.Call(func=ast.Attribute(value=table, attr="update"), args=[ast.Dict() as d]):
                for each, value in zip(d.keys, d.values, strict=True):
                    if isinstance(each, ast.Constant):
                        yield from _entry(side, function, table, each, value)
            case ast.Call(func=ast.Attribute(value=table, attr=attr), args=[value]):
                if attr in _ADDS:
                    yield from _entry(side, function, table, None, value)
            case _:
                pass


def _entry(
    side: Side, function: Function, table: ast.expr, key: ast.Constant | None, value: ast.expr
) -> Iterator[Entry]:
    found = located(side, function, table)
    what = _code(side, function, value)
    if found is not None and not found[1] and (key is not None or what):
        yield Entry(found[0], found[2], repr(key.value) if key is not None else "", what)


def _code(side: Side, function: Function, value: ast.expr) -> str:
    """The function or class of the patch that a name stands for."""
    found = located(side, function, value) if dotted(value) else None
    if found is None or found[1]:
        return ""
    outline = side.outlines[found[0]]
    kinds = {item.kind for item in outline.binders("", found[2])}
    return f"{found[0]}:{found[2]}" if kinds and kinds <= {"function", "class"} else ""


def _at_first(side: Side, entry: Entry) -> set[Entry]:
    """What the module puts into the table when it is imported, as far as it matters for `entry`."""
    outline, place = side.outlines[entry.module], Place("entry", entry.module, "", entry.table)
    found: set[Entry] = set()
    for item in outline.binders("", entry.table):
        node = getattr(item.node, "value", None)
        for key in node.keys if isinstance(node, ast.Dict) else ():
            if isinstance(key, ast.Constant) and repr(key.value) == entry.key:
                found.add(entry)
    if not entry.key:
        for value in first(side, Place("member", *place.key)):
            if dotted(value) == entry.what.partition(":")[2]:
                found.add(entry)
    return found


def _reader(side: Side, entry: Entry, function: Function) -> Function | None:
    """Who reads the entry by its key, and does not see to it that it is there."""
    for each in side.mentioning([entry.table]):
        if each.where == function.where or _sees_to_it(each, entry, function):
            continue
        for part in each.parts:
            if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Load):
                key = repr(part.slice.value) if isinstance(part.slice, ast.Constant) else ""
                at = located(side, each, part.value) if key == entry.key else None
                if at == (entry.module, "", entry.table):
                    return each
    return None


def _sees_to_it(reader: Function, entry: Entry, function: Function) -> bool:
    """Whether a function asks for the entry, catches its absence, or calls what puts it there."""
    for part in reader.parts:
        match part:
            case ast.Compare(left=ast.Constant(value=value)) if repr(value) == entry.key:
                return True
            case ast.Call(func=func) if _last(func) == function.node.name:
                return True
            case ast.ExceptHandler(type=kind):
                names = kind.elts if isinstance(kind, ast.Tuple) else [kind]
                if any(one is None or dotted(one) in _READY for one in names):
                    return True
            case ast.Subscript(ctx=ast.Store(), slice=ast.Constant(value=value)):
                if repr(value) == entry.key:
                    return True
            case _:
                pass
    return False


def _last(node: ast.expr) -> str:
    return (dotted(node) or "").rpartition(".")[2]
