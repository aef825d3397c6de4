"""Who holds what a name meant before a patch goes on with it: a stored function, a bound method,
objects of a class. None of it can be changed in place, so it is counted, and told.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.accounts import OWN, Kept
from zdpatch.patcher.homes import at_home, is_elsewhere, path_of
from zdpatch.patcher.importers import in_stdlib
from zdpatch.patcher.instances import count
from zdpatch.patcher.slots import MISSING
from zdpatch.patcher.tracing import mro

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zdpatch.patcher.slots import Step


def holders(steps: Sequence[Step]) -> list[str]:
    """For each name of `steps`, which are done, that meant a function or a class before: how many
    hold that, besides modules, classes and the engine.
    """
    names = [each for each in steps if each.kind in {"item", "class"} and _changes_code(each)]
    if not names:
        return []
    own = list(scan.of({*map(id, OWN), id(MethodType)}))
    bound = [each for each in own if type(each) is MethodType]
    kept = Kept([each for each in own if type(each) is not MethodType])
    bindings = at_home({id(f): f for e in names for f in reach.inner_functions(e.expected)})
    found: list[str] = []
    told: set[int] = set()
    for step in names:
        if reach.is_a(step.expected, type):
            found += _objects(step, cast("type", step.expected))
        elif step.expected is MISSING:
            found += _overridden(step, bound)
        for function in reach.inner_functions(step.expected):
            known = 2 + bindings[id(function)]  # the list of functions, and the variable
            number = 0 if id(function) in told else kept.number(function, known)
            told.add(id(function))
            if number > 0:
                what = f"{step.what} meant {path_of(function)} before"
                what = f"{step.what} is gone" if step.value is MISSING else what
                found.append(f"{what}: {_count(number, 'holder')} of it will go on to run that")
    return found


def _changes_code(step: Step) -> bool:
    """Whether a step gives a name another function, another class, or hides one."""
    before, after = step.expected, step.value
    if before is MISSING:
        return step.kind == "class" and bool(reach.inner_functions(after))
    if reach.is_a(before, type):
        cls = cast("type", before)
        foreign = cls.__module__.partition(".")[0] != step.what.partition(":")[0].partition(".")[0]
        return before is not after and not foreign and not is_elsewhere(step)
    functions = reach.inner_functions(before)
    if any(each in reach.inner_functions(after) for each in functions) or is_elsewhere(step):
        return False
    return bool(functions) and not all(in_stdlib(each.__globals__) for each in functions)


def _objects(step: Step, cls: type) -> Iterator[str]:
    found = count(reach.family(cls))
    if found.number:
        meant = f"{step.what} meant {cls.__module__}:{reach.qualname(cls)} before"
        yield f"{meant}: {_count(found.number, 'instance')} of that will stay"


def _overridden(step: Step, bound: list[MethodType]) -> Iterator[str]:
    """Methods of objects, stored when they were still those of a base."""
    cls = cast("type", step.target)
    before = (reach.class_dict(each).get(str(step.name)) for each in mro(cls)[1:])
    inherited = next((each for each in before if each is not None), None)
    number = sum(each.__func__ is inherited and cls in mro(type(each.__self__)) for each in bound)
    if number and type(inherited) is FunctionType:
        what = f"{step.what} hides {path_of(inherited)}"
        yield f"{what}: {_count(number, 'bound method')} will go on to run that"


def _count(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"
