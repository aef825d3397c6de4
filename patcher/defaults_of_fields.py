"""The default of a dataclass's field is in three places: the class, the field, and the `__init__`
that was generated, of the class and of dataclasses derived from it (CPython `Lib/dataclasses.py`).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher import reach, scan
from zdpatch.patcher.consumers import plain_fields, watched_class
from zdpatch.patcher.fitness import own_attributes
from zdpatch.patcher.instances import HAVE_GC
from zdpatch.patcher.swap import MISSING, Step
from zdpatch.patcher.values import is_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from zdpatch.patcher.edits import Edit
    from zdpatch.patcher.spread import Name

_FIELDS: Final = "__dataclass_fields__"
_GENERATED: Final = "<string>"  # the file name of what dataclasses generate
_AFTER: Final = " -> None"


def another_default(edit: Edit) -> bool:
    """Whether an edit gives an annotated name another value, and nothing else; not by a call, as
    of `field`.
    """
    nodes = [item.node for item in (*edit.old, *edit.new) if isinstance(item.node, ast.AnnAssign)]
    if len(nodes) != 2 or not (edit.old and edit.new) or not plain_fields(edit):
        return False
    values = [node.value for node in nodes]
    said = {ast.dump(node.annotation) for node in nodes}
    return len(said) == 1 and not any(v is None or isinstance(v, ast.Call) for v in values)


def made_field(cls: type, name: str) -> dataclasses.Field[Any] | None:
    """The field that the dataclass `cls` made of a name which it binds to its default."""
    own = reach.class_dict(cls)
    fields = own.get(_FIELDS)
    made = cast("dict[str, object]", fields).get(name) if type(fields) is dict else None
    if type(made) is not dataclasses.Field:
        return None
    field = cast("dataclasses.Field[object]", made)
    return field if field.default is own.get(name, MISSING) else None


def unused_defaults(edits: Iterable[Edit], classes: Mapping[Name, type]) -> Iterator[Name]:
    """The defaults which the edits change, by the names of all classes that have them, where every
    live object has a value of its own in their place.
    """
    for edit in filter(another_default, edits):
        cls, name = classes.get((edit.module, edit.scope)), edit.new[-1].name
        if cls is not None and made_field(cls, name) is not None and _all_have(cls, name):
            for each in reach.family(cls):
                yield (
                    str(reach.class_dict(each).get("__module__")),
                    f"{reach.qualname(each)}.{name}",
                )


def _all_have(cls: type, name: str) -> bool:
    family = reach.family(cls)
    if reach.frozen() or not all(each.__flags__ & HAVE_GC for each in family):
        return False
    wanted = set(map(id, family))
    return all(name in (own_attributes(each) or ()) for each in scan.of(wanted))


class FieldDefaults:
    """Collects the new defaults, and gives the steps of all of them: a function has one tuple of
    defaults. `refuse(edit, row, reason)` is called for what turns out impossible.
    """

    def __init__(self, refuse: Callable[[Edit, str, str], None]) -> None:
        self.refuse = refuse
        self.classes: list[type] = []  # that have a field with a new default
        self._fields: list[tuple[str, dataclasses.Field[Any], object]] = []
        self._new: dict[type, dict[str, object]] = {}

    def add(self, edit: Edit, cls: type, value: object) -> None:
        """`value` becomes the default of the field that the edit is of; no field, nothing to do."""
        name = edit.new[-1].name if edit.new else ""
        field = made_field(cls, name) if another_default(edit) else None
        if field is None:
            return
        hashed = reach.class_dict(type(value)).get("__hash__", MISSING)
        if not is_plain(value) or hashed is None or reach.is_a(value, type):
            self.refuse(edit, "R", "its new default is not plain, or is one that may change")
            return
        self._fields.append((edit.path, field, value))
        self.classes.append(cls)
        for each in reach.family(cls):
            init = _generated(each)
            if not _takes(each, name, field):
                continue
            if why := _taken_by_others(each):
                self.refuse(edit, "R", f"{why} may have read it")
            elif init is None:
                continue
            elif _defaults(init).get(name, MISSING) is not field.default:
                self.refuse(edit, "X", f"{reach.qualname(each)}.__init__ has another default")
            elif _described(each) and not all(map(_shows_plainly, _defaults(init).values())):
                self.refuse(
                    edit, "R", f"the docstring of {reach.qualname(each)} shows its defaults"
                )
            else:
                self._new.setdefault(each, {})[name] = value

    def steps(self) -> Iterator[Step]:
        """Steps for the fields, and for the functions and docstrings that dataclasses wrote."""
        for path, field, value in self._fields:
            what = f"{path} (field)"
            yield Step("member", field, "default", value, field.default, what)
        for cls, new in self._new.items():
            init = _generated(cls)
            assert init is not None
            what = f"{reach.qualname(cls)}.__init__"
            for slot, value in _slots(init, new):
                old = getattr(init, slot)
                yield Step("function", init, slot, value, old, f"{what}.{slot}")
            doc = reach.class_dict(cls).get("__doc__")
            if _described(cls) and doc == _written(cls, init, {}):
                after = _written(cls, init, new)
                yield Step("class", cls, "__doc__", after, doc, f"{reach.qualname(cls)}.__doc__")


def _takes(cls: type, name: str, field: dataclasses.Field[Any]) -> bool:
    fields = reach.class_dict(cls).get(_FIELDS)
    return type(fields) is dict and cast("dict[str, object]", fields).get(name) is field


def _taken_by_others(cls: type) -> str:
    """Who else than `dataclasses` made something of the fields of a class; "" when nobody did."""
    init = reach.class_dict(cls).get("__init__")
    own = type(init) is not FunctionType or init.__globals__.get("__name__") == cls.__module__
    known = _generated(cls) is not None or own
    return watched_class(cls, values=True) or (
        "" if known else f"what made {cls.__name__}.__init__"
    )


def _generated(cls: type) -> FunctionType | None:
    init = reach.class_dict(cls).get("__init__")
    if type(init) is not FunctionType or init.__code__.co_filename != _GENERATED:
        return None
    return init


def _positional(init: FunctionType) -> tuple[str, ...]:
    """The positional parameters that have defaults."""
    names = init.__code__.co_varnames[: init.__code__.co_argcount]
    return names[len(names) - len(init.__defaults__ or ()) :]


def _defaults(init: FunctionType) -> dict[str, object]:
    by_place = zip(_positional(init), init.__defaults__ or (), strict=True)
    return {**dict(by_place), **(init.__kwdefaults__ or {})}


def _slots(init: FunctionType, new: dict[str, object]) -> Iterator[tuple[str, object]]:
    """The slots of a function that differ with `new`, and what is in them then."""
    after = {**_defaults(init), **new}
    if new.keys() & set(_positional(init)):
        yield "__defaults__", tuple(after[name] for name in _positional(init))
    named = init.__kwdefaults__ or {}
    if new.keys() & named.keys():
        yield "__kwdefaults__", {name: after[name] for name in named}


def _described(cls: type) -> bool:
    """Whether a class has a docstring like that which a dataclass without one writes."""
    return str(reach.class_dict(cls).get("__doc__")).startswith(f"{cls.__name__}(")


def _shows_plainly(value: object) -> bool:
    return is_plain(value) or value is getattr(dataclasses, "_HAS_DEFAULT_FACTORY", MISSING)


def _written(cls: type, init: FunctionType, new: dict[str, object]) -> str:
    """The docstring that a dataclass without one writes, with other defaults."""
    signature = inspect.signature(init)
    (_, *parameters) = signature.parameters.values()
    changed = [each.replace(default=new.get(each.name, each.default)) for each in parameters]
    text = str(signature.replace(parameters=changed))
    return cls.__name__ + text.replace(_AFTER, "")
