"""New values and definitions are made here, ahead of the flip, each once and in the order they need
each other; nothing live is written.
"""

from __future__ import annotations

import ast
import copy
import sys
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, cast

from zdpatch.patcher import generics, reach
from zdpatch.patcher.assigned import assigned, attributes
from zdpatch.patcher.carried import chains
from zdpatch.patcher.class_names import bound_later
from zdpatch.patcher.decorating import Decorating
from zdpatch.patcher.edits import Edit, ModuleVersions
from zdpatch.patcher.effects import only_imports
from zdpatch.patcher.evaluate import Place, Unevaluable, guard, live_import, run
from zdpatch.patcher.finding import Finding
from zdpatch.patcher.foreseen import dependencies
from zdpatch.patcher.generics import is_alias
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import mangled
from zdpatch.patcher.newcomers import Newcomers, future_flags
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.own_calls import OwnCalls
from zdpatch.patcher.promises import Promise, is_promised
from zdpatch.patcher.purity import is_typing
from zdpatch.patcher.reach import is_a
from zdpatch.patcher.spread import Name, meanings, split
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zdpatch.patcher.evaluate import Find


@dataclass(frozen=True, slots=True)
class Value:
    """What a name was by the base, and is by the new source. `MISSING`: not bound on that side."""

    old: object
    new: object

    @property
    def changed(self) -> bool:
        return not same(self.old, self.new)


@dataclass(eq=False)
class Stage:
    """The workspace of one plan.

    `live`: the loaded modules the patch changes. `classes`: live classes by (module, qualname).
    """

    versions: Mapping[str, ModuleVersions]
    live: Mapping[str, ModuleType]
    classes: Mapping[Name, type]
    filenames: Mapping[str, str]
    newcomers: Newcomers
    values: dict[Name, Value] = field(default_factory=dict[Name, Value])
    aliases: dict[Name, Name] = field(default_factory=dict[Name, Name])
    promises: frozenset[str] = frozenset()  # paths of names that hooks give a value
    prospects: dict[Name, Edit] = field(default_factory=dict[Name, Edit])  # see `foreseen`
    made: dict[Name, int] = field(default_factory=dict[Name, int])  # in which order
    _pending: dict[Name, Edit] = field(default_factory=dict[Name, Edit])

    def expect(self, edits: Iterable[Edit]) -> None:
        """Announce the edits which give names a new value, so that any of them finds the others."""
        for edit in edits:
            name = (edit.module, edit.qualname)
            gives = edit.kind in {"value", "added", "removed"} and edit.module in self.live
            if gives and name not in self.made:
                self._pending.setdefault(name, edit)

    def value(self, name: Name) -> Value | None:
        """The value of a name the patch changes, made now if need be; None for every other name.

        Raises Unevaluable, and whatever the statements of the new source raise.
        """
        edit = self._pending.pop(name, None)
        if edit is None and name in self.prospects:
            edit = self._prospect(name)
        if edit is not None:
            self.put(name, self._make(edit))
        return self.values.get(name)

    def _prospect(self, name: Name) -> Edit | None:
        """The edit of what may change, when something that it reads does."""
        edit = self.prospects.pop(name)
        given = map(self.value, dict.fromkeys(dependencies(edit, self.versions)))
        return edit if any(value is not None and value.changed for value in given) else None

    def put(self, name: Name, value: Value) -> None:
        """Note the value of a name."""
        self.values[name] = value
        self.made[name] = len(self.made)

    # ------------------------------------------------------------ lookup

    def find(self, module: str, name: str) -> object:
        """The new value behind a dotted name read in `module` ("" for an import's full name);
        MISSING if unchanged.
        """
        if not module:
            return self._imported(name)
        each = self.versions.get(module)
        if each is None or each.new is None:
            return MISSING
        for candidate in meanings(each.new.outline, "", name, self.versions):
            if (value := self._exact(candidate, name)) is not MISSING:
                return value
        return MISSING

    def _exact(self, candidate: Name, read: str) -> object:
        if not read.endswith(candidate[1]):
            return MISSING
        value = self.value(self.aliases.get(candidate, candidate))
        if value is not None and type(value.new) is Promise:
            raise Unevaluable(f"a hook gives {value.new.path}, which it reads")
        return MISSING if value is None else value.new

    def _imported(self, full: str) -> object:
        specs = self.newcomers.specs
        if full in specs:
            return self.newcomers.load(full, self.find)
        for candidate in split(full, self.versions):
            module, name = candidate
            if module in specs:
                return vars(self.newcomers.load(module, self.find)).get(name, MISSING)
            if (value := self.value(candidate)) is not None:
                return value.new
        return MISSING

    # ------------------------------------------------------------ names

    def _make(self, edit: Edit) -> Value:
        if (edit.new or edit.old)[-1].kind == "star":
            return self._taken(edit)
        if is_promised(edit, self.promises):
            return Value(self.present(edit), Promise(edit.path))
        old, live = self._old(edit), self.present(edit)
        # the very object that lives: others are found by its identity
        return Value(live if same(old, live) else old, self._new(edit))

    def _taken(self, edit: Edit) -> Value:
        """What a star import gives a name."""
        if not edit.new:
            return Value(self.present(edit), MISSING)
        source = edit.new[-1].source
        if (given := self.value((source, edit.qualname))) is not None:
            return given
        loaded = reach.namespace(sys.modules[source])
        return Value(MISSING, loaded.get(edit.qualname, MISSING))

    def keep(self, edit: Edit) -> None:
        """Leave the name of an edit as it is."""
        self._pending.pop((edit.module, edit.qualname), None)
        live = self.present(edit)
        self.put((edit.module, edit.qualname), Value(live, live))

    def gave(self, edit: Edit) -> object:
        """What the base's statements give a name when they are run again; MISSING for definitions
        and imports. Raises Unevaluable, and what they raise.
        """
        if any(item.kind != "value" for item in edit.old):
            return MISSING
        return self._ran(edit, new=False)

    def _ran(self, edit: Edit, *, new: bool) -> object:
        """What the statements of one side give the name when they run now."""
        calls = OwnCalls(self.versions, self.find if new else nothing_new, new)
        kept = not new or edit.kind == "value"
        items, own = calls.put_in(edit.new if new else edit.old, edit.module, keep=kept)
        if not new or edit.kind == "value" or own:
            self.guard(edit, items, own, new=new)
        find = knowing(own, calls.find)
        return run(items, self.place(edit, new=new), find).get(_last(edit), MISSING)

    def _new(self, edit: Edit) -> object:
        if not edit.new:
            return MISSING
        if why := self.decorating.registers(edit):
            raise Unevaluable(why)
        value = self._ran(edit, new=True)
        if edit.kind == "added" and edit.new[-1].children:
            self._assign(value, edit.new[-1], edit)
        if edit.scope and _last(edit) == "__class_getitem__" and type(value) is FunctionType:
            return classmethod(value)  # as `type.__new__` does
        if edit.scope and not edit.of_function:
            made = edit.new[-1].kind == "function"
            self.decorating.tell_name(value, self._class(edit), _last(edit), made=made)
        if not edit.of_function and edit.new[-1].kind == "class":
            _without_line(value)
        return value

    @property
    def decorating(self) -> Decorating:
        """Judges decorators of the tree."""
        return Decorating(self.versions, self.find, self.live)

    def attributes(self, edit: Edit) -> tuple[object, dict[str, object]]:
        """The live function that an edit of kind `of_function` is about, and its attributes."""
        found = attributes(self.live[edit.module], edit.scope)
        if found is None:
            raise Unevaluable(f"{edit.scope} is not a plain function here")
        return found

    def _assign(self, made: object, item: Item, edit: Edit) -> None:
        """What statements behind a new definition bind in it."""
        for child in item.children:
            if child.kind in {"class", "function"} and child.children:
                self._assign(vars(made)[child.name], child, edit)
        for child in assigned(item):
            alone = Item("value", "", child.names, child.node)
            values = run([alone], self.place(edit), self.find)
            if is_a(made, type):
                type.__setattr__(cast("type", made), child.name, values[child.name])
            else:
                vars(made)[child.name] = values[child.name]

    def annotation(self, edit: Edit, name: str) -> object:
        """The new annotation of a name; MISSING when it has none any more."""
        items = [item for item in edit.new if isinstance(item.node, ast.AnnAssign)]
        if not items:
            return MISSING
        node = cast("ast.AnnAssign", copy.deepcopy(items[-1].node))
        node.value = None
        bare = Item("field", edit.scope, items[-1].names, node)
        table = run([bare], self.place(edit), self.find).get("__annotations__")
        return cast("dict[str, object]", table).get(name, MISSING)

    def _old(self, edit: Edit) -> object:
        """What the base gives the name. For what has no value to compare (functions, state), what
        is live.
        """
        if not edit.old:
            return MISSING
        live = self.present(edit)
        item = edit.old[-1]
        if edit.kind == "removed" or item.kind in {"function", "class"}:
            return live
        if item.kind == "import" and len(edit.old) == 1:
            found = live_import(item)
            return live if found is MISSING else found
        if _is_typing(edit, self.versions[edit.module]):
            return live
        return self._ran(edit, new=False)

    def present(self, edit: Edit) -> object:
        """What the name is bound to right now; MISSING when it is not."""
        return self._namespace(edit).get(_last(edit), MISSING)

    def _class(self, edit: Edit) -> type:
        """The one live class whose body the edit's statement stands in."""
        if (edit.module, edit.scope) not in self.classes:
            raise Unevaluable(f"there is not one live class {edit.scope}")
        return self.classes[edit.module, edit.scope]

    def _namespace(self, edit: Edit) -> Mapping[str, object]:
        if not edit.scope:
            return vars(self.live[edit.module])
        if edit.of_function:
            return self.attributes(edit)[1]
        cls = self._class(edit)
        return cast("Mapping[str, object]", type.__dict__["__dict__"].__get__(cls))

    def place(self, edit: Edit, *, new: bool = True) -> Place:
        """Where the statements of an edit run; with `new`, in a class with the new values staged so
        far.
        """
        each = self.versions[edit.module]
        assert each.new is not None
        side = each.new if new or each.base is None else each.base
        flags = future_flags(side.outline)
        module = self.live[edit.module]
        # functions that the old side makes must not pass for the patch's own
        filename = self.filenames[edit.module] if new or each.base is None else each.base.filename
        if not edit.scope or edit.of_function:
            return Place(module, filename, flags)
        names = self._staged(edit.module, edit.scope) if new else {}
        cls = self._class(edit)
        params = generics.held(self._enclosing(edit))
        texts = each.new.outline, side.outline
        return Place(module, filename, flags, edit.scope, cls, names, *texts, params)

    def _staged(self, module: str, scope: str) -> dict[str, object]:
        """The new values of a class so far."""
        return {
            mangled(scope, qualname.rpartition(".")[2]): value.new
            for (owner, qualname), value in self.values.items()
            if owner == module and qualname.rpartition(".")[0] == scope
        }

    def hidden(self, edit: Edit, function: FunctionType) -> Mapping[str, object]:
        """What the code of a live definition finds under names that it does not bind itself: its
        class, and type parameters.
        """
        own = generics.held([function])
        cls = self.classes.get((edit.module, edit.scope)) if edit.scope else None
        found = {} if cls is None else {"__class__": cls, **generics.held(self._enclosing(edit))}
        return found | own

    def _enclosing(self, edit: Edit) -> Iterator[type | None]:
        """The live classes that an edit's scope stands in, outer before inner."""
        parts = edit.scope.split(".")
        for depth in range(1, len(parts) + 1):
            yield self.classes.get((edit.module, ".".join(parts[:depth])))

    def guard(
        self,
        edit: Edit,
        items: Iterable[Item],
        own: Mapping[str, object] = MappingProxyType({}),
        *,
        new: bool = True,
    ) -> None:
        globals_: Mapping[str, object] = vars(self.live[edit.module])
        namespace = globals_ if edit.of_function else self._namespace(edit)

        _no_shared_state(list(items), self.present(edit))
        for item in items:
            self._imports_succeed(edit.module, item)

        each = self.versions[edit.module]
        side = each.new if new else each.base
        text = None if side is None else side.outline
        later = {name for item in items for name in bound_later(edit.scope, item, text)}
        inside = bool(edit.scope) and not edit.of_function
        staged = self._staged(edit.module, edit.scope) if new and inside else {}
        names = Finding(self, edit, own, staged, namespace, globals_, chains(edit.old), later)
        guard(items, names.lookup, names.outside if inside else None)

    def _imports_succeed(self, module: str, item: Item) -> None:
        """What is imported by a `try` must be here: its handlers may have effects."""
        if not isinstance(item.node, ast.Try) or not only_imports(item.node):
            return
        package = "__path__" in vars(self.live[module])
        body = item.node.body
        for node, name in item.imported:
            if not any(node is each for each in body):
                continue
            owner = absolute(node, module, package=package)
            loaded = sys.modules.get(owner)
            here = loaded is not None and name in vars(loaded)
            if not here and self.find("", f"{owner}.{name}") is MISSING:
                raise Unevaluable(f"{owner}.{name} is not loaded here")


def _without_line(value: object) -> None:
    """Take `__firstlineno__` (3.13) from a class that was made in a live module, and from those
    inside: `inspect` would look for the line in the file of the module, which has other lines.
    """
    if not reach.is_a(value, type):
        return
    cls = cast("type", value)
    if "__firstlineno__" in reach.class_dict(cls):
        type.__delattr__(cls, "__firstlineno__")
        for _, inner in reach.items(reach.class_dict(cls)):
            if reach.is_a(inner, type):
                name = reach.qualname(cast("type", inner))
                if name.startswith(f"{reach.qualname(cls)}."):
                    _without_line(inner)


def knowing(values: Mapping[str, object], find: Find) -> Find:
    """Looks up names with `values` in front."""

    def finder(module: str, name: str) -> object:
        return values[name] if name in values else find(module, name)

    return finder


def nothing_new(module: str, name: str) -> object:
    """The look-up of the base: no name has a new value."""
    del module, name
    return MISSING


def _last(edit: Edit) -> str:
    return mangled(edit.scope, edit.qualname.rpartition(".")[2])


def _is_typing(edit: Edit, each: ModuleVersions) -> bool:
    assert each.base is not None
    values = [getattr(item.node, "value", None) for item in edit.old]
    if all(is_alias(item.node) for item in edit.old):
        return True
    return all(
        value is not None and is_typing(value, each.base.outline.imports) for value in values
    )


def _no_shared_state(items: list[Item], present: object) -> None:
    """`X += ...` changes a list in place: only one made by the same statements is not live."""
    augmented = any(isinstance(item.node, ast.AugAssign) for item in items)
    first = getattr(items[0].node, "value", None) if items else None
    own = isinstance(first, ast.List | ast.Dict | ast.Set | ast.Constant | ast.Tuple)
    if augmented and not own and type(present) in {list, dict, set, bytearray}:
        raise Unevaluable("an augmented assignment would change an object that is in use")
