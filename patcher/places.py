"""Where functions keep values for later calls: what a text stores in variables of modules, under
the keys of tables and in arguments of partial objects, and where it uses them again.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher.names import dotted, mangled
from zdpatch.patcher.purity import origin
from zdpatch.patcher.spelling import parameters
from zdpatch.patcher.uses import uses, uses_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

_ADDS: Final = {"append": 0, "add": 0, "appendleft": 0, "insert": 1, "setdefault": 1}
_TAKES: Final = frozenset({"get", "pop", "popleft", "setdefault"})
_COPIERS: Final = frozenset({"list", "tuple", "sorted", "reversed", "iter"})
_EMPTY: Final = frozenset({"dict", "list", "set", "deque", "OrderedDict", "defaultdict"})
_KEYED: Final = frozenset({"setdefault", "update"})
_STORING: Final = (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.Call)
_Key = tuple[str, str, str]  # module, class or "", name
What = Literal["variable", "entry", "member", "argument"]


@dataclass(frozen=True, slots=True)
class Place:
    """A variable of a module; or what is in the table that it holds, or that objects of the class
    `owner` hold: an entry, under a key, or a member; or the argument `name` that partial objects
    keep for the function `owner`.
    """

    what: What
    module: str
    owner: str
    name: str

    @property
    def key(self) -> _Key:
        """The name it is known by."""
        return self.module, self.owner, self.name

    def __str__(self) -> str:
        scope = f"{self.owner}." if self.owner else ""
        return f"{scope}{self.name}"


@dataclass(frozen=True, eq=False, slots=True)
class Put:
    """`value` is stored in what `node` names: a variable, a table, the function of a partial object
    (then `word` is the parameter, or its number). It is starred where it is the whole table.
    """

    what: What
    node: ast.expr
    value: ast.expr
    word: str = ""

    def place(self, side: Side, function: Function) -> Place | None:
        """Where that is; None when the text does not tell."""
        if self.what == "argument":
            return _argument(side, function, dotted(self.node) or "", self.word)
        key = located(side, function, self.node)
        return Place(self.what, *key) if key else None

    def may_be(self, place: Place, function: Function) -> bool:
        """Whether it may be there, by its name; a variable of the function may stand for it."""
        last = (dotted(self.node) or "").rpartition(".")[2]
        local = isinstance(self.node, ast.Name) and last in function.bound
        return self.what == place.what and (
            local
            or self.what == "argument"
            or mangled(function.cls, last) == place.name
            or last in function.outline.imports
        )


def stores(function: Function) -> Iterator[Put]:
    """What a function puts where other calls find it."""
    own = declared(function)
    for part in (each for each in function.parts if isinstance(each, _STORING)):
        match part:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _assigned(target, value, own)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from _assigned(target, value, own)
            case ast.NamedExpr(target=target, value=value):
                yield from _assigned(target, value, own)
            case ast.Call(args=[ast.expr() as target, *args]) if _is_partial(function, part):
                given = [*enumerate(args), *((word.arg, word.value) for word in part.keywords)]
                yield from (Put("argument", target, each, str(word)) for word, each in given)
            case ast.Call(func=ast.Attribute(value=table, attr=attr)) if dotted(table):
                yield from (Put(what, table, each) for what, each in _added(part, attr))
            case _:
                pass


def first(side: Side, place: Place) -> Iterator[ast.expr]:
    """What the module, or the body of the class, gave a name when it was made."""
    outline = side.outlines.get(place.module)
    for item in outline.binders(place.owner, place.name) if outline is not None else ():
        value = getattr(item.node, "value", None)
        if isinstance(value, ast.expr):
            every = [("variable", value), *_contents(value)]
            yield from (each for what, each in every if what == place.what)


def users(side: Side, place: Place, *, bare: bool) -> dict[Function, set[str]]:
    """How functions use what is there; `bare`: only where it is certain that they use this."""
    found: dict[Function, set[str]] = {}
    if place.what == "argument":
        for each in side.by_path.get((place.module, place.owner), ()):
            found[each] = uses_of_name(side, each, place.name, bare=bare)
        return found
    for each in side.mentioning([place.name]):
        nodes = [*_elements(side, each, place, bare=bare)]
        if nodes and (group := uses(side, each, nodes, bare=bare)):
            found[each] = group
    return found


def located(side: Side, function: Function, node: ast.expr) -> _Key | None:
    """What an expression of a function names: a variable, an attribute of objects of a class."""
    name, outline = dotted(node) or "", function.outline
    head, _, last = name.rpartition(".")
    root = name.partition(".")[0]
    local = (root in function.bound and root not in declared(function)) or root in function.outer
    if not name:
        return None
    if not head and local:
        bound = function.bound.get(name, [])
        only = bound[0] if len(bound) == 1 else None
        outside = isinstance(only, ast.Name) and only.id not in function.bound
        aliased = outside or isinstance(only, ast.Attribute)
        return located(side, function, only) if only is not None and aliased else None
    if not local:
        module, _, variable = origin(name, outline.imports).rpartition(".")
        if module in side.outlines:
            return module, "", variable
    if not head:
        return (outline.name, "", name) if outline.binders("", name) else None
    holder = side.holder(function, head)
    if holder.kind == "instances" or (holder.module, holder.path) in side.classes:
        return holder.module, holder.path, mangled(function.cls, last)
    return None


def declared(function: Function) -> set[str]:
    """Names that a function declares to be variables of its module."""
    parts = function.parts if b"global " in function.text else ()
    return {name for part in parts if isinstance(part, ast.Global) for name in part.names}


def _assigned(target: ast.expr, value: ast.expr, declared: set[str]) -> Iterator[Put]:
    match target:
        case ast.Subscript(value=table) if dotted(table):
            yield Put("entry", table, value)
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            same = isinstance(value, ast.Tuple) and len(value.elts) == len(elts)
            for index, each in enumerate(elts):
                part = ast.Subscript(value, ast.Constant(index), ast.Load())
                given = value.elts[index] if same and isinstance(value, ast.Tuple) else part
                yield from _assigned(each, given, declared)
        case ast.Name(id=name) if name in declared:
            yield Put("variable", target, value)
            yield from (Put(what, target, each) for what, each in _contents(value))
        case ast.Attribute() if dotted(target):
            yield from (Put(what, target, each) for what, each in _contents(value))
        case _:
            pass


def _added(call: ast.Call, attr: str) -> Iterator[tuple[What, ast.expr]]:
    """What a method of a table puts into it."""
    what: What = "entry" if attr in _KEYED else "member"
    if attr in _ADDS and len(call.args) > _ADDS[attr]:
        yield what, call.args[_ADDS[attr]]
    elif attr in {"update", "extend"}:
        yield from _each(what, (word.value for word in call.keywords if word.arg))
        for each in call.args:
            yield from _contents(each)


def _contents(value: ast.expr) -> Iterator[tuple[What, ast.expr]]:
    """What a new table has in it; the whole, starred, where only running tells."""
    match value:
        case ast.Dict(values=values):
            yield from _each("entry", values)
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            yield from _each("member", elts)
        case ast.DictComp(value=each):
            yield "entry", each
        case ast.ListComp(elt=elt) | ast.SetComp(elt=elt) | ast.GeneratorExp(elt=elt):
            yield "member", elt
        case ast.Constant():
            return
        case ast.BoolOp(values=values):
            yield from (found for each in values for found in _contents(each))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_contents(body), *_contents(orelse))
        case ast.Call(func=func) if _makes_empty(func, value.args):
            given = (word.value for word in value.keywords if word.arg != "maxlen")
            yield from _each("entry", given)
        case _:
            yield "entry", ast.Starred(value)
            yield "member", ast.Starred(value)


def _each(what: What, values: Iterable[ast.expr]) -> Iterator[tuple[What, ast.expr]]:
    for value in values:
        yield what, value


def _makes_empty(func: ast.expr, args: list[ast.expr]) -> bool:
    name = (dotted(func) or "").rpartition(".")[2]
    return name in _EMPTY and (not args or name == "defaultdict")


def _is_partial(function: Function, call: ast.Call) -> bool:
    return origin(dotted(call.func) or "", function.outline.imports) == "functools.partial"


def _argument(side: Side, function: Function, name: str, word: str) -> Place | None:
    """The parameter for which a partial object of the function `name` keeps an argument."""
    bound = bool(function.own) and name.startswith(f"{function.own}.")
    path = f"{function.cls}.{name.partition('.')[2]}" if bound else name
    module, _, last = origin(name, function.outline.imports).rpartition(".")
    where = (module, last) if module in side.outlines else (function.outline.name, path)
    for each in side.by_path.get(where, ()):
        names = [*parameters(each.node)][1 if bound else 0 :]
        if not word.isdigit():
            return Place("argument", *where, word)
        if int(word) < len(names):
            return Place("argument", *where, names[int(word)])
    return None


def _elements(side: Side, function: Function, place: Place, *, bare: bool) -> Iterator[ast.expr]:
    """Expressions of a function that give what is in a place."""

    def here(node: ast.AST) -> bool:
        if not isinstance(node, ast.Name | ast.Attribute):
            return False
        key = located(side, function, node)
        if key is not None or bare:
            return key == place.key
        return (dotted(node) or "").rpartition(".")[2] == place.name

    settled = _settled(function) if bare else {}
    for part in function.parts:
        for each in _given_by(part, place.what, here):
            if settled.get(ast.unparse(each), each.lineno) >= each.lineno:
                yield each


def _settled(function: Function) -> dict[str, int]:
    """What the function has stored itself on every way, by its text, with the line."""
    found: dict[str, int] = {}
    for part in function.node.body:
        for target in part.targets if isinstance(part, ast.Assign) else ():
            found.setdefault(ast.unparse(target), part.lineno)
    return found


def _given_by(part: ast.AST, what: What, here: Callable[[ast.AST], bool]) -> Iterator[ast.expr]:
    """The parts of a function that give what is in a place, if this is one."""
    match part:
        case ast.AugAssign(target=ast.Subscript(value=table)) if here(table):
            if what != "variable":
                yield part.target
        case ast.AugAssign(target=target) if what == "variable" and here(target):
            yield target
        case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
            if what == "variable" and here(part):
                yield part
        case _:
            yield from _inside(part, what, here) if what != "variable" else ()


def _inside(part: ast.AST, what: What, here: Callable[[ast.AST], bool]) -> Iterator[ast.expr]:
    """What gives something that is in a table."""
    match part:
        case ast.Subscript(value=table, ctx=ast.Load()) if here(table):
            if not isinstance(part.slice, ast.Slice):
                yield part
        case ast.Call(func=ast.Attribute(value=table, attr=attr)) if here(table):
            if attr in _TAKES:
                yield part
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            source, target = part.iter, part.target
            if isinstance(source, ast.Call) and (dotted(source.func) or "") in _COPIERS:
                source = source.args[0] if source.args else source
            match source:
                case ast.Call(func=ast.Attribute(value=table, attr="values")) if here(table):
                    yield target
                case ast.Call(func=ast.Attribute(value=table, attr="items")) if here(table):
                    if isinstance(target, ast.Tuple) and len(target.elts) == 2:
                        yield target.elts[1]
                case _ if what == "member" and here(source):
                    yield target
                case _:
                    pass
        case _:
            pass
