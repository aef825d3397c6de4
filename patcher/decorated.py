"""A decorator may call what it decorates, and keep what that gave: when the function changes, that
is the old one.

Read from the text of the decorator: what only its wrapper calls has not run. A decorator without a
text, or of the standard library, calls nothing.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field, replace
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.deferred import called_inner, given_back
from zdpatch.patcher.edits import Edit
from zdpatch.patcher.importers import in_stdlib, source_of
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.swap import MISSING
from zdpatch.patcher.tracing import mro
from zdpatch.patcher.values import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zdpatch.patcher.calls import Changed
    from zdpatch.patcher.edits import Version
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline
    from zdpatch.patcher.texts import Texts
    from zdpatch.patcher.tracing import World

_CALLERS: Final = frozenset({"map", "filter", "sorted", "min", "max", "reduce"})
_DEPTH: Final = 4  # functions that hand it on
_Function = FunctionNode | ast.Lambda
_ELSEWHERE: Final = -1  # no place: what comes first is something else


def stale_decorated(changed: Changed, world: World, texts: Texts) -> Iterator[Edit]:
    """Edits of kind "stale" for functions that do something else when they are called now, and
    which a decorator has called.
    """
    full, _, _ = changed.reaches(world.versions, world.versions)
    decorators = _Decorators(world, texts)
    for name, why in full.without(changed.values).ran.items():
        for item in world.functions(name):
            base = world.versions[name[0]].base
            before = base.outline.binders(item.scope, item.name) if base is not None else []
            if before and decorators.call(name[0], item):
                yield Edit(
                    name[0], item.qualname, "stale", (item,), (item,), cause=why, detail="call"
                )


@dataclass(frozen=True, slots=True)
class _Taken:
    """A definition is taken by a call of `function`, at a place of its parameters; `gives`: or by
    the function which that gives.
    """

    function: FunctionType
    place: int
    gives: bool


@dataclass(frozen=True)
class _Decorators:
    world: World
    texts: Texts
    _known: dict[_Taken, bool] = field(default_factory=dict[_Taken, bool])

    def call(self, module: str, item: Item) -> bool:
        """Whether a decorator of a definition calls it."""
        decorators: list[ast.expr] = getattr(item.node, "decorator_list", [])
        return any(self._calls(module, item, each) for each in decorators)

    def _calls(self, module: str, item: Item, decorator: ast.expr) -> bool:
        made = decorator if isinstance(decorator, ast.Call) else None
        name = dotted(made.func if made else decorator)
        taken = self._taken(module, item, name, made) if name else None
        if taken is not None and taken not in self._known:
            self._known[taken] = self._runs(taken)
        return taken is not None and self._known[taken]

    def _runs(self, taken: _Taken) -> bool:
        """Whether a call of a function, or of what it gives, calls what that gets."""
        # a slot gives the function itself, not a method
        function: FunctionType = taken.function  # pyright: ignore[reportAssignmentType]
        known = self._text(function)
        if known is None:
            return False
        outline, node = known
        given: list[_Function] = [*given_back(node)] if taken.gives else []
        places = [(each, 0) for each in given] + [(node, taken.place)]
        return any(_called(outline, each, place) for each, place in places)

    def _taken(self, module: str, item: Item, name: str, made: ast.Call | None) -> _Taken | None:
        """How what a name stands for, or what `made` makes by it, gets the definition."""
        value = self.world.look(module, item.scope, name)
        if reach.is_a(value, type) and made is not None:
            return _method(cast("type", value), "__call__", gives=False)
        if reach.is_a(value, type):
            found = _method(cast("type", value), "__init__", gives=False)
        elif reach.is_a(value, FunctionType, staticmethod, classmethod):
            found = _of(value, gives=made is not None)
            found = found and replace(found, place=int(type(value) is classmethod))
        elif value is MISSING or reach.is_a(value, ModuleType):
            found = None
        else:
            attribute = name.rpartition(".")[2] if "." in name else "__call__"
            found = _method(type(value), attribute, gives=made is not None)
        other = made is not None and bool(made.args)  # which come first
        return replace(found, place=_ELSEWHERE) if found is not None and other else found

    def _text(self, function: FunctionType) -> tuple[Outline, FunctionNode] | None:
        """The definition of a live function, in a text which is what it runs."""
        name, code = str(function.__globals__.get("__name__")), function.__code__
        side = self._side(name)
        for item in side.outline.functions.get(code.co_qualname, ()) if side is not None else ():
            own = side.code_of(item) if side is not None else None
            if own is not None and codes.digest(own) == codes.digest(code):
                assert side is not None
                return side.outline, cast("FunctionNode", item.node)
        return None

    def _side(self, name: str) -> Version | None:
        if name in self.world.versions:
            return self.world.versions[name].base
        module = sys.modules.get(name)
        if type(module) is not ModuleType or in_stdlib(reach.namespace(module)):
            return None
        source = source_of(module)
        each = None if source is None else self.texts.as_it_is(name, module, source)
        return None if each is None else each.base


def _method(cls: type, name: str, *, gives: bool) -> _Taken | None:
    """The method that is called on an object of a class."""
    owner = next((each for each in mro(cls) if name in reach.class_dict(each)), None)
    return None if owner is None else _of(reach.class_dict(owner)[name], gives=gives)


def _of(value: object, *, gives: bool) -> _Taken | None:
    """A function of a class, called on an object."""
    inner = unwrapped(value)
    place = 0 if type(value) is staticmethod else 1
    return _Taken(inner, place, gives) if type(inner) is FunctionType else None


def _called(outline: Outline, node: _Function, index: int, depth: int = _DEPTH) -> bool:
    """Whether a call of a function calls what it gets at a place."""
    args = [*node.args.posonlyargs, *node.args.args]
    if not 0 <= index < len(args) or not depth:
        return False
    own = list(_own(node))
    names = {args[index].arg}
    for part in own:
        if isinstance(part, ast.Assign) and dotted(part.value) in names:
            names |= {each.id for each in part.targets if isinstance(each, ast.Name)}
    return any(_uses(outline, part, names, depth) for part in own if isinstance(part, ast.Call))


def _uses(outline: Outline, call: ast.Call, names: set[str], depth: int) -> bool:
    callee = dotted(call.func) or ""
    given = [at for at, each in enumerate(call.args) if dotted(each) in names]
    if callee in names or (given and callee.rpartition(".")[2] in _CALLERS):
        return True
    followed = [item.node for item in outline.functions.get(callee, ())] if given else []
    return any(
        _called(outline, cast("FunctionNode", node), at, depth - 1)
        for node in followed
        for at in given
    )


def _own(node: _Function) -> Iterator[ast.AST]:
    """What runs of a body when its function is called: of the functions inside those that it calls
    itself, and lambdas that are called at once.
    """
    run = {id(each) for each in called_inner(node)}
    pending: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, ast.Call) and (dotted(part.func) or "") in _CALLERS:
            pending += [each.body for each in part.args if isinstance(each, ast.Lambda)]
        if isinstance(part, FunctionNode):
            pending += [*part.decorator_list, *(part.body if id(part) in run else ())]
        elif not isinstance(part, ast.Lambda | ast.ClassDef) or id(part) in run:
            pending += ast.iter_child_nodes(part)
