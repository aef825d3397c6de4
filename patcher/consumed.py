"""Who read a definition when it was made, or got it then, may have kept what a patch changes of it:
a default, an annotation, a docstring, a name of a class.
"""

from __future__ import annotations

import abc
import ast
import dataclasses
import enum
import functools
import typing
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import reach
from zdpatch.patcher.bystanders import plain_method, taken_up
from zdpatch.patcher.consumers import (
    class_variable,
    collected,
    described,
    field_of_derived,
    is_quiet,
    plain_fields,
    quiet_hooks,
    quiet_makers,
    reads_metadata,
    watched_class,
)
from zdpatch.patcher.defaults_of_fields import another_default, made_field
from zdpatch.patcher.deferred import unread_inner
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    DOCSTRING,
    SIGNATURES,
    Edit,
    ModuleVersions,
    first_line,
)
from zdpatch.patcher.names import FunctionNode
from zdpatch.patcher.readers import Readers
from zdpatch.patcher.resolving import resolve, resolver
from zdpatch.patcher.silent import OF_CLASSES, OF_DOCSTRINGS, OF_FIELDS, OF_SIGNATURES, Silence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.patcher.inventory import Inventory
    from zdpatch.patcher.items import Item

# Class decorators which read nothing that an edit of a method or of an annotation changes.
_QUIET: Final = (
    dataclasses.dataclass, functools.total_ordering, typing.final, typing.runtime_checkable,
    enum.unique,
)  # fmt: skip


class Consumed:
    """Looks at what stands around definitions of live modules. `heap_scan` becomes true when it had
    to look at the heap.
    """

    def __init__(
        self,
        versions: Mapping[str, ModuleVersions],
        inventories: Mapping[str, Inventory],
        edits: list[Edit],
    ) -> None:
        self.versions = versions
        self.inventories = inventories
        self.readers = Readers(inventories, edits)
        self.silence = Silence()
        self.heap_scan = False

    def plain_class(self, edit: Edit) -> str:
        """Who read a class when it was made, or stands in front of a name in it; "" when nobody."""
        cls = class_of(self.inventories, edit, edit.scope)
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
        annotated = edit.kind == "fields" and bool(edit.old and edit.new)
        if annotated and quiet_hooks(cls):
            return ""
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
            owner = resolve(module, name.removesuffix(".register"))
            if name.endswith(".register") and type(owner) is abc.ABCMeta:
                continue
            value = resolve(module, name)
            quiet = metadata and (
                is_quiet(value, factory=isinstance(decorator, ast.Call))
                or self._silent(edit, value)
            )
            if not quiet and not any(value is each for each in _QUIET):
                return f"the class decorator {name} may have read it"
        return ""

    def unconsumed(self, edit: Edit) -> str:
        """Who may have read what a function says of itself; "" when nobody."""
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

    def inner_unread(self, edit: Edit) -> str:
        """Who may have read the annotations of closures when they were made; "" when nobody."""
        each, code = self.versions[edit.module].base, edit.codes[0]
        assert each is not None
        assert code is not None
        maker = edit.old[-1].node
        kept = unread_inner(maker, each.outline.keepers) if isinstance(maker, FunctionNode) else ()
        places = {first_line(inner) for inner in kept if isinstance(inner, FunctionNode)}
        if code.co_firstlineno not in places:
            return "what makes them hands them on, and that may have read their annotations"
        return self._reader(edit)

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
        cls = class_of(self.inventories, edit, item.scope)
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


def class_of(inventories: Mapping[str, Inventory], edit: Edit, scope: str) -> type | str:
    """The live class of this path in the module of an edit; why there is not one."""
    found = inventories[edit.module].classes.get(scope, [])
    if len(found) == 1:
        return found[0]
    return f"there are {len(found)} live classes of this name"


def _call_of(callee: str) -> ast.expr:
    """A call of a dotted name, as `reads_metadata` takes it; of something nameless for ""."""
    return ast.Call(ast.parse(callee or "()", mode="eval").body, [], [])
