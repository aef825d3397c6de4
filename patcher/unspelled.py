"""Attributes that are read without being spelled as one: by a format text, out of all that an
object has, or by a name that is computed.

The names are looked for in the texts that the function has, or takes from constants by name.
"""

from __future__ import annotations

import ast
import re
from functools import cached_property
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.parts import children, parts
from zdpatch.patcher.spelling import called, catches, dict_of, parameters, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.patcher.bodies import Function
    from zdpatch.patcher.holders import Side

_ANY: Final = re.compile(rb"getattr|attrgetter|__dict__|\bvars\b|format")
_FIELD: Final = re.compile(r"\{([^{}:!]*)")
_TAKE_ALL: Final = frozenset({"dict", "OrderedDict", "SimpleNamespace", "update", "ChainMap"})
_READY: Final = ("KeyError", "LookupError", "Exception")


class Unspelled:
    """What the functions of one side read so."""

    def __init__(self, side: Side, changed: Iterable[Function] = ()) -> None:
        self.side = side
        self.changed = {each.where for each in changed}

    def loads(self, names: set[str]) -> Iterator[tuple[str, tuple[str, str]]]:
        """Each of `names` that is read, with the path of the function."""
        for each in self._candidates if names else ():
            reads = _Reads(each, self)
            spelled = reads.formatted() | reads.parameters()
            for name in names:
                plain = re.sub(r"^_\w+?__", "__", name) if name not in spelled else name
                if plain in spelled or reads.may_be(plain):
                    yield name, each.where

    @cached_property
    def _candidates(self) -> list[Function]:
        return [e for e in self.side.functions if _ANY.search(e.text) or self.forwards(e)]

    @cached_property
    def getters(self) -> dict[str, str]:
        """Functions that get an attribute by the name that they are given: theirs, by module."""
        found: dict[str, str] = {}
        for each in self.side.functions:
            if b"getattr" in each.text and _dynamic(each) & {*parameters(each.node)}:
                found[each.node.name] = each.outline.name
        return found

    def forwards(self, function: Function) -> bool:
        """Whether a function calls one of them."""
        return any(each.encode() in function.text for each in self.getters) and any(
            isinstance(part, ast.Call) and called(part) in self.getters for part in function.parts
        )

    def named(self, name: str) -> list[FunctionNode]:
        """Functions of the tree that a call by a name may mean; of a class, its initialiser."""
        found = [e.node for e in self.side.functions if e.node.name == name]
        inits = (e for e in self.side.functions if e.node.name == "__init__")
        return found or [e.node for e in inits if e.cls.rpartition(".")[2] == name]

    @cached_property
    def constants(self) -> dict[str, set[str]]:
        """Texts in what modules and classes bind, by name."""
        found: dict[str, set[str]] = {}
        for outline in self.side.outlines.values():
            pending: list[ast.AST] = [outline.tree]
            while pending:
                for child in children(pending.pop()):
                    if isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
                        targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                        group = {*_texts(child.value)}
                        for each in targets:
                            found.setdefault(dotted(each) or "", set()).update(group)
                    elif isinstance(child, ast.stmt) and not isinstance(child, FunctionNode):
                        pending.append(child)
        return found


class _Reads:
    """What one function reads."""

    def __init__(self, function: Function, all_: Unspelled) -> None:
        self.function = function
        self.all = all_
        self.parents = {id(c): part for part in function.parts for c in children(part)}

    @cached_property
    def _texts(self) -> set[str]:
        """Those of the function, and of constants that it names."""
        docs = {id(e.value) for e in self.function.parts if isinstance(e, ast.Expr)}
        found: set[str] = set()
        for part in self.function.parts:
            if isinstance(part, ast.Constant) and id(part) not in docs:
                found.update(texts([part]))
            elif isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Load):
                name = part.id if isinstance(part, ast.Name) else part.attr
                found |= self.all.constants.get(name, set())
        return found

    @cached_property
    def _ready(self) -> bool:
        """Whether the function asks whether there is such a thing, or catches that it is not."""
        for part in self.function.parts:
            if isinstance(part, ast.ExceptHandler) and (catches(part.type) or _catches(part.type)):
                return True
            if isinstance(part, ast.Call) and called(part) == "hasattr":
                return True
        return False

    def formatted(self) -> set[str]:
        """Attributes in fields of its format texts."""
        if b"format" not in self.function.text:
            return set()
        fields = (field for text in self._texts for field in _FIELD.findall(text))
        return {name for field in fields for name in re.findall(r"\.(\w+)", field)}

    def parameters(self) -> set[str]:
        """What functions of the tree, handed all that an object has, need of it."""
        found: set[str] = set()
        for call, how in self._handed:
            if isinstance(call, ast.Call):
                given = {word.arg for word in call.keywords}
                for node in self.all.named(self._callee(call)):
                    if how is None:
                        found |= _required(node) - given
                    else:
                        found |= _subscripts(node, [*parameters(node)][how : how + 2])
        for part in self.function.parts:
            if isinstance(part, ast.Subscript) and self._is_all(part.value):
                found.update(texts([part.slice]) if isinstance(part.ctx, ast.Load) else ())
        return found

    def may_be(self, name: str) -> bool:
        """Whether a computed name, or text that gets all of an object, may be `name`."""
        if self._ready:
            return False
        if name in self._texts and (_dynamic(self.function) or self.all.forwards(self.function)):
            return True
        for call, how in self._handed:
            if any(re.search(rf"\b{re.escape(name)}\b", text) for text in self._texts):
                return True
            known = isinstance(call, ast.BinOp) or self.all.named(self._callee(call))
            if how is None and not known and self.function.where in self.all.changed:
                return self._callee(call) not in {*_TAKE_ALL, "format", "format_map"}
        return False

    def _callee(self, call: ast.Call | ast.BinOp) -> str:
        """The last name of what is called; that of the class where it makes another one of it."""
        if isinstance(call, ast.BinOp):
            return ""
        own, name = self.function.cls.rpartition(".")[2], called(call)
        made = isinstance(call.func, ast.Call) and called(call.func) == "type"
        of_class = self.function.of_class and dotted(call.func) == self.function.own
        return own if made or of_class or name == "__class__" else name

    @cached_property
    def _handed(self) -> list[tuple[ast.Call | ast.BinOp, int | None]]:
        """Who gets all that an object has, and as which argument; None: as keywords, or whole."""
        found: list[tuple[ast.Call | ast.BinOp, int | None]] = []
        for part in self.function.parts:
            if not isinstance(part, ast.expr) or not self._is_all(part):
                continue
            parent = self.parents.get(id(part))
            if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mod):
                found.append((parent, None))
            elif isinstance(parent, ast.keyword) and parent.arg is None:
                call = self.parents.get(id(parent))
                if isinstance(call, ast.Call):
                    found.append((call, None))
            elif isinstance(parent, ast.Call) and part in parent.args:
                found.append((parent, parent.args.index(part)))
        return found

    def _is_all(self, node: ast.expr) -> bool:
        if dict_of(node) is not None:
            return True
        bound = self.function.bound.get(node.id, []) if isinstance(node, ast.Name) else []
        stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        return not stored and any(e is not None and dict_of(e) is not None for e in bound)


def _dynamic(function: Function) -> set[str]:
    """Variables of a function by which it gets attributes; "" for any other expression."""
    found: set[str] = set()
    for part in function.parts:
        wanted: list[ast.expr] = []
        if isinstance(part, ast.Call) and called(part) == "getattr" and len(part.args) == 2:
            wanted = part.args[1:]
        elif isinstance(part, ast.Call) and called(part) == "attrgetter":
            wanted = part.args
        elif isinstance(part, ast.Subscript) and dict_of(part.value) is not None:
            wanted = [part.slice] if isinstance(part.ctx, ast.Load) else []
        for each in wanted:
            if not isinstance(each, ast.Constant):
                found.add(each.id if isinstance(each, ast.Name) else "")
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    return texts(part for part in parts(node) if isinstance(part, ast.Constant))


def _catches(node: ast.expr | None) -> bool:
    each = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(one is None or dotted(one) in _READY for one in each)


def _required(node: FunctionNode) -> set[str]:
    """Parameters without a default."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    plain = plain[: len(plain) - len(args.defaults)]
    words = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return {each.arg for each in (*plain, *(e for e, default in words if default is None))}


def _subscripts(node: FunctionNode, names: list[str]) -> set[str]:
    """Literal keys under which a function looks into one of its parameters."""
    found: set[str] = set()
    for part in parts(node):
        match part:
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if dotted(value) in names:
                found.update(texts([key]))
            case _:
                pass
    return found
