"""What `gc.freeze` hides is in no list of the collector's, and is found through what leads to it.

So do servers that fork workers from a loaded application, to keep its pages shared.
"""

from __future__ import annotations

import gc
import sys
from types import FrameType, ModuleType
from typing import cast

from zdpatch.patcher import reach


def with_hidden(tracked: list[object]) -> list[object]:
    """All objects reachable from what is tracked, from all modules and classes, and from all
    running frames; each once. `tracked` is emptied.
    """
    # No frame in a variable: that of this very call would hold itself.
    frames = sys._current_frames  # pyright: ignore[reportPrivateUsage] - documented
    roots = [tracked, sys.modules, *frames().values(), *reach.family(object)]
    seen: dict[int, object] = {id(root): root for root in roots}
    # Our own books would be found through the frame of this call.
    seen[id(seen)] = seen
    frontier: list[object] = list(roots)
    while frontier:
        found = {id(o): o for o in _held_by(frontier)}
        frontier = [o for key, o in found.items() if key not in seen]
        seen.update((id(o), o) for o in frontier)
    # The frame of this call is in the books, and holds them: they would live on until the collector
    # runs, and the next scan would read them too.
    own = (seen, roots, frontier, tracked)
    everything = [
        one
        for one in seen.values()
        if type(one) is not FrameType and not any(one is book for book in own)
    ]
    for book in (seen, roots, frontier, tracked):
        book.clear()
    return everything


def _held_by(objects: list[object]) -> list[object]:
    """What these hold. A module holds its namespace.

    Its own traverse function is not asked: that of `_asyncio` in CPython 3.12 hands out objects
    that were freed (the free list of future iterators), and using one ends the process.
    """
    asked: list[object] = []
    held: list[object] = []
    for one in objects:
        if reach.is_a(one, ModuleType):
            held.append(reach.namespace(cast("ModuleType", one)))
        else:
            asked.append(one)
    return held + gc.get_referents(*asked)
