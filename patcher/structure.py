"""What statements of a module left behind besides code: classes are built, functions are wrapped
and modules are imported as the base says, where that can be seen.

Only what nothing else in the source can have bound is compared, and only names that lead to living
modules, classes and decorators of the standard library; whatever does not is left.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from abc import ABCMeta
from enum import EnumType
from types import FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.drift import Drift, drift, keeps_names, plainly_made
from zdpatch.patcher.evaluate import live_import
from zdpatch.patcher.literals import literal
from zdpatch.patcher.living import Living, sure
from zdpatch.patcher.names import FunctionNode, dotted, mangled
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.values import same

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import CodeType

    from zdpatch.patcher.drift import What
    from zdpatch.patcher.edits import Version
    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item

# What a decorator of the standard library leaves of a function; by id: anything may be hashed.
_LEAVES: Final[Mapping[int, type]] = MappingProxyType(
    {
        id(functools.lru_cache): reach.CACHED,
        id(functools.cache): reach.CACHED,
        **{
            id(kind): kind
            for kind in (property, staticmethod, classmethod, functools.cached_property)
        },
    }
)
_SEEN: Final = frozenset({FunctionType, *_LEAVES.values()})
_PARAMS: Final = "__dataclass_params__"
_BY_DEFAULT: Final = frozenset({"init", "repr", "eq", "match_args"})
_DATACLASS: Final = (
    *("init", "repr", "eq", "order", "unsafe_hash", "frozen", "match_args", "kw_only", "slots"),
    "weakref_slot",
)
# Metaclasses that leave the bases as they are written.
_PLAIN: Final = frozenset({type, ABCMeta, EnumType})
_DEFAULT_CACHE: Final = MappingProxyType({"maxsize": 128, "typed": False})


def unexplained(taken: Inventory, base: Version, known: Collection[CodeType] = ()) -> list[Drift]:
    """What of `taken` the source behind `base` does not explain: its code (see `drift`), and what
    its statements have built.
    """
    return [*drift(taken, base.written, known), *different_structure(taken, base)]


def different_structure(taken: Inventory, base: Version) -> list[Drift]:
    """Where a class, a wrapper or an imported module is another than the source says."""
    compared = _Structure(taken, base)
    code, items = base.code, base.outline.items
    return [*compared.imports(items), *compared.body(items, code, taken.namespace, "")]


class _Structure:
    def __init__(self, taken: Inventory, base: Version) -> None:
        self.taken = taken
        self.base = base
        self.living = Living(taken, base)

    def _drift(self, path: str, item: Item, what: str, kind: What = "changed") -> Drift:
        return Drift(f"{self.taken.name}:{path}", item.line, f"{path} {what}", kind)

    # ------------------------------------------------------------ imports

    def imports(self, items: tuple[Item, ...]) -> Iterator[Drift]:
        """Imported names that are bound to another module than the one that was named."""
        space = self.taken.namespace
        for item in items:
            if item.kind != "import" or not sure(item.name, self.living.module):
                continue
            other = _other_module(item, space.get(item.name))
            if other:
                yield self._drift(
                    item.name, item, f"is the module {other} here, and {item.source} in the base"
                )

    # ------------------------------------------------------------ definitions

    def body(
        self,
        items: tuple[Item, ...],
        body: CodeType,
        space: Mapping[str, object],
        scope: str,
    ) -> Iterator[Drift]:
        """Functions and classes that the statements of a module or class made."""
        bound = self.base.written.bound(body)
        for item in items:
            name = mangled(scope, item.name)
            if name not in space or not sure(name, bound):
                continue
            if item.kind == "class":
                yield from self._class(item, space[name])
            elif isinstance(item.node, FunctionNode) and item.node.decorator_list:
                yield from self._decorated(item, item.node, space[name])

    def _class(self, item: Item, live: object) -> Iterator[Drift]:
        node, path = cast("ast.ClassDef", item.node), item.qualname
        bodies = self.base.written.class_bodies.get(path, [])
        if not reach.is_a(live, type) or len(bodies) != 1:
            return
        cls = cast("type", live)
        if reach.qualname(cls) != path:
            return  # another class is bound there; `drift` judges that
        how = self._made_by(item, node, cls)
        if how:
            yield self._drift(path, item, how)
        if node.decorator_list:
            return  # a decorator may give a class of its own
        wanted = [self.living.named(each, item.scope, item) for each in node.bases]
        sure = all(reach.is_a(each, type) for each in wanted)
        how = self._metaclass(node, cast("list[type]", wanted) if sure else None, cls)
        how = how or (self._bases(node, wanted, cls) if sure else "")
        if how:
            yield self._drift(path, item, how)
        if sure and not how and (how := self._slots(item, cls, bodies[0])):
            yield self._drift(path, item, how)
        if plainly_made(cls):
            own = {str(key): value for key, value in reach.items(reach.class_dict(cls))}
            yield from self.body(item.children, bodies[0], own, path)

    def _metaclass(self, node: ast.ClassDef, bases: list[type] | None, cls: type) -> str:
        """How the metaclass differs from the one that is named, or from those of the bases."""
        words = {word.arg: word.value for word in node.keywords}
        found = type(cls)
        if "metaclass" in words:
            wanted = self.living.named(words["metaclass"], "")
            names = {reach.qualname(each) for each in reach.mro(found)}
            alike = not reach.is_a(wanted, type) or reach.qualname(cast("type", wanted)) in names
        else:
            kinds = [type(each) for each in bases or ()]
            sure = bases is not None and None not in words
            sure = sure and all(kind in {type, ABCMeta} for kind in kinds)
            alike = not sure or found in {type, *kinds}
        return "" if alike else f"has the metaclass {reach.qualname(found)} here"

    def _bases(self, node: ast.ClassDef, wanted: list[object], cls: type) -> str:
        """How the bases differ from what the names in the statement lead to."""
        generic = getattr(node, "type_params", None)
        if "__bases__" in self.base.written.elsewhere or generic or type(cls) not in _PLAIN:
            return ""
        found = _bases_of(cls)
        if not node.bases:
            alike = found == (object,)
        else:
            alike = len(found) == len(wanted)
            alike = alike and all(map(self._is_base, node.bases, wanted, found))
        if alike:
            return ""
        names = ", ".join(map(reach.qualname, found))
        said = ", ".join(map(ast.unparse, node.bases)) or "object"
        return f"is a class of ({names}) here, and of ({said}) in the base"

    def _is_base(self, node: ast.expr, wanted: object, found: type) -> bool:
        """Whether a base is the one that was named, or one of the same name that came before."""
        if wanted is found:
            return True
        root, _, rest = (dotted(node) or "").partition(".")
        items = self.base.outline.binders("", root)
        if len(items) == 1 and items[0].kind == "import":
            if not rest and live_import(items[0]) is found:
                return True
            source = f"{items[0].source}.{rest}".rstrip(".")
            if source == f"{_home(found)}.{reach.qualname(found)}":
                return True
        other = cast("type", wanted)
        return (_home(other), reach.qualname(other)) == (_home(found), reach.qualname(found))

    def _slots(self, item: Item, cls: type, body: CodeType) -> str:
        """How `__slots__` differ; that they are not there at all is said by `drift`."""
        own = reach.class_dict(cls)
        bound = self.base.written.bound(body)
        if not keeps_names(cls):
            return ""
        if "__slots__" not in body.co_names and "__slots__" in own:
            return "has __slots__ here, and none in the base"
        binders = self.base.outline.binders(item.qualname, "__slots__")
        if len(binders) != 1 or "__slots__" not in own or not sure("__slots__", bound):
            return ""
        wanted = literal(getattr(binders[0].node, "value", None))
        live = own["__slots__"]
        if wanted is None or type(live) is not type(wanted) or same(live, wanted):
            return ""
        return f"has the __slots__ {live!r:.60} here"

    # ------------------------------------------------------------ decorators

    def _made_by(self, item: Item, node: ast.ClassDef, cls: type) -> str:
        """How `@dataclass` differs: that it made the class or not, and its literal parameters."""
        params = reach.class_dict(cls).get(_PARAMS)
        if not node.decorator_list:
            extra = params is not None and plainly_made(cls) and not self._handed_on(item)
            return "is a dataclass here, and none in the base" if extra else ""
        called = node.decorator_list[0]
        maker = called.func if isinstance(called, ast.Call) else called
        alone = len(node.decorator_list) == 1
        if not alone or self.living.named(maker, item.scope) is not dataclasses.dataclass:
            return ""
        if params is None:
            return "is no dataclass here"
        return _parameters(called, params)

    def _handed_on(self, item: Item) -> bool:
        """Whether a statement calls something with the class."""
        return any(
            item.name == given for each in self.base.outline.every() for _, given in each.passed
        )

    def _decorated(
        self, item: Item, node: ast.FunctionDef | ast.AsyncFunctionDef, live: object
    ) -> Iterator[Drift]:
        """A function that should have a wrapper of the standard library, and what it has."""
        called = node.decorator_list[0]
        maker = called.func if isinstance(called, ast.Call) else called
        made = self.living.named(maker, item.scope)
        wanted = _LEAVES.get(id(made))
        if wanted is None or type(live) not in _SEEN:
            return  # what programs put in its place is none of these
        if type(live) is not wanted:
            own = reach.inner_functions(live)
            if any(self._is_own(each, item.qualname) for each in own):
                yield self._drift(item.qualname, item, f"is not made by @{ast.unparse(maker)} here")
        elif wanted is reach.CACHED and (how := _cache(made, called, live)):
            yield self._drift(item.qualname, item, how)

    def _is_own(self, function: FunctionType, path: str) -> bool:
        code = function.__code__
        return function.__globals__ is self.taken.namespace and code.co_qualname == path


def _other_module(item: Item, live: object) -> str:
    """The name of a living module that is bound in place of the imported one; "" if it is right, or
    if that cannot be told.
    """
    expected = live_import(item)
    unknown = expected is MISSING and not isinstance(item.node, ast.Import)
    if not reach.is_a(live, ModuleType) or unknown or live is expected:
        return ""
    name = reach.namespace(cast("ModuleType", live)).get("__name__")
    if type(name) is not str or sys.modules.get(name) is not live:
        return ""  # it was loaded again since, or somebody made it
    names = {item.source}
    if reach.is_a(expected, ModuleType):
        names.add(str(reach.namespace(cast("ModuleType", expected)).get("__name__")))
    return "" if name in names or sys.modules.get(item.source) is live else name


def _bases_of(cls: type) -> tuple[type, ...]:
    return cast("tuple[type, ...]", type.__dict__["__bases__"].__get__(cls))


def _home(cls: type) -> object:
    return reach.class_dict(cls).get("__module__", "builtins")


def _parameters(called: ast.expr, params: object) -> str:
    """How the literal parameters of `@dataclass` differ from those that a class was made with."""
    words = called.keywords if isinstance(called, ast.Call) else []
    if _home(type(params)) != "dataclasses" or any(word.arg is None for word in words):
        return ""
    given = {word.arg: literal(word.value) for word in words}
    for name in _DATACLASS:
        wanted, live = given.get(name, name in _BY_DEFAULT), getattr(params, name, None)
        if type(wanted) is type(live) is bool and wanted is not live:
            return f"is a dataclass with {name}={live} here"
    return ""


def _cache(made: object, called: ast.expr, live: object) -> str:
    """How the parameters of a cache differ from the literal ones of its decorator."""
    tell = vars(cast("FunctionType", live)).get("cache_parameters")
    if type(tell) is not FunctionType or tell.__globals__ is not functools.__dict__:
        return ""
    wanted: dict[str, object] = dict(_DEFAULT_CACHE)
    if made is functools.cache:
        wanted["maxsize"] = None
    elif isinstance(called, ast.Call):
        given = dict(zip(_DEFAULT_CACHE, called.args, strict=False))
        given |= {word.arg or "": word.value for word in called.keywords}
        if not all(isinstance(each, ast.Constant) for each in given.values()):
            return ""
        wanted |= {name: cast("ast.Constant", each).value for name, each in given.items()}
    found = tell()
    if all(same(found.get(name), value) for name, value in wanted.items()):
        return ""
    return f"has a cache with maxsize={found.get('maxsize')}, typed={found.get('typed')} here"
