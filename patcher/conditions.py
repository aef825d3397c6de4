"""What the text could not know about an edit is looked up in the process: instances, closures,
subclasses, readers of metadata.
"""

from __future__ import annotations

import abc
import ast
import builtins
import dataclasses
import enum
import functools
import sys
import typing
from collections import Counter
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes, inventory, reach, scan
from zdpatch.patcher.attributes import Unfit
from zdpatch.patcher.bystanders import plain_method, taken_up
from zdpatch.patcher.consumers import (
    class_variable,
    collected,
    described,
    field_of_derived,
    is_quiet,
    plain_fields,
    quiet_makers,
    reads_metadata,
    watched_class,
)
from zdpatch.patcher.datafiles import KeptData, still_kept
from zdpatch.patcher.defaults_of_fields import another_default, made_field
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    DOCSTRING,
    SIGNATURES,
    Edit,
    ModuleVersions,
)
from zdpatch.patcher.fitness import misfit
from zdpatch.patcher.fitting import needs_heap, unfitting
from zdpatch.patcher.instances import count
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.outdated import Outdated
from zdpatch.patcher.readers import Readers
from zdpatch.patcher.removals import Removals
from zdpatch.patcher.shared import Sharing
from zdpatch.patcher.silent import OF_CLASSES, OF_DOCSTRINGS, OF_FIELDS, OF_SIGNATURES, Silence
from zdpatch.patcher.yields import suspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.rows import Decision
    from zdpatch.patcher.spread import Name
    from zdpatch.patcher.stage import Value

# Class decorators which read nothing that an edit of a method or of an annotation changes.
_QUIET: Final = (
    dataclasses.dataclass, functools.total_ordering, typing.final, typing.runtime_checkable,
    enum.unique,
)  # fmt: skip


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
        self.readers = Readers(inventories, edits)
        self.silence = Silence()
        self.versions = versions
        self.inventories = inventories
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
            "unconsumed": self._unconsumed,
            "plain class": self._plain_class,
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
        }
        for need in decision.needs:
            if need == "kept by its decorators":
                continue  # looked at before they ran
            if why := checks[need](decision.edit):
                yield why

    # ------------------------------------------------------------ classes

    def _class(self, edit: Edit, scope: str) -> type | str:
        found = self.inventories[edit.module].classes.get(scope, [])
        if len(found) == 1:
            return found[0]
        return f"there are {len(found)} live classes of this name"

    def _plain_class(self, edit: Edit) -> str:
        cls = self._class(edit, edit.scope)
        if isinstance(cls, str):
            return cls
        item = (edit.new or edit.old)[-1]
        comes_or_goes = not (edit.old and edit.new)
        value = item.kind in {"value", "field", "import", "class"} and (
            edit.kind != "fields" or comes_or_goes
        )
        if why := self._read_when_made(cls, edit, value=value):
            return f"read when the class was made: {why}"
        annotated = isinstance(item.node, ast.AnnAssign)
        typed = edit.kind == "fields" and not comes_or_goes and plain_fields(edit)
        typed = typed or class_variable(edit, self.versions[edit.module])
        default = another_default(edit) and made_field(cls, item.name) is not None
        if annotated and not (typed or default) and "__dataclass_fields__" in reach.class_dict(cls):
            return "a dataclass made fields of its annotated attributes"
        if why := field_of_derived(cls, item.name):
            return why
        concrete = edit.kind == "added" and item.kind == "function"
        if comes_or_goes and (why := collected(cls, item.name, implemented=concrete)):
            return why
        metadata = edit.kind == "fields" and not comes_or_goes
        why = self._decorated(edit, metadata=metadata)
        if edit.kind == "fields" or default:
            why = why or self._given_away(edit, edit.scope) or self._reader(edit)
        return why

    def _read_when_made(self, cls: type, edit: Edit, *, value: bool) -> str:
        """Who may have read the class when it was made, or stands in front of the name."""
        if (why := watched_class(cls, values=value)) and (more := self._taken_up(cls, edit)):
            return f"{why}{more}".rstrip()
        return described(cls, edit.new[-1].name if edit.new else edit.old[-1].name)

    def _taken_up(self, cls: type, edit: Edit) -> str:
        """Why who made a class may have done something with what comes or goes; "" when it did
        nothing with its like.
        """
        base = self.versions[edit.module].base
        if not plain_method(edit) or base is None:
            return " "
        self.heap_scan = True
        why = taken_up(cls, edit, base)
        return f" ({why})" if why else ""

    def _decorated(self, edit: Edit, *, metadata: bool) -> str:
        """The class decorator that may have read what changes (`metadata`: and nothing but that,
        of what is there); "" when none can have.
        """
        each = self.versions[edit.module].base
        assert each is not None
        module = self.inventories[edit.module].module
        node = next(
            (
                i.node
                for i in each.outline.every()
                if i.kind == "class" and i.qualname == edit.scope
            ),
            None,
        )
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
            name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
            owner = _resolve(module, name.removesuffix(".register"))
            if name.endswith(".register") and type(owner) is abc.ABCMeta:
                continue
            value = _resolve(module, name)
            quiet = metadata and (
                is_quiet(value, factory=isinstance(decorator, ast.Call))
                or self._silent(edit, value)
            )
            if not quiet and not any(value is each for each in _QUIET):
                return f"the class decorator {name} may have read it"
        return ""

    def _not_made(self, edit: Edit) -> str:
        """An Enum made its members, a metaclass its classes, when they were defined."""
        cls = self._class(edit, edit.scope)
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
        cls = self._class(edit, edit.qualname)
        if isinstance(cls, str):
            return ""
        derived: list[type] = type.__subclasses__(cls)
        names = [reach.qualname(each) for each in derived]
        return f"live subclasses: {', '.join(sorted(names))}" if names else ""

    def _objects_fit(self, edit: Edit) -> str:
        if isinstance(edit, Outdated):
            self.heap_scan = self.heap_scan or needs_heap(edit)
            why, doubt = unfitting(edit, self.inventories)
            if doubt:
                self.told.append(f"{edit.path}: {edit.detail}; {doubt}")
            return why
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

    def _unconsumed(self, edit: Edit) -> str:
        item = edit.new[-1]
        node = item.node
        assert isinstance(node, FunctionNode)
        module = self.inventories[edit.module].module
        silent = functools.partial(self._silent, edit)
        if reader := reads_metadata(node.decorator_list, resolver(module), silent):
            return f"the decorator {reader} may have read it"
        if why := self._reader(edit):
            return why
        if edit.facets & SIGNATURES:
            return self._read_by_class(edit, item) if item.scope else self._handed_over(edit, item)
        return ""

    def _silent(self, edit: Edit, value: object) -> bool:
        """Whether what a call of `value` comes to has no word for what the edit changes."""
        words = OF_SIGNATURES if edit.kind == "fields" else OF_SIGNATURES - OF_FIELDS
        if edit.kind == "function" and not edit.facets & SIGNATURES:
            words = OF_DOCSTRINGS
        elif DOCSTRING in edit.facets:
            words |= OF_DOCSTRINGS
        return self.silence.of(value, words - OF_CLASSES if edit.kind == "function" else words)

    def _reader(self, edit: Edit) -> str:
        self.heap_scan = True
        return self.readers.of(edit)

    def _read_by_class(self, edit: Edit, item: Item) -> str:
        cls = self._class(edit, item.scope)
        if isinstance(cls, str):
            return cls
        if (why := watched_class(cls, values=False)) and not quiet_makers(cls):
            return f"read when the class was made: {why}"
        own = reach.class_dict(cls)
        written = isinstance(own.get("__doc__"), str) and str(own["__doc__"]).startswith(
            f"{cls.__name__}("
        )
        if written and "__dataclass_fields__" in own and item.name in {"__init__", "__new__"}:
            return "a dataclass wrote the signature into its docstring"
        return self._decorated(edit, metadata=True)

    def _handed_over(self, edit: Edit, item: Item) -> str:
        return self._given_away(edit, item.qualname) if ANNOTATIONS in edit.facets else ""

    def _given_away(self, edit: Edit, name: str) -> str:
        """The statement that handed a function or class to a call which may have read it."""
        each = self.versions[edit.module].base
        assert each is not None
        module = self.inventories[edit.module].module
        silent = functools.partial(self._silent, edit)
        for other in each.outline.every():
            for callee, given in other.passed:
                if given != name:
                    continue
                if reads_metadata([_call_of(callee)], resolver(module), silent):
                    return f"line {other.line} handed {name} to {callee}, which may have read it"
        return ""


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


def _call_of(callee: str) -> ast.expr:
    """A call of a dotted name, as `reads_metadata` takes it; of something nameless for ""."""
    return ast.Call(ast.parse(callee or "()", mode="eval").body, [], [])


def resolver(module: ModuleType) -> Callable[[str], object]:
    """Looks up dotted names as the module has them."""
    return functools.partial(_resolve, module)


def _resolve(module: ModuleType, name: str) -> object:
    """A dotted name as the live module has it, looked up without running any code of the
    application.
    """
    root, *rest = name.split(".")
    space = reach.namespace(module)
    value: object = space.get(root, vars(builtins).get(root))
    for attribute in rest:
        if isinstance(value, ModuleType):
            value = reach.namespace(value).get(attribute)
        elif reach.is_a(value, type):
            value = reach.class_dict(value).get(attribute)  # type: ignore[arg-type]
        else:
            return None
    return value


__all__ = ["CodeType", "Conditions"]
