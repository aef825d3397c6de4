"""After a flip: which function objects still carry code that a patch replaced."""

from __future__ import annotations

import gc
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    from zdpatch.patcher.slots import Step


def functions_on(
    watched: Mapping[str, tuple[CodeType, ...]], steps: Iterable[Step] = ()
) -> dict[str, int]:
    """Live functions by definition path whose code is one of `watched` (old code by path).

    Functions that only wait in the undo log of `steps` are left out. Functions hidden by
    `gc.freeze` are not seen.
    """
    paths = {id(code): path for path, group in watched.items() for code in group}
    kept = {id(step.expected) for step in steps}
    found: dict[str, int] = {}
    tracked: list[object] = gc.get_objects()
    for thing in tracked:
        if type(thing) is FunctionType and id(thing) not in kept:
            path = paths.get(id(thing.__code__))
            if path is not None:
                found[path] = found.get(path, 0) + 1
    return found
