"""What a patch takes away must be held by nothing that stays: classes always, functions when their
decorator may have registered them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import reach
from zdpatch.patcher.decorators import registering
from zdpatch.patcher.keepers import Keepers, unseen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from zdpatch.patcher.edits import Edit, ModuleVersions
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item


@dataclass(frozen=True, eq=False)
class Removals:
    """What goes by one patch. `removed`: the modules that go as a whole."""

    versions: Mapping[str, ModuleVersions]
    inventories: Mapping[str, Inventory]
    edits: Iterable[Edit]
    removed: Iterable[str]

    def keeper(self, module: str, item: Item) -> str:
        """Who holds what a definition of the base made; "" when nobody does."""
        made = (self._kept.get(id(thing), "") for thing in self._made(module, item))
        who = next((who for who in made if who), "")
        if who:
            return f"{who} holds it"
        # no variable of a frame may hold what is asked for
        boxes = [[thing] for thing in self._functions(module, item)]
        return "something in C, or a running call, holds it" if any(map(unseen, boxes)) else ""

    def of_module(self, name: str) -> Iterator[tuple[str, str]]:
        """(path, who) for the definitions of a module that goes."""
        for item in self._definitions(name):
            if who := self.keeper(name, item):
                yield f"{name}:{item.qualname}", who

    @cached_property
    def _kept(self) -> dict[int, str]:
        """Who keeps what goes, by its identity. Not the search itself: it leads back to here."""
        gone = [(e.module, e.old[-1]) for e in self.edits if e.kind == "removed" and e.old]
        gone += [(name, item) for name in self.removed for item in self._definitions(name)]
        things = [thing for module, item in gone for thing in self._made(module, item)]
        return Keepers.of(things, self.lets_go).found

    def _definitions(self, name: str) -> list[Item]:
        base = self.versions[name].base
        return [] if base is None else [i for i in base.outline.items if i.name]

    def _made(self, module: str, item: Item) -> list[object]:
        """A class, or what a decorator that may register got, or gave."""
        taken = self.inventories.get(module)
        if taken is None:
            return []
        if item.kind == "class":
            found: list[object] = list(taken.classes.get(item.qualname, ()))
            return found + [f for child in item.children for f in self._functions(module, child)]
        return self._functions(module, item)

    def _functions(self, module: str, item: Item) -> list[object]:
        base = self.versions[module].base
        taken = self.inventories.get(module)
        if item.kind != "function" or base is None or taken is None:
            return []
        if not registering(item, base.outline.origins):
            return []
        found: list[object] = [f.function for f in taken.functions.get(item.qualname, ())]
        value = taken.namespace.get(item.name) if not item.scope else None
        made = value is not None and type(value).__flags__ & (1 << 9)  # an object of a class
        return [*found, value] if made and all(value is not f for f in found) else found

    def lets_go(self, owner: object, name: str) -> bool:
        """Whether the patch unbinds, or binds anew, a name of a module or class."""
        if reach.is_a(owner, type):
            cls = cast("type", owner)
            module = str(reach.class_dict(cls).get("__module__"))
            return (module, f"{reach.qualname(cls)}.{name}") in self._altered
        module = str(reach.namespace(cast("ModuleType", owner)).get("__name__"))
        each = self.versions.get(module)
        if each is None:
            return False
        if each.new is None:
            return True
        bound = [bool(s.outline.binders("", name)) for s in (each.base, each.new) if s is not None]
        return bound == [True, False] or (module, name) in self._altered

    @cached_property
    def _altered(self) -> set[tuple[str, str]]:
        kinds = {"removed", "value", "function"}
        return {(edit.module, edit.qualname) for edit in self.edits if edit.kind in kinds}
