"""Who reaches what changes, by the names in bodies: when it is called, or when what it made is.

`def make(): def inner(): return helper() ...` reaches `helper` by what it gives back. A statement
that binds this, or decorates with it, has not run it; whoever calls the result does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zdpatch.patcher.named import closed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from zdpatch.patcher.named import Named
    from zdpatch.patcher.spread import Name


@dataclass(frozen=True, slots=True)
class Reach:
    """Names with the path to blame. `made`: reach a change when they are called, or when what they
    made is; `ran`: when they are called. `factories`: of these, decorators whose inner function,
    which decorates, runs none.
    """

    made: Mapping[Name, str]
    ran: Mapping[Name, str]
    factories: set[Name]

    @classmethod
    def of(cls, named: Named, made: Mapping[Name, str], ran: Mapping[Name, str]) -> Reach:
        """What reaches `made`, or runs something of `ran`, by what definitions name."""
        if not made:
            return cls(made, ran, set())
        every = closed(made, named.readers)
        running = dict(ran)
        bound = (name for name, _, _ in named.bound if name in every and name not in made)
        running |= {name: every[name] for name in bound}
        # a function that names a maker may call what it gives
        makers = every.keys() - closed(running, named.runners, every).keys() - made.keys()
        if makers:
            reaching = (path for path, names in named.run if makers.intersection(names))
            running |= {path: every[path] for path in reaching if path in every}
        running = closed(running, named.runners, every)
        found = cls(every, running, set())
        for each in named.bodies:
            for name, item in each.functions:
                if name in every and name not in running:
                    later = running.keys() & set(each.made(item))
                    found.factories.update(() if later else {name})
        return found

    def only_binds(self, makers: Iterable[tuple[Name, bool]]) -> str | None:
        """The path to blame when a statement binds something made that reaches a change when it is
        called; else None. `makers`: what it binds calls of (see `named`).
        """
        for name, called in makers:
            if name in self.made and self.quiet(name, called=called):
                return self.made[name]
        return None

    def without(self, values: Collection[Name]) -> Reach:
        """The same; values that change are no calls."""
        made = {name: why for name, why in self.made.items() if name not in values}
        return replace(self, made=made)

    def quiet(self, name: Name, *, called: bool) -> bool:
        """Whether a call only makes what reaches a change; `called`: what it gives decorates."""
        return name not in self.ran and (not called or name in self.factories)
