"""Whether code may mean a certain name: by an attribute, a text that it compares, a pattern or a
part of a word.

Followed from some functions to those which they name, a few steps deep, in whatever module they
are. Nothing is called.
"""

from __future__ import annotations

import dis
import re
from dataclasses import dataclass, field
from gc import get_referents
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.importers import in_stdlib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DEPTH: Final = 3
_SHORTEST: Final = 2  # shorter ones are part of nearly every name
_PATTERN: Final = "^$.*+?()\\b"
# What looks at a part of a text.
_PARTS: Final = frozenset(
    {"startswith", "endswith", "removeprefix", "removesuffix", "find", "rfind", "index", "count",
     "partition", "rpartition", "split", "rsplit", "strip", "lstrip", "rstrip", "match", "search",
     "fullmatch", "findall", "compile", "fnmatch", "fnmatchcase", "__contains__"}
)  # fmt: skip
_OPERATIONS: Final = frozenset({"CONTAINS_OP", "BINARY_SLICE", "BUILD_SLICE"})


@dataclass(eq=False)
class Words:
    """What the code of some classes, the `makers`, and what it comes to may mean by a name. `bases`
    have attributes which it may read.
    """

    makers: list[type]
    bases: list[type]
    _seen: set[int] = field(default_factory=set[int])

    def meaning(self, name: str) -> str:
        """The word that may mean `name`; "" when there is none."""
        level = [each for owner in self.makers for each in _of_class(owner)]
        for _ in range(_DEPTH):
            fresh = [each for each in level if id(each) not in self._seen]
            self._seen.update(map(id, fresh))
            for function in fresh:
                if word := self._in(function, name):
                    return word
            level = [found for function in fresh for found in self._named(function)]
        return ""

    def _in(self, function: FunctionType, name: str) -> str:
        group = list(codes.walk(function.__code__))
        if any(name in code.co_names for code in group):
            return name
        parts = any(map(_looks_at_parts, group))
        held: Iterable[object] = [part for code in group for part in code.co_consts]
        read = self._read(function, {each for code in group for each in code.co_names})
        for value in _flat([*held, *read]):
            if type(value) is re.Pattern:
                text = cast("re.Pattern[str] | re.Pattern[bytes]", value).pattern
                if type(text) is str and cast("re.Pattern[str]", value).search(name):
                    return text
            elif type(value) is str and (value == name or (parts and _is_part(value, name))):
                return value
        return ""

    def _named(self, function: FunctionType) -> Iterator[FunctionType]:
        """The functions and methods that a function names."""
        names = {name for code in codes.walk(function.__code__) for name in code.co_names}
        for value in self._read(function, names):
            if type(value) is FunctionType:
                if not in_stdlib(value.__globals__):
                    yield value
            elif not reach.is_a(value, ModuleType):
                kind = cast("type", value) if reach.is_a(value, type) else type(value)
                yield from _of_class(kind)

    def _read(self, function: FunctionType, names: set[str]) -> Iterator[object]:
        """What global names, attributes of modules and of these classes stand for."""
        space = function.__globals__
        for cell in function.__closure__ or ():
            yield from _contents(cell)
        for name in names:
            value = space.get(name)
            yield value
            if reach.is_a(value, ModuleType):
                inner = reach.namespace(cast("ModuleType", value))
                yield from (inner[each] for each in names & inner.keys())
        for owner in [*self.makers, *self.bases]:
            own = reach.class_dict(owner)
            yield from (own[each] for each in names & own.keys())


def _contents(cell: Any) -> Iterator[object]:  # noqa: ANN401 - a cell
    try:
        yield cell.cell_contents
    except ValueError:
        return  # nothing was assigned yet


def _of_class(cls: type) -> Iterator[FunctionType]:
    own = reach.class_dict(cls)
    for _, value in reach.items(own):
        for function in reach.inner_functions(value):
            if not in_stdlib(function.__globals__):
                yield function


def _looks_at_parts(code: CodeType) -> bool:
    if _PARTS.intersection(code.co_names):
        return True
    return any(each.opname in _OPERATIONS for each in dis.get_instructions(code))


def _is_part(word: str, name: str) -> bool:
    bare = word.strip(_PATTERN)
    return len(bare) >= _SHORTEST and (name.startswith(bare) or name.endswith(bare))


def _flat(values: Iterable[object], depth: int = 3) -> Iterator[object]:
    """The values, and those in plain containers."""
    for value in values:
        yield value
        if depth and reach.is_a(value, dict):
            pairs = reach.items(cast("dict[object, object]", value))
            yield from _flat([part for pair in pairs for part in pair], depth - 1)
        elif depth and reach.is_a(value, list, tuple, set, frozenset):
            yield from _flat(get_referents(value), depth - 1)
