"""What an import-time statement may have run, followed through calls, methods and operators.

A statement touches objects: by the names it reads, as these are bound here, and by the classes it
calls. A method counts as run when its name is used by code that runs, on a class that is touched
(rapid type analysis: Bacon and Sweeney, 1996).
"""

from __future__ import annotations

import builtins
import functools
from collections import deque
from dataclasses import dataclass, field, replace
from functools import cached_property
from gc import get_referents
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.named import made_by
from zdpatch.patcher.operations import CALLED_BY, Ran, ran_by_body
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spread import Name, meanings, split
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.names import FunctionNode

_MAKING: Final = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__"})
_LONGEST_CHAIN: Final = 20
_LOOKED_AT: Final = 400  # objects, from what one name is bound to
_CACHED: Final = type(functools.lru_cache(len))
_CONTAINERS: Final = (list, tuple, set, frozenset, dict, deque)


@dataclass(frozen=True, eq=False)
class World:
    """The live side of a trace: namespaces by module, and the one live class of each path."""

    versions: Mapping[str, ModuleVersions]
    spaces: Mapping[str, Mapping[str, object]]
    classes: Mapping[Name, type]
    _bodies: dict[tuple[int, bool], tuple[Item, Ran]] = field(default_factory=dict[Any, Any])
    _kinds: dict[int, tuple[object, list[type]]] = field(default_factory=dict[int, Any])

    @cached_property
    def names(self) -> dict[int, Name]:
        """Paths of classes by the identity of the live class."""
        return {id(cls): name for name, cls in self.classes.items()}

    def functions(self, name: Name) -> Sequence[Item]:
        """The definitions of a path; the accessors of a property share one."""
        each = self.versions.get(name[0])
        return each.new.outline.functions.get(name[1], ()) if each and each.new else ()

    def lazily(self, full: str) -> Name | None:
        """The module's `__getattr__` (PEP 562) when only that can have given a full dotted name."""
        for module, rest in split(full, self.versions):
            each, name = self.versions[module].new, rest.partition(".")[0]
            hook = (module, "__getattr__")
            if each is None or not self.functions(hook) or name.startswith("__"):
                continue
            value = self.spaces.get(module, {}).get(name)
            stars = each.outline.has_star
            if not stars and not each.outline.binders("", name) and type(value) is not ModuleType:
                return hook
        return None

    def body(self, module: str, item: Item, *, whole: bool) -> Ran:
        """What a call of a function may do; with `whole`, also what calls of what it made may."""
        key = (id(item), whole)
        if key not in self._bodies:
            node, new = cast("FunctionNode", item.node), self.versions[module].new
            imports = None if whole or new is None else new.outline.keepers
            self._bodies[key] = item, ran_by_body(node, imports)
        return self._bodies[key][1]

    def beside(self, each: ModuleVersions, space: Mapping[str, object]) -> World:
        """The same world with one more module; what is known of objects and bodies is shared."""
        versions = {**self.versions, each.name: each}
        return replace(self, versions=versions, spaces={**self.spaces, each.name: space})

    def with_classes(self, found: Mapping[Name, type]) -> World:
        """The same world with more classes."""
        return replace(self, classes={**self.classes, **found}, _kinds={}) if found else self

    def look(self, module: str, scope: str, name: str) -> object:
        """What a dotted name is bound to here, as far as it can be followed without running code:
        the object on the way when that has attributes of its own; MISSING when there is nothing.
        """
        root, *rest = name.split(".")
        value = self._root(module, scope, root)
        for attribute in rest:
            if reach.is_a(value, ModuleType):
                value = reach.namespace(cast("ModuleType", value)).get(attribute, MISSING)
            elif reach.is_a(value, type):
                value = _of_class(cast("type", value), attribute)
            else:
                return value
        return value

    def _root(self, module: str, scope: str, root: str) -> object:
        cls = self.classes.get((module, scope)) if scope else None
        if cls is not None and root in reach.class_dict(cls):
            return reach.class_dict(cls)[root]
        fallback = vars(builtins).get(root, MISSING)
        return self.spaces.get(module, {}).get(root, fallback)

    def kinds(self, value: object) -> list[type]:
        """Classes of the patch that a value, or what it holds, is an instance of."""
        if id(value) not in self._kinds:
            self._kinds[id(value)] = value, list(self._find_kinds(value))
        return self._kinds[id(value)][1]

    def _find_kinds(self, value: object) -> Iterator[type]:
        seen: dict[int, object] = {}
        pending = deque([value])
        while pending and len(seen) < _LOOKED_AT:
            each = pending.popleft()
            if id(each) in seen or reach.is_a(each, ModuleType, type, FunctionType):
                continue
            seen[id(each)] = each
            own = any(id(cls) in self.names for cls in mro(type(each)))
            if own:
                yield type(each)
            if own or reach.is_a(each, *_CONTAINERS):
                pending.extend(get_referents(each))


def mro(cls: type) -> tuple[type, ...]:
    """The method resolution order of a class, whatever its metaclass says."""
    return cast("tuple[type, ...]", type.__dict__["__mro__"].__get__(cls))


def _of_class(cls: type, attribute: str) -> object:
    return next(
        (reach.class_dict(e)[attribute] for e in mro(cls) if attribute in reach.class_dict(e)),
        MISSING,
    )


def runs_on_load(value: object) -> bool:
    """Whether an attribute of a class is more than a method, which runs only when it is called."""
    return not reach.is_a(value, FunctionType, staticmethod, classmethod, _CACHED)


def function_names(value: object) -> Iterator[Name]:
    """(module, qualified name) of the functions behind a value: wrapped, partial, bound ones."""
    pending = list(reach.inner_functions(value))
    if type(value) is _CACHED:
        wrapped = vars(value).get("__wrapped__")
        pending = [wrapped] if type(wrapped) is FunctionType else []
    for _ in range(_LONGEST_CHAIN):
        if not pending:
            return
        each = pending.pop()
        yield str(each.__globals__.get("__name__")), each.__code__.co_qualname
        inner = vars(each).get("__wrapped__")
        pending += [inner] if type(inner) is FunctionType else []


@dataclass(eq=False)
class Trace:
    """One statement's way. `functions` are reached ones, `direct` those which it calls itself;
    `methods` are the names called so far, `used` and `loads` those which it calls and loads itself;
    `kinds` are classes of which it had objects, `held` those of what it names, `given` those of
    what it hands to code that is not followed; `made`: the classes it called; `kept`: functions of
    which it only binds what they give.
    """

    world: World
    functions: dict[Name, None] = field(default_factory=dict[Name, None])
    direct: set[Name] = field(default_factory=set[Name])
    reads: set[Name] = field(default_factory=set[Name])
    methods: set[str] = field(default_factory=set[str])
    used: set[str] = field(default_factory=set[str])
    kinds: dict[Name, type] = field(default_factory=dict[Name, type])
    made: dict[Name, type] = field(default_factory=dict[Name, type])
    held: set[Name] = field(default_factory=set[Name])
    loads: set[str] = field(default_factory=set[str])
    given: set[Name] = field(default_factory=set[Name])
    kept: set[Name] = field(default_factory=set[Name])

    @classmethod
    def of(cls, world: World, module: str, item: Item, *, itself: bool = False) -> Trace:
        """Follow one statement; with `itself`, also a call of the function that it defines."""
        trace = cls(world)
        if item.kind == "import" and (hook := world.lazily(item.source)) is not None:
            trace.functions[hook] = None
        ran = item.ran
        trace.used, trace.loads = set(ran.methods), ran.loads
        called = [world.look(module, item.scope, name) for name in ran.calls]
        plain = all(reach.is_a(each, type, FunctionType) for each in called)
        if plain and "" not in ran.given and item.kind not in {"function", "class"}:
            trace.used.discard("__call__")  # no object is called
        makers = trace._makers(module, item)
        trace._take(ran, module, item.scope, called=ran.calls, line=item.line, binds=makers)
        trace.direct = set(trace.functions)
        trace.held = set(trace.kinds)
        trace._hand_over(ran, module, item)
        if itself:
            trace.functions[module, item.qualname] = None
        trace._close()
        return trace

    def _makers(self, module: str, item: Item) -> set[str]:
        new = self.world.versions[module].new
        imports = new.outline.imports if new is not None else {}
        return {name for name, factory in made_by(item, imports).items() if not factory}

    def _hand_over(self, ran: Ran, module: str, item: Item) -> None:
        """Code that is not followed may call any special method of what it is given."""
        for callee, names in ran.given.items():
            value = self.world.look(module, item.scope, callee) if callee else MISSING
            own = any(self.world.functions(name) for name in function_names(value))
            if callee in CALLED_BY or own or id(value) in self.world.names:
                continue
            for name in names:
                bound = self.world.look(module, item.scope, name)
                called = id(bound) in self.world.names and name in ran.calls
                kinds = [cast("type", bound)] if called else self.world.kinds(bound)
                bases = (id(base) for kind in kinds for base in mro(kind))
                self.given.update(self.world.names[i] for i in bases if i in self.world.names)

    def _take(  # noqa: PLR0913
        self,
        ran: Ran,
        module: str,
        outer: str,
        *,
        called: Iterable[str],
        line: int = 0,
        binds: Collection[str] = (),
    ) -> None:
        """Add what one piece of code names, calls and uses; of the calls in `binds` it only binds
        what they give.
        """
        self.methods |= ran.methods
        calls = set(called)
        outline = self.world.versions[module].new
        imports = outline.outline.imports if outline is not None else {}
        for name in ran.reads | ran.calls:
            scope = self._scope(module, outer, name.partition(".")[0], line)
            lazy = self.world.lazily(origin(name, imports)) if "." in name else None
            if lazy is not None:
                self.functions[lazy] = None
            value = self.world.look(module, scope, name)
            if reach.is_a(value, type):
                if name in ran.calls:
                    self._make(cast("type", value))
            elif value is not MISSING:
                for kind in self.world.kinds(value):
                    self._touch(kind)
            if name in calls:
                self._call(module, scope, name, value, binds=name in binds)

    def _scope(self, module: str, scope: str, root: str, line: int) -> str:
        """Until a class body has bound a name itself it reads the module's."""
        outline = self.world.versions[module].new
        binders = outline.outline.binders(scope, root) if outline is not None and scope else []
        return "" if binders and all(item.line >= line for item in binders) else scope

    def _call(self, module: str, scope: str, name: str, value: object, *, binds: bool) -> None:
        known = set(self.functions)
        outline = self.world.versions[module].new
        assert outline is not None
        named = [*function_names(value)]
        named += meanings(outline.outline, scope, name, self.world.versions)
        for each in named:
            maker = (each[0], each[1].partition(".<locals>")[0])
            if self.world.functions(maker):
                self.functions[maker] = None
                if maker != each or not binds:  # what it made is called, or may be
                    self.kept.discard(maker)
                elif maker not in known:
                    self.kept.add(maker)
            owner = (each[0], each[1].rpartition(".")[0])
            if owner in self.world.classes:  # a class method makes objects of its class
                self._touch(self.world.classes[owner])

    def _make(self, cls: type) -> None:
        if (name := self.world.names.get(id(cls))) is not None:
            self.made[name] = cls
        for meta in mro(type(cls)):
            hook = (*self.world.names.get(id(meta), ("", "")),)
            called = (hook[0], f"{hook[1]}.__call__")
            if self.world.functions(called):
                self.functions[called] = None
        self._touch(cls)

    def _touch(self, cls: type) -> None:
        for each in mro(cls):
            if (name := self.world.names.get(id(each))) is not None:
                self.kinds.setdefault(name, cls)

    def _close(self) -> None:
        """Until nothing is new: bodies of reached functions, then methods of touched classes."""
        done: set[tuple[Name, bool]] = set()
        known = (-1, -1)
        while True:
            fresh = [(name, name in self.kept) for name in self.functions]
            fresh = [each for each in fresh if each not in done]
            if not fresh and known == (len(self.functions), len(self.kinds)):
                return
            known = (len(self.functions), len(self.kinds))
            for each in fresh:
                done.add(each)
                self._body(each[0], whole=not each[1])
            self._dispatch()

    def _body(self, name: Name, *, whole: bool) -> None:
        module = name[0]
        for item in self.world.functions(name):
            ran = self.world.body(module, item, whole=whole)
            outline = self.world.versions[module].new
            assert outline is not None
            for read in ran.reads:
                self.reads.update(meanings(outline.outline, "", read, self.world.versions))
            wrapped = set(made_by(item, outline.outline.imports))
            called = ran.reads | ran.calls | wrapped
            self._take(
                Ran(ran.reads | wrapped, ran.calls, {}, ran.methods, ran.loads),
                module,
                "",
                called=called,
            )
            self.methods |= ran.loads

    def _dispatch(self) -> None:
        made = {id(cls) for cls in self.made.values()}
        for cls in {id(c): c for c in self.kinds.values()}.values():
            wanted = self.methods | _MAKING if id(cls) in made else self.methods
            for each in mro(cls):
                owner = self.world.names.get(id(each))
                if owner is None:
                    continue
                space = reach.class_dict(each)
                loaded = {name for name in self.loads & space.keys() if runs_on_load(space[name])}
                for method in (wanted & space.keys()) | loaded:
                    name = (owner[0], f"{owner[1]}.{method}")
                    if self.world.functions(name):
                        self.functions.setdefault(name)
                        self.kept.discard(name)
