"""What of a plan may live side by side with what it replaces, and what waits until that has left.

Old and new code share the globals of their module. So bodies of one kind and additions go in at
once, behind dispatchers; what no function of the group reads flips with the last step. A value, a
class attribute, a table or a cache that they do read makes the whole plan flip in one instant in
which nobody is inside (`together` says why).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, inventory, overlay, reach
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.slots import MISSING, Step
from zdpatch.patcher.versions import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import CodeType

    from zdpatch.patcher.plan import Plan

_DEFAULTS: Final = frozenset({"__defaults__", "__kwdefaults__"})
_SAID: Final = frozenset(
    {"__doc__", "__annotations__", "__type_params__", "__name__", "__qualname__", "__module__"}
)
_LOOKERS: Final = frozenset({"_getframe", "_getframemodulename", "currentframe"})


@dataclass(frozen=True, eq=False)
class Arrangement:
    """`first` flips as the dispatchers go in, `last` as they go out; `beside` is code that only the
    new version has.
    """

    changes: tuple[Change, ...]
    first: tuple[Step, ...]
    last: tuple[Step, ...]
    beside: tuple[CodeType, ...]
    together: tuple[str, ...]
    alone: bool  # caches answer for functions of the group: who was in a request may know them


def arrange(plan: Plan, steps: Sequence[Step]) -> Arrangement:
    """How `steps`, those of the plan or what takes them back, go consistently. Raises Refused."""
    arranging = _Arranging(plan, steps)
    arranging.sort()
    arranging.check()
    return arranging.arrangement()


@dataclass(eq=False)
class _Arranging:
    plan: Plan
    steps: Sequence[Step]
    first: list[Step] = field(default_factory=list[Step])
    last: list[Step] = field(default_factory=list[Step])
    values: list[Step] = field(default_factory=list[Step])
    functions: dict[int, list[Step]] = field(default_factory=dict[int, list[Step]])
    together: list[str] = field(default_factory=list[str])

    def sort(self) -> None:
        """Each step to its place."""
        for step in self.steps:
            if step.kind == "function" and step.name in {"__code__", *_DEFAULTS}:
                self.functions.setdefault(id(step.target), []).append(step)
        self.changes = [self._change(group) for group in self.functions.values()]
        names = _names(each for c in self.changes for each in (c.old, c.new))
        old = _names(c.old for c in self.changes)
        for step in self.steps:
            self._place(step, names, old)
        if self.plan.moves:
            self.together.append("data files change")
        if self.plan.renewed:
            self.together.append("functions that others made, and make, change")
        self.together += [f"the cache of {each} would be shared" for each in self.plan.cached]
        if self.together:
            self._add_readers()

    def _change(self, group: list[Step]) -> Change:
        function = cast("FunctionType", group[0].target)
        slots = {str(step.name): step.value for step in group}
        new = cast("CodeType", slots.get("__code__", function.__code__))
        return Change.of(function, group[0].what.rpartition(".__")[0], new, slots)

    def _place(self, step: Step, names: set[str], old: set[str]) -> None:
        if id(step.target) in self.functions and step.name == "__code__":
            return
        if step.target is overlay.TABLE or step.target is sys.modules:
            goes = step.value is overlay.REMOVED or step.value is None
            (self.last if goes else self.first).append(step)
        elif step.expected is MISSING and _adds(step) and step.name not in old:
            self.first.append(step)
        elif step.kind == "function" and step.name in {*_DEFAULTS, *_SAID}:
            self.last.append(step)
        else:
            self.last.append(step)
            if step.value is MISSING and step.kind in {"item", "class", "function"}:
                return  # what goes is read by nobody but old code
            if step.kind in {"cell", "list", "member"} or step.name in names:
                self.values.append(step)
                self.together.append(f"{step.what} changes, and code of the group reads it")

    def _add_readers(self) -> None:
        """Unchanged functions which read a value that changes: they must not be inside either."""
        names = {step.name for step in self.values}
        for change in self.plan.patch.changes if names else ():
            module = dict(reach.modules()).get(change.name)
            if module is None:
                continue
            for group in inventory.take(module, heap=False).functions.values():
                for each in group:
                    if id(each.function) not in self.functions and names & _names([each.code]):
                        self.functions[id(each.function)] = []
                        path = f"{change.name}:{each.qualname}"
                        live: FunctionType = each.function  # pyright: ignore[reportAssignmentType]
                        self.changes.append(Change.of(live, path, each.code, {}))

    def check(self) -> None:
        """Raises Refused (ZDP-202) for what a dispatcher would disturb."""
        verdicts = tuple(
            Verdict(
                change.path,
                change.new.co_firstlineno,
                "function",
                "Q",
                "it looks at the frame of its caller, which would be a dispatcher's",
                "apply the patch at one instant",
            )
            for change in self.changes
            if any(not _LOOKERS.isdisjoint(code.co_names) for code in (change.old, change.new))
        )
        if verdicts:
            cause = f"{verdicts[0].path} (line {verdicts[0].line}): {verdicts[0].reason}"
            raise Refused("ZDP-202", cause, verdicts)

    def arrangement(self) -> Arrangement:
        """What was found."""
        first, last = tuple(self.first), tuple(self.last)
        if self.together:
            first, last = (), tuple(s for s in (*first, *last))
        values = [step.value for step in self.first]
        for module in self.plan.modules.values():
            space = reach.namespace(module)
            own = (v for v in space.values() if _home(v) == space.get("__name__"))
            values += own
        beside = tuple(code for value in values for code in _codes(value))
        unique = tuple(dict.fromkeys(self.together))
        alone = bool(self.plan.cached)
        return Arrangement(tuple(self.changes), first, last, beside, unique, alone)


def _adds(step: Step) -> bool:
    """Whether a name that comes changes nothing for who does not know it."""
    if step.kind == "item":
        return True
    if step.kind != "class":
        return False
    special = str(step.name).startswith("__")
    bases = type.__dict__["__mro__"].__get__(step.target)[1:]
    known = any(step.name in reach.class_dict(base) for base in bases)
    return not special and not known


def _names(group: Iterable[CodeType]) -> set[str]:
    """Every name that code reads or writes, and every text that may be one."""
    found: set[str] = set()
    for code in group:
        for each in codes.walk(code):
            found.update(each.co_names)
            found.update(c for c in each.co_consts if type(c) is str and c.isidentifier())
    return found


def _home(value: object) -> object:
    """The name of the module that a function or class was written in."""
    own = reach.class_dict(cast("type", value)) if reach.is_a(value, type) else None
    if own is not None:
        return own.get("__module__")
    return value.__globals__.get("__name__") if type(value) is FunctionType else None


def _codes(value: object) -> Iterator[CodeType]:
    """The code of what comes: a function, or the methods of a class."""
    if reach.is_a(value, type):
        for _, held in reach.items(reach.class_dict(cast("type", value))):
            yield from (function.__code__ for function in reach.inner_functions(held))
    else:
        yield from (function.__code__ for function in reach.inner_functions(value))
