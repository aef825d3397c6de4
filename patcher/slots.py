"""A step names one slot of a live object, what to put there, and what must be there now.

Whatever could make writing it fail, or call someone's code, is found by `check` beforehand. Nothing
here writes to anything.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.errors import BugError, ProcessError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Kind = Literal["function", "class", "item", "list", "cell", "member"]


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""As a step's value: delete the name. As the expected value: the name is absent."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One slot, what to put there, and what must be there now (compared by identity).

    `kind` says what `target` and `name` are:
    - "function": a function; one of its slots (`__code__`, `__defaults__`, `__kwdefaults__`,
      `__doc__`, `__annotations__`, `__type_params__`, ...) or an entry of its `__dict__`;
    - "class": a class; a name in its own dict, as it stands there (mangled);
    - "item": an exact dict (a namespace, `sys.modules`, a table); a key of text;
    - "list": an exact list; an index;
    - "cell": a closure's cell; "cell_contents";
    - "member": an object whose type keeps the name in a slot (`__slots__`, or `__doc__` of a
      `property`).

    `what` names the slot for people ("shop.cart:price.__code__").
    """

    kind: Kind
    target: object
    name: str | int
    value: object
    expected: object
    what: str


_FUNCTION_SLOTS: Final[dict[str, tuple[type, ...]]] = {
    "__code__": (CodeType,),
    "__defaults__": (tuple, type(None)),
    "__kwdefaults__": (dict, type(None)),
    "__annotations__": (dict,),
    "__type_params__": (tuple,),
    "__doc__": (object,),
    "__module__": (object,),
    "__name__": (str,),
    "__qualname__": (str,),
}
# The setters of `type` that do what they say and no more (that of `__module__` from 3.13 on deletes
# `__firstlineno__` too), and of these the names which cannot be deleted.
_CLASS_SLOTS: Final = frozenset(
    {"__doc__", "__annotations__", "__abstractmethods__", "__type_params__"}
)
_NOT_DELETABLE: Final = frozenset({"__doc__", "__type_params__"})
_IMMUTABLE: Final = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE

Call: TypeAlias = "functools.partial[Any]"
_PARTIAL: Final[Any] = functools.partial
call = cast("Callable[[Call], object]", _PARTIAL.__call__)
_mro = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)
_flags = cast("Callable[[type], int]", type.__dict__["__flags__"].__get__)


def current(step: Step) -> object:
    """What is in the slot now; `MISSING` when nothing is."""
    try:
        return call(reader(step))
    except (ValueError, IndexError, AttributeError):  # an empty cell or slot, a shorter list
        return MISSING


def check(steps: Sequence[Step]) -> None:
    """Everything that could make a step fail, looked at beforehand; touches nothing.

    Raises `Refused` (ZDP-202) for what CPython cannot do or would do wrong, `ProcessError`
    (ZDP-203) when a slot does not hold what is expected, `BugError` when two steps write to one
    slot or a step's kind does not fit its target.
    """
    seen: set[tuple[int, object]] = set()
    for step in steps:
        _check_shape(step)
        slot = (id(step.target), step.name)
        if slot in seen:
            raise BugError("ZDP-901", f"two steps write to {step.what}")
        seen.add(slot)
    differences = differing(steps)
    if differences:
        raise ProcessError("ZDP-203", "; ".join(differences))


def _refuse(step: Step, why: str) -> Refused:
    return Refused("ZDP-202", f"{step.what}: {why}")


def _check_shape(step: Step) -> None:
    target, name = cast("Any", step.target), step.name
    kind = cast("type", type(step.target))
    if step.kind == "function" and kind is FunctionType and type(name) is str:
        _check_function(step, target, name)
    elif step.kind == "class" and reach.is_a(target, type) and type(name) is str:
        _check_class(step, target, name)
    elif step.kind == "item" and kind is dict and type(name) is str:
        pass
    elif step.kind == "list" and kind is list and type(name) is int:
        if not 0 <= name < len(target) or _adds_or_deletes(step):
            raise _refuse(step, "a step on a list replaces an existing item")
    elif step.kind == "cell" and kind is CellType and name == "cell_contents":
        if _adds_or_deletes(step):
            raise _refuse(step, "a step on a cell replaces its content")
    elif step.kind == "member" and type(name) is str and reach.member(target, name) is not None:
        if _adds_or_deletes(step):
            raise _refuse(step, "a step on a slot replaces its content")
    else:
        raise BugError("ZDP-901", f"{step.what}: a {kind.__name__} as {step.kind} step")


def _check_function(step: Step, function: FunctionType, name: str) -> None:
    kinds = _FUNCTION_SLOTS.get(name)
    if kinds is None:
        if any(name in reach.class_dict(cls) for cls in (FunctionType, object)):
            raise _refuse(step, f"{name} of a function cannot be set")
        return
    if name not in reach.class_dict(FunctionType):
        raise _refuse(step, f"functions have no {name} in this Python")
    if step.value is MISSING or not reach.is_a(step.value, *kinds):
        raise _refuse(step, f"{name} of a function cannot be {_type_name(step.value)}")
    if name == "__code__":
        _check_code(step, function.__code__, cast("CodeType", step.value))


def _check_code(step: Step, old: CodeType, new: CodeType) -> None:
    if new.co_freevars != old.co_freevars:
        held, wanted = ", ".join(old.co_freevars), ", ".join(new.co_freevars)
        raise _refuse(step, f"its closure has ({held}), the new code wants ({wanted})")
    if codes.kind(new) != codes.kind(old):
        raise _refuse(step, f"a {codes.kind(old)} cannot become a {codes.kind(new)}")


def _check_class(step: Step, cls: type, name: str) -> None:
    if _flags(cls) & _IMMUTABLE:
        raise _refuse(step, f"{reach.qualname(cls)} is a type that cannot be changed")
    for meta in _mro(type(cls)):
        setter = reach.class_dict(meta).get("__setattr__")
        if meta is type:
            break
        if type(setter) is WrapperDescriptorType:
            # CPython does not let anyone pass by a setter written in C.
            raise _refuse(step, f"{reach.qualname(meta)} guards the attributes of its classes")
    # A setter on the metaclass would be called instead of the attribute being set.
    owner = next((meta for meta in _mro(type(cls)) if name in reach.class_dict(meta)), None)
    guarded = owner is not None and _has_setter(reach.class_dict(owner)[name])
    if owner is not None and guarded and not (owner is type and name in _CLASS_SLOTS):
        raise _refuse(step, f"{reach.qualname(owner)} has a setter for {name}")
    if name in _NOT_DELETABLE and _adds_or_deletes(step):
        raise _refuse(step, f"{name} of a class cannot be added or deleted")
    if name == "__abstractmethods__" and type(step.value) is not frozenset:
        raise _refuse(step, f"{name} must be a frozenset")


def _has_setter(found: object) -> bool:
    dicts = [reach.class_dict(kind) for kind in _mro(type(found))]
    return any("__set__" in own or "__delete__" in own for own in dicts)


def _adds_or_deletes(step: Step) -> bool:
    return step.value is MISSING or step.expected is MISSING


def _type_name(value: object) -> str:
    return "deleted" if value is MISSING else f"a {type(value).__name__}"


def needs_no_audit(step: Step) -> bool:
    """Whether reading or writing the slot raises an audit event."""
    if step.kind == "function":
        return step.name in _FUNCTION_SLOTS
    return step.kind == "class" and step.name in _CLASS_SLOTS


def reader(step: Step) -> Call:
    """A call, C all through, which gives what is in the slot or `MISSING`."""
    target, name = cast("Any", step.target), cast("Any", step.name)
    get: Any = dict.__dict__["get"]
    if step.kind == "item":
        return functools.partial(get, target, name, MISSING)
    if step.kind == "class":
        return functools.partial(reach.class_dict(target).get, name, MISSING)
    if step.kind == "list":
        return functools.partial(list.__dict__["__getitem__"], target, name)
    if step.kind == "member":
        return functools.partial(cast("Any", reach.member(target, name)).__get__, target)
    if step.kind == "function" and name not in _FUNCTION_SLOTS:
        return functools.partial(get, target.__dict__, name, MISSING)
    return functools.partial(getattr, target, name)


def differing(steps: Iterable[Step]) -> list[str]:
    """Slots that do not hold what is expected, in words."""
    return [
        f"{step.what} is {_describe(now)} and should be {_describe(step.expected)}"
        for step in steps
        if (now := current(step)) is not step.expected
    ]


def _describe(value: object) -> str:
    if value is MISSING:
        return "absent"
    if type(value) in (int, bool, type(None)) or (type(value) is str and len(value) < 40):
        return repr(value)
    if type(value) is CodeType:
        return f"code {value.co_qualname} of {value.co_filename}:{value.co_firstlineno}"
    return f"a {type(value).__name__} at {id(value):#x}"
