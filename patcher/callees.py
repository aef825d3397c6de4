"""What calls do with functions that change: run them, look at them, hand them on, or store them.

A function of the tree is followed with what it is given; anything else that gets such a function
may have run it.
"""

from __future__ import annotations

import ast
import builtins
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.giving import SHOWN, Code, Giving, Gone, Made, Row, Space, Table, is_text
from zdpatch.patcher.holding import CONTAINERS, attribute
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEPTH: Final = 5  # functions called by functions
_ENTERED: Final = 200  # functions that are followed for one statement
# Built-in functions which run nothing of what they are given, and give nothing of it.
_LOOKERS: Final = frozenset(
    {"isinstance", "issubclass", "callable", "id", "type", "len", "hash", "repr", "str", "ascii",
     "hasattr", "print", "bool", "any", "all", "setattr", "delattr", "dir", "format", "range"}
)  # fmt: skip
# Those which hand on what they are given, as it is, or what is in it.
_PASSING: Final = frozenset(
    {"list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", "next", "min", "max",
     "enumerate", "zip", "map", "filter", "dict"}
)  # fmt: skip
_QUIET_METHODS: Final = frozenset(
    {"append", "appendleft", "add", "extend", "insert", "update", "remove", "discard", "index",
     "count", "clear", "reverse", "__contains__", "__len__"}
)  # fmt: skip
_GIVING: Final = frozenset(
    {"get", "pop", "setdefault", "popleft", "popitem", "copy", "__getitem__"}
)
_LOOKING_MODULES: Final = frozenset({"inspect", "asyncio.coroutines"})


class Callees(Giving):
    """Follows calls."""

    def call(self, node: ast.Call) -> list[object]:
        """Follow a call: the objects it may give that hold such a function."""
        places = [self.place(part) for part in node.args]
        words = [self.value(word.value) for word in node.keywords]
        # once: a chain of calls is as long as its text
        owners = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else []
        found = self._built_in(node, places, words)
        if found is None and isinstance(node.func, ast.Attribute):
            found = self._method(node.func, owners, node, [*places, *words])
        if found is not None:
            return found
        if run := self._callees(node.func, owners):
            return [part for each in run for part in self._run(each, places)]
        callee = self._callee(node.func, owners)
        if reach.is_a(callee, type) and id(callee) in self.holders.world.names:
            self._blame([each for place in (*places, *words) for each in place])
            return [Made(cast("type", callee))]
        return self._apply(callee, places, node.keywords, words, this=self._this(node.func, owners))

    def _callees(self, func: ast.expr, owners: list[object]) -> list[object]:
        """What of such objects is called; `owners` are those of which it is an attribute."""
        if isinstance(func, ast.Attribute):
            return self.attribute_of(func, owners)
        if isinstance(func, ast.Lambda):
            return [Code(func, dict(self.local))]
        if isinstance(func, ast.Call) and isinstance(func.func, ast.Attribute):
            # what a method gave, of an object that keeps such a function
            kept = self.value(func.func.value)
            self._blame([e for e in kept if not is_text(e) and not reach.is_a(e, *CONTAINERS)])
        return self.value(func)

    def _callee(self, func: ast.expr, owners: list[object]) -> object:
        """What else is called, as far as that can be told."""
        made = [each for each in owners if type(each) is Made]
        if made and isinstance(func, ast.Attribute):
            return attribute(made[0].kind, func.attr)
        return self.live(func)

    def _this(self, func: ast.expr, owners: list[object]) -> list[object] | None:
        """The object whose method is called; None when a plain function is."""
        if not isinstance(func, ast.Attribute):
            return None
        owner = self.live(func.value)
        if owner is MISSING:
            return [each for each in owners if type(each) is Made] or None
        return None if reach.is_a(owner, ModuleType, type) else self.kept(owner)

    def _apply(
        self,
        callee: object,
        places: list[list[object]],
        keywords: Sequence[ast.keyword] = (),
        words: Sequence[list[object]] = (),
        *,
        this: list[object] | None = None,
    ) -> list[object]:
        """Follow a call of something that does not hold such a function itself."""
        if reach.is_a(callee, staticmethod, classmethod):
            this = [] if reach.is_a(callee, classmethod) else None
            callee = reach.inner(callee)
        given = [each for place in (*places, *words) for each in place]
        if type(callee) is not FunctionType:
            self._blame(given)
            return []
        if callee.__module__ in _LOOKING_MODULES:
            return []
        if not given and not this and not self.holders.touched_by(callee):
            return []
        own = places if this is None else [this, *places]
        if (inner := self._enter(callee, own, keywords, words)) is None:
            self._blame(given)
            return []
        return inner

    def _blame(self, given: list[object]) -> None:
        if (why := self.any_why(given)) is not None:
            self.found.append((why, not self.within))

    def _run(self, callee: object, places: list[list[object]]) -> list[object]:
        """Follow a call of something that holds such a function."""
        if type(callee) is Made:
            return []
        if type(callee) is not Code or not isinstance(callee.node, ast.Lambda):
            if (why := self.holders.made_only(callee)) is not None:
                return [Gone(why)]
            self._blame([callee])
            return []
        before, names = self.local, [arg.arg for arg in callee.node.args.args]
        self.local = {**callee.local, **{name: [] for name in names}}
        self.local |= dict(zip(names, places, strict=False))
        found = self.value(callee.node.body)
        self.local = before
        return found

    def _built_in(
        self, node: ast.Call, places: list[list[object]], words: list[list[object]]
    ) -> list[object] | None:
        """What a built-in function gives; None for others, and for one that may do anything with
        what it gets.
        """
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if not name or self.live(node.func) is not vars(builtins).get(name):
            return None
        if name in _LOOKERS:
            return []
        if name in {"globals", "locals", "vars"}:
            space = self._namespace(node)
            return [] if space is None else [Space(space)]
        match node.args:
            case [owner, ast.Constant(value=str(read)), *_] if name == "getattr":
                return self.attribute(ast.Attribute(owner, read, ast.Load()))
            case [ast.Constant(value=str(text)), *_] if name == "eval":
                return self._text(text)
            case _:
                return self._passing(node, name, places, words) if name in _PASSING else None

    def _namespace(self, node: ast.Call) -> dict[str, object] | None:
        if not node.args:
            return cast("dict[str, object]", self.holders.world.spaces.get(self.module))
        module = self.live(node.args[0])
        if not reach.is_a(module, ModuleType):
            return None
        return reach.namespace(cast("ModuleType", module))

    def _text(self, text: str) -> list[object]:
        try:
            return self.value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError):
            return []

    def _passing(
        self, node: ast.Call, name: str, places: list[list[object]], words: list[list[object]]
    ) -> list[object]:
        if name == "dict":
            held = [each for word in words for each in word]
            return [*(e for place in places for e in place), *self.kept(Table([], held))]
        maps = name in {"map", "filter"}
        looped = [self.each(place) for place in (places[1:] if maps else places)]
        every = [each for place in looped for each in place]
        if maps and node.args:
            given = self._on_each(node.args[0], places[0], looped)
            every = given if name == "map" else every
        for word, given in zip(node.keywords, words, strict=True):
            if word.arg == "key":
                self._on_each(word.value, given, looped)
        if name in {"next", "min", "max"}:
            return every
        if name in {"zip", "enumerate"}:
            row = Row([[], *looped] if name == "enumerate" else looped)
            return self.kept(Table([row], [row]))
        return self.kept(Table(every, every))

    def _on_each(
        self, func: ast.expr, run: list[object], looped: list[list[object]]
    ) -> list[object]:
        """Follow a call of a function for each of what is looped over."""
        if run:
            return [part for each in run for part in self._run(each, looped)]
        if isinstance(func, ast.Lambda):
            return self._run(Code(func, dict(self.local)), looped)
        callee = self.live(func)
        name = func.id if isinstance(func, ast.Name) else ""
        if name in _LOOKERS and callee is vars(builtins).get(name):
            return []
        return self._apply(callee, looped)

    def _method(
        self,
        func: ast.Attribute,
        owners: list[object],
        node: ast.Call,
        given: list[list[object]],
    ) -> list[object] | None:
        """What a method of a text or a table gives; None for other objects."""
        name = func.attr
        if type(self.live(func.value)) in {str, bytes} or name == "fromkeys":
            return []
        tables = [e for e in owners if reach.is_a(e, *SHOWN, *CONTAINERS)]
        if not tables:
            return None
        if name == "get" and type(tables[0]) is Space and node.args:
            return self.subscript(ast.Subscript(func.value, node.args[0], ast.Load()))
        return self._of_tables(tables, name, [each for place in given for each in place])

    def _of_tables(
        self, tables: list[object], name: str, given: list[object]
    ) -> list[object] | None:
        if name in _GIVING:
            return tables if name == "copy" else [*self.held(tables), *given]
        if name == "items":
            rows = [row for each in tables for row in self.items_of(each)]
            return self.kept(Table(rows, rows))
        if name in {"keys", "values"}:
            looped = self.each(tables) if name == "keys" else self.held(tables)
            return self.kept(Table(looped, []))
        return [] if name in _QUIET_METHODS else None

    def _enter(
        self,
        callee: FunctionType,
        places: list[list[object]],
        keywords: Sequence[ast.keyword],
        words: Sequence[list[object]],
    ) -> list[object] | None:
        """Follow the body of a function with what it is given; None when that is not known."""
        name = (str(callee.__globals__.get("__name__")), callee.__code__.co_qualname)
        items = self.holders.world.functions(name)
        if not items or len(self.within) >= _DEPTH or len(self.entered) >= _ENTERED:
            return None
        self.entered.append(callee)
        node = items[-1].node
        if not isinstance(node, ast.FunctionDef) or callee in self.within:
            return []
        inner = type(self)(self.holders, name[0], "")
        inner.within, inner.entered = (*self.within, callee), self.entered
        inner.local = _parameters(node, places, keywords, words)
        for each in node.body:
            inner.statement(each)
        self.found += [(why, False) for why, _ in inner.found]
        return inner.returned


def _parameters(
    node: ast.FunctionDef,
    places: list[list[object]],
    keywords: Sequence[ast.keyword],
    words: Sequence[list[object]],
) -> dict[str, list[object]]:
    arguments = node.args
    names = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
    stored = (part for each in node.body for part in ast.walk(each) if isinstance(part, ast.Name))
    local: dict[str, list[object]] = {p.id: [] for p in stored if isinstance(p.ctx, ast.Store)}
    local |= {part.arg: [] for part in ast.walk(arguments) if isinstance(part, ast.arg)}
    local |= dict(zip(names, places, strict=False))
    if arguments.vararg is not None:
        local[arguments.vararg.arg] = [Row(places[len(names) :])]
    rest: list[object] = []
    for word, given in zip(keywords, words, strict=True):
        if word.arg in local:
            local[word.arg] = given
        else:
            rest += given
    if arguments.kwarg is not None:
        local[arguments.kwarg.arg] = [Table([], rest)]
    return local
