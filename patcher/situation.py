"""What a patch meets in this process: which of its modules are loaded, and that these run the
patch's base.

The disk is never evidence for a loaded module; for one that is not loaded it is what would run
next.
"""

from __future__ import annotations

import ast
import sys
import weakref
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import codes, inventory, loaders, overlay, reach
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.caches import wrappers
from zdpatch.patcher.edits import Edit, ModuleVersions, read
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.folders import moved
from zdpatch.patcher.inventory import Drift, Inventory
from zdpatch.patcher.served import Served
from zdpatch.patcher.source import ModuleChange, Patch, file_name
from zdpatch.patcher.structure import unexplained
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.taken import with_branches
from zdpatch.patcher.twins import refuse_twins
from zdpatch.patcher.unstarred import with_known_stars
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType

    from zdpatch.patcher.folders import Shelf
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Stage, Value


_REPLACED = "something else than a module stands for it in sys.modules"


@dataclass(eq=False)
class Situation:
    """The modules of one patch as this process has them.

    `inventories`: loaded modules that both sides have. `deferred`: modules to be served patched
    when they are imported. `added` and `removed`: modules that only one side has. `specs`: how to
    make deferred and added modules.
    `adopted`: what the operator has named of that which the base does not explain.
    """

    patch: Patch
    known: tuple[CodeType, ...]
    versions: dict[str, ModuleVersions] = field(default_factory=dict[str, ModuleVersions])
    inventories: dict[str, Inventory] = field(default_factory=dict[str, Inventory])
    deferred: list[str] = field(default_factory=list[str])
    added: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    specs: dict[str, ModuleSpec] = field(default_factory=dict[str, ModuleSpec])
    adoption: Adoption = NOTHING
    adopted: dict[str, Drift] = field(default_factory=dict[str, Drift])
    served: Served = field(init=False)
    _caches: list[weakref.ref[object]] = field(default_factory=list["weakref.ref[object]"])

    @classmethod
    def of(
        cls,
        patch: Patch,
        known: tuple[CodeType, ...] = (),
        adoption: Adoption = NOTHING,
        shelf: Shelf | None = None,
    ) -> Situation:
        """Look at this process. Raises Refused for syntax errors, drift, or when nothing of the
        patch is here.
        """
        found = cls(patch, known, adoption=adoption)
        # before anything is made, which would have to be looked at too
        refuse_twins(patch)
        found._caches = [weakref.ref(each) for each in wrappers()]
        found.served = Served.of(patch, shelf)
        found.versions = {change.name: read(change, patch.id) for change in patch.changes}
        for change in patch.changes:
            found._place(change)
        if not found.inventories and not found.deferred and not found.removed:
            names = ", ".join(change.name for change in patch.changes)
            raise Refused("ZDP-215", f"this process neither runs nor can import {names}")
        found.check_drift(found.inventories)
        for name, taken in found.inventories.items():
            found.versions[name] = with_branches(found.versions[name], taken.module)
        found.versions = with_known_stars(found.versions)
        return found

    @property
    def caches(self) -> Iterator[object]:
        """The caches round functions that the process had, as long as they live."""
        return (each for each in (known() for known in self._caches) if each is not None)

    @property
    def filenames(self) -> dict[str, str]:
        return {change.name: file_name(self.patch.id, change.path) for change in self.patch.changes}

    def linecache(self) -> dict[str, bytes]:
        """Sources to keep by file name: the new ones, and the base under the name live code has."""
        found: dict[str, bytes] = {}
        for change in self.patch.changes:
            if change.new is not None:
                found[file_name(self.patch.id, change.path)] = change.new
        for name, taken in self.inventories.items():
            base = self.versions[name].change.base
            for group in taken.functions.values():
                for live in group:
                    own = live.code.co_filename
                    if (
                        base is not None
                        and not own.startswith("<")
                        and own == taken.namespace.get("__file__")
                    ):
                        found[own] = base
        return found

    def live_versions(self) -> list[ModuleVersions]:
        return [self.versions[name] for name in self.inventories]

    @staticmethod
    def classes(inventories: Mapping[str, Inventory]) -> dict[Name, type]:
        """The live class of each path that has exactly one."""
        return {
            (name, qualname): group[0]
            for name, taken in inventories.items()
            for qualname, group in taken.classes.items()
            if len(group) == 1
        }

    # ------------------------------------------------------------ where each module stands

    def _place(self, change: ModuleChange) -> None:
        module = sys.modules.get(change.name)
        if module is not None and not reach.is_a(module, ModuleType):
            verdict = Verdict(f"{change.name}:", 1, "module", "R", _REPLACED, "replace the worker")
            raise Refused("ZDP-202", f"{change.name}: {_REPLACED}", (verdict,))
        if module is not None and (why := loaders.compiled(reach.namespace(module))):
            raise _not_python(change.name, why)
        _not_as_main(change, module)
        if change.base is None:
            self._place_added(change, module)
        elif module is not None:
            if change.new is None:
                self.removed.append(change.name)
            # what is to be put back may be held by whoever replaced it alone
            heap = bool(self.adoption.replace)
            self.inventories[change.name] = inventory.take(module, heap=heap)
        else:
            self._place_unloaded(change)

    def _place_added(self, change: ModuleChange, module: ModuleType | None) -> None:
        if module is not None or overlay.locate(change.name) is not None:
            raise _drifted(change.name, "the patch adds this module, but it exists here already")
        self.added.append(change.name)
        self._specify(change)

    def entries(self) -> list[overlay.Source]:
        """What the overlay serves from now on, also to a reload of what is patched in place."""
        return [
            _entry(change, self.patch.id)
            for change in self.patch.changes
            if change.new is not None and change.new != change.base
        ]

    def _specify(self, change: ModuleChange) -> None:
        spec = overlay.make_spec(_entry(change, self.patch.id))
        self.specs[change.name] = moved(spec, self.served.folders)

    def _place_unloaded(self, change: ModuleChange) -> None:
        located = overlay.locate(change.name)
        if located is None:
            raise Refused("ZDP-215", f"{change.name} is neither loaded nor to be found here")
        if loaders.compiled_file(located.origin):
            raise _not_python(change.name, "it would be imported as a compiled module")
        base = self.versions[change.name].base
        assert base is not None
        if located.code is None or codes.digest(located.code) != codes.digest(base.code):
            raise _drifted(change.name, "what would be imported here is not the base of the patch")
        if change.new is None:
            self.removed.append(change.name)
        else:
            self.deferred.append(change.name)
            self._specify(change)

    def check_drift(self, inventories: Mapping[str, Inventory]) -> None:
        """Raise Refused (ZDP-201) for live code that the base does not explain. Call again after a
        heap scan.
        """
        found = [
            (name, each)
            for name, taken in inventories.items()
            if name in self.versions
            for each in drift_of(taken, self.versions[name], self.known)
        ]
        self.adopted |= {d.path: d for _, d in found if d.path in self.adoption.paths}
        found = [(name, each) for name, each in found if each.path not in self.adopted]
        if not found:
            return
        for name, each in self.versions.items():
            if each.base is not None and any(name == module for module, _ in found):
                _not_replacing_itself(name, each.base.outline)
        verdicts = tuple(
            Verdict(
                each.path,
                each.line,
                "drift",
                "X",
                each.what,
                _remedy(each),
            )
            for _, each in found
        )
        first = verdicts[0]
        cause = f"{first.path}: {first.reason}"
        if len(found) > 1:
            cause += f"; and {len(found) - 1} more"
        if by := loaders.hook(inventories[found[0][0]].namespace):
            cause += f"; the module was loaded by {by}, which may change code on its way in"
        raise Refused("ZDP-201", cause, verdicts)

    # ------------------------------------------------------------ live values

    def conflict(self, edit: Edit, value: Value, stage: Stage) -> str:
        """Why the live value of a name stands against the edit; "" when it is what the base
        gives.
        """
        live = stage.present(edit)
        if edit.qualname.rpartition(".")[2] == "__doc__" and live is None:
            live = MISSING  # a class or module without a docstring has None there
        if live is None and edit.kind == "added" and _implied(edit, stage):
            live = MISSING
        if edit.kind == "removed" or same(live, value.old) or same(live, value.new):
            return ""
        if edit.kind == "added":
            return "the name is bound here already, to something the base does not explain"
        return f"the live value ({brief(live)}) is not what the base gives ({brief(value.old)})"


def _implied(edit: Edit, stage: Stage) -> bool:
    """Whether the name is `__hash__`, which a class that binds `__eq__` alone has as None."""
    base = stage.versions[edit.module].base
    if base is None or not edit.scope or edit.new[-1].name != "__hash__":
        return False
    return any("__eq__" in item.names for item in base.outline.scopes.get(edit.scope, ()))


def brief(value: object) -> str:
    """A value for people, short, without running code of the application."""
    if type(value) in {int, str, bytes, float, bool, complex, type(None)}:
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return "nothing" if value is MISSING else f"a {type(value).__qualname__}"


def drift_of(taken: Inventory, each: ModuleVersions, known: Iterable[CodeType]) -> list[Drift]:
    """Live code of a module which the base of the patch does not explain."""
    assert each.base is not None
    return unexplained(taken, each.base, tuple(known))


def _entry(change: ModuleChange, patch_id: str) -> overlay.Source:
    assert change.new is not None
    filename = file_name(patch_id, change.path)
    return overlay.Source(change.name, change.new, filename, change.package)


def _not_replacing_itself(name: str, base: Outline) -> None:
    """Refuse when the module put another object in its place: what it defined is elsewhere."""
    for item in base.every():
        targets = item.node.targets if isinstance(item.node, ast.Assign) else []
        if any(ast.unparse(target) == "sys.modules[__name__]" for target in targets):
            why = f"line {item.line} put another module in its place in sys.modules"
            verdict = Verdict(f"{name}:", item.line, "module", "R", why, "replace the worker")
            raise Refused("ZDP-202", f"{name}: {why}", (verdict,))


def _drifted(name: str, why: str) -> Refused:
    verdict = Verdict(
        f"{name}:", 0, "drift", "X", why, "build the patch from what this process runs"
    )
    return Refused("ZDP-201", f"{name}: {why}", (verdict,))


def _not_python(name: str, why: str) -> Refused:
    verdict = Verdict(f"{name}:", 1, "module", "R", why, "replace the worker")
    return Refused("ZDP-202", f"{name}: {why}; only Python code changes in place", (verdict,))


def _not_as_main(change: ModuleChange, module: ModuleType | None) -> None:
    """Refuse when the started program is this module: it lives in `__main__`, as a second copy."""
    main = sys.modules.get("__main__")
    space = reach.namespace(main) if main is not None else {}
    started = getattr(space.get("__spec__"), "name", None)
    here = reach.namespace(module).get("__file__") if module is not None else None
    if module is None and (located := overlay.locate(change.name)) is not None:
        here = located.origin
    same_file = isinstance(here, str) and here == space.get("__file__")
    if module is not main and (started == change.name or same_file):
        verdict = Verdict(
            f"{change.name}:", 1, "main", "R", "it runs as __main__", "replace the worker"
        )
        raise Refused("ZDP-202", f"{change.name} runs as __main__ here", (verdict,))


def _remedy(found: Drift) -> str:
    base = "build the patch from what really runs"
    if found.kind != "replaced":
        return base
    return f"{base}, or zdpatch push --adopt {found.path} (left alone), --replace {found.path}"
