"""What import-time code took from a function itself is stale when that changes: its docstring,
defaults, annotations, signature or code.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, reach
from zdpatch.patcher.edits import ANNOTATIONS, BODY, DEFAULTS, DOCSTRING, SIGNATURE, Edit
from zdpatch.patcher.spread import was_there
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import function_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.items import Item
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.tracing import World

_TAKEN: Final[dict[str, frozenset[str]]] = {
    "__doc__": frozenset({DOCSTRING}),
    "__defaults__": frozenset({DEFAULTS, SIGNATURE}),
    "__kwdefaults__": frozenset({DEFAULTS, SIGNATURE}),
    "__annotations__": frozenset({ANNOTATIONS}),
    "__code__": frozenset({BODY, SIGNATURE}),
}
# What functions of the library that look at others take from them.
_READERS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("signature", "getfullargspec", "getargspec", "from_callable"),
        frozenset({DEFAULTS, SIGNATURE, ANNOTATIONS}),
    ),
    "get_type_hints": frozenset({ANNOTATIONS}), "get_annotations": frozenset({ANNOTATIONS}),
    "getdoc": frozenset({DOCSTRING}),
    **dict.fromkeys(("getsource", "getsourcelines", "dis", "getclosurevars"), frozenset({BODY})),
}  # fmt: skip
_DEPTH: Final = 3  # functions called by functions that get one


def stale_metadata(edits: Iterable[Edit], world: World, only: str = "") -> Iterator[Edit]:
    """Edits of kind "stale" for statements on both sides that took what an edit of a function
    changes besides, or instead of, what its calls give; with `only`, of that module.
    """
    facets: dict[Name, tuple[frozenset[str], str]] = {}
    for edit in edits:
        if edit.kind == "function":
            known = facets.get((edit.module, edit.qualname), (frozenset[str](), ""))[0]
            facets[edit.module, edit.qualname] = edit.facets | known, edit.path
    for each in world.versions.values() if facets else ():
        if each.new is None or each.base is None or only not in {"", each.name}:
            continue
        for item in each.new.outline.every():
            if item.kind not in {"value", "effect"} or not was_there(each.base, item):
                continue
            cause = _cause(each.name, item, facets, world)
            if cause is not None:
                qualname = item.qualname if item.names else f"{item.scope}:{item.line}"
                yield Edit(
                    each.name, qualname, "stale", (item,), (item,), cause=cause, detail="metadata"
                )


def _cause(
    module: str, item: Item, facets: Mapping[Name, tuple[frozenset[str], str]], world: World
) -> str | None:
    ran = item.ran
    for taken, of in _taken(ran.reads, ran.given, module, item.scope, world):
        value = world.look(module, item.scope, of)
        for name in function_names(value) if value is not MISSING else ():
            if name in facets and facets[name][0] & taken:
                return facets[name][1]
    return None


def _taken(
    reads: Iterable[str], given: Mapping[str, Iterable[str]], module: str, scope: str, world: World
) -> Iterator[tuple[frozenset[str], str]]:
    """(facets read, dotted name of what they are read from)."""
    for read in reads:
        owner, _, rest = read.partition(".__")
        name = "__" + rest.partition(".")[0]
        if rest and name in _TAKEN:
            yield _TAKEN[name], owner
    for callee, names in given.items():
        if facets := _reading(callee, module, scope, world):
            yield from ((facets, name) for name in names)


def _reading(callee: str, module: str, scope: str, world: World) -> frozenset[str]:
    """What a callee surely looks at of what it is given."""
    if (last := callee.rpartition(".")[2]) in _READERS:
        return _READERS[last]
    value = world.look(module, scope, callee) if callee else MISSING
    functions = reach.inner_functions(value) if value is not MISSING else []
    return frozenset[str]().union(*(_looks(function, _DEPTH) for function in functions))


def _looks(function: FunctionType, depth: int) -> frozenset[str]:
    found: set[str] = set()
    for name in {name for code in codes.walk(function.__code__) for name in code.co_names}:
        found |= _TAKEN.get(name, frozenset()) | _READERS.get(name, frozenset())
        inner = function.__globals__.get(name)
        if depth and type(inner) is FunctionType and inner is not function:
            found |= _looks(inner, depth - 1)
    return frozenset(found)
