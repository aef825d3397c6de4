"""What the text could not know about an edit is looked up in the process: instances, closures,
subclasses, readers of metadata.
"""

from __future__ import annotations

import enum
import sys
from collections import Counter
from typing import TYPE_CHECKING

from zdpatch.patcher import codes, inventory, reach, scan
from zdpatch.patcher.attributes import Unfit
from zdpatch.patcher.consumed import Consumed, class_of
from zdpatch.patcher.datafiles import KeptData, still_kept
from zdpatch.patcher.fitness import misfit
from zdpatch.patcher.fitting import needs_heap, unfitting
from zdpatch.patcher.instances import count
from zdpatch.patcher.kept_filled import Filled, still_filled
from zdpatch.patcher.outdated import Outdated
from zdpatch.patcher.outlived import Outlived
from zdpatch.patcher.owned import outliving
from zdpatch.patcher.removals import Removals
from zdpatch.patcher.shared import Sharing
from zdpatch.patcher.unfilled import Unfilled, not_put
from zdpatch.patcher.unset import Unset, missing
from zdpatch.patcher.yields import suspended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import (
        Edit,
        ModuleVersions,
    )
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.rows import Decision
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value


class Conditions:
    """Checks the needs of decisions against the live process. `heap_scan` becomes true when it had
    to look at the heap; `told` is what it could not decide.
    """

    def __init__(
        self,
        versions: Mapping[str, ModuleVersions],
        inventories: dict[str, Inventory],
        edits: list[Edit],
        removed: list[str],
        values: Mapping[Name, Value],
    ) -> None:
        self.removals = Removals(versions, inventories, edits, removed)
        self.sharing = Sharing(inventories, edits, values)
        self.consumed = Consumed(versions, inventories, edits)
        self.versions = versions
        self.inventories = inventories
        self.values = values
        self.heap_scan = False
        self.told: list[str] = []
        inner = {edit.module for edit in edits if edit.kind == "nested"}
        changed = {edit.module for edit in edits if edit.kind == "function"} - inner
        self._scan(inner | {name for name in changed if unseen_functions(inventories[name])})

    def _scan(self, names: set[str]) -> None:
        """One scan of the heap for all these modules."""
        missing = sorted(name for name in names if not self.inventories[name].heap)
        if missing:
            taken = inventory.take_all([self.inventories[name].module for name in missing])
            self.inventories.update(zip(missing, taken, strict=True))

    def _heap(self, name: str) -> Inventory:
        self._scan({name})
        return self.inventories[name]

    def unmet(self, decision: Decision) -> Iterator[str]:
        """Why a decision does not hold here; nothing when it does."""
        checks = {
            "unconsumed": self.consumed.unconsumed,
            "plain class": self.consumed.plain_class,
            "not made": self._not_made,
            "no instances": self._no_instances,
            "no closures": self._no_closures,
            "no subclasses": self._no_subclasses,
            "objects fit": self._objects_fit,
            "none suspended": self._none_suspended,
            "not held": self._not_held,
            "not shared": self._not_shared,
            "branch known": self._branch_known,
            "nothing kept": self._nothing_kept,
            "hints unread": self._hints_unread,
        }
        for need in decision.needs:
            if need == "kept by its decorators":
                continue  # looked at before they ran
            why = checks[need](decision.edit)
            self.heap_scan |= self.consumed.heap_scan
            if why:
                yield why

    # ------------------------------------------------------------ classes

    def _not_made(self, edit: Edit) -> str:
        """An Enum made its members, a metaclass its classes, when they were defined."""
        cls = class_of(self.inventories, edit, edit.scope)
        if isinstance(cls, str):
            return cls
        if isinstance(cls, enum.EnumType):
            return "the members of the Enum exist already"
        if not issubclass(cls, type):
            return ""
        if edit.new[-1].name == "__call__" and not _makes_classes(cls):
            return ""  # it makes objects of its classes
        return "classes of this metaclass exist already"

    def _no_instances(self, edit: Edit) -> str:
        of_class = edit.kind == "removed" and edit.old[-1].kind == "class"
        scope = edit.qualname if of_class else edit.scope
        classes = self.inventories[edit.module].classes.get(scope, [])
        if len(classes) > 1:
            return f"there are {len(classes)} live classes of this name"
        if edit.kind == "added" and edit.new[-1].name == "__hash__" and _unhashable(classes):
            return ""  # nobody can have stored one as a key
        self.heap_scan = self.heap_scan or bool(classes)
        found = count(reach.family(*classes))
        if found.number and not found.sure:
            return f"there may be {found.number} live instances, which cannot be counted here"
        return _living(found.number) if found.number else ""

    def _no_subclasses(self, edit: Edit) -> str:
        cls = class_of(self.inventories, edit, edit.qualname)
        if isinstance(cls, str):
            return ""
        derived: list[type] = type.__subclasses__(cls)
        names = [reach.qualname(each) for each in derived]
        return f"live subclasses: {', '.join(sorted(names))}" if names else ""

    def _objects_fit(self, edit: Edit) -> str:
        if isinstance(edit, Outdated | Filled):
            if isinstance(edit, Filled):
                why, doubt = still_filled(edit)
            else:
                self.heap_scan = self.heap_scan or needs_heap(edit)
                why, doubt = unfitting(edit, self.inventories)
            if doubt:
                self.told.append(f"{edit.path}: {edit.detail}; {doubt}")
            return why
        if isinstance(edit, Unset):
            return missing(edit)
        if isinstance(edit, Unfilled):
            return not_put(edit)
        if isinstance(edit, Outlived):
            self.heap_scan = True
            why = outliving(edit, self.inventories, self.values)
            if why and not edit.sure:
                self.told.append(f"{edit.path}: {edit.detail}; {why}")
            return why if edit.sure else ""
        assert isinstance(edit, Unfit)
        self.heap_scan = self.heap_scan or edit.holder.kind == "instances"
        return misfit(edit, self.versions, self.inventories)

    def _nothing_kept(self, edit: Edit) -> str:
        assert isinstance(edit, KeptData)
        self.heap_scan = self.heap_scan or edit.keep.kind in {"object", "closure"}
        closures = edit.keep.kind == "closure"
        taken = self._heap(edit.module) if closures else self.inventories.get(edit.module)
        return "it is not loaded yet" if taken is None else still_kept(edit.keep, taken)

    def _not_held(self, edit: Edit) -> str:
        self.heap_scan = True
        return self.removals.keeper(edit.module, edit.old[-1])

    def _not_shared(self, edit: Edit) -> str:
        self.heap_scan = True
        who = self.sharing.keeper(edit)
        return f"{who} holds it" if who else ""

    def removed_in_use(self, name: str, removed: list[str]) -> Iterator[tuple[str, str]]:
        """(path, why) for whoever outside of a removed module holds it, or what it defines, or is
        made of it.
        """
        taken = self.inventories.get(name)
        if taken is None:
            return
        owned: list[tuple[str, object]] = [("", taken.module)]
        owned += [(path, f.function) for path, group in taken.functions.items() for f in group]
        classes = [(path, cls) for path, group in taken.classes.items() for cls in group]
        for path, thing in [*owned, *classes]:
            for binding in inventory.bindings(thing, None):
                holder = str(reach.namespace(binding.module).get("__name__"))
                parent = not path and holder == name.rpartition(".")[0]
                if (
                    holder not in {name, *removed}
                    and not parent
                    and not self.removals.lets_go(binding.module, binding.name)
                ):
                    yield f"{name}:{path}", f"{holder}.{binding.name} holds it"
        if classes:
            self.heap_scan = True
            kinds = Counter(id(type(each)) for each in scan.objects())
            for path, cls in classes:
                if number := _count(kinds, cls):
                    yield f"{name}:{path}", _living(number)
        yield from self.removals.of_module(name)

    # ------------------------------------------------------------ functions

    def _no_closures(self, edit: Edit) -> str:
        old, _ = edit.codes
        assert old is not None
        taken = self._heap(edit.module)
        if "class" in edit.facets and (made := taken.classes.get(edit.qualname)):
            return f"{len(made)} live classes of it exist"
        wanted = codes.digest(old)
        live = [f for f in taken.functions.get(edit.qualname, []) if codes.digest(f.code) == wanted]
        what = "a live closure runs it" if len(live) == 1 else f"{len(live)} live closures run it"
        return f"{what} ({live[0].where})" if live else ""

    def _hints_unread(self, edit: Edit) -> str:
        """Closures keep the annotations that they were made with: nobody may have read them."""
        return self._no_closures(edit) and self.consumed.inner_unread(edit)

    def _branch_known(self, edit: Edit) -> str:
        """A branch that is known is no statement any more (see `taken`)."""
        return f"that of line {edit.line} cannot be told here"

    def _none_suspended(self, edit: Edit) -> str:
        old, _ = edit.codes
        assert old is not None
        self.heap_scan = True
        if reach.frozen():
            return "suspended generators cannot be counted here"
        number = suspended(old, self.inventories[edit.module].namespace)
        what = f"{number} suspended generators of it would be driven in the new way"
        return what if number else ""


def _unhashable(classes: Iterable[type]) -> bool:
    return all(reach.class_dict(each).get("__hash__", each) is None for each in classes)


def _living(number: int) -> str:
    return "there is a live instance" if number == 1 else f"there are {number} live instances"


def _count(kinds: Mapping[int, int], cls: type) -> int:
    """Instances of a class and of those derived from it, without asking any of them."""
    return sum(kinds.get(id(each), 0) for each in reach.family(cls))


def _makes_classes(metaclass: type) -> bool:
    """Whether objects of a class of this metaclass are classes themselves."""
    return any(issubclass(type(each), metaclass) for each in reach.family(type))


def unseen_functions(taken: Inventory) -> bool:
    """Whether something holds the module's namespace that the walk did not find: a function out of
    its sight.

    Every function holds its globals, so their reference count tells of closures and registries
    elsewhere without a scan of the heap (frames only borrow them, from CPython 3.11 on).
    """
    found = sum(len(group) for group in taken.functions.values())
    # the module itself, and the argument of `getrefcount`
    return not taken.complete or sys.getrefcount(taken.namespace) - 2 > found
