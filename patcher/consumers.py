"""Metadata is harmless only when nothing read it at definition: decorators and metaclasses are
examined as they live here.
"""

from __future__ import annotations

import abc
import ast
import dis
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.patcher.hooked import holds_callables
from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import origin
from zdpatch.patcher.reach import class_dict, namespace
from zdpatch.patcher.silent import OF_CLASSES, OF_DOCSTRINGS, OF_SIGNATURES
from zdpatch.patcher.values import unwrapped

if TYPE_CHECKING:
    from zdpatch.patcher.edits import Edit, ModuleVersions

Resolve = Callable[[str], object]  # a dotted name as the live module sees it, or None

# `functools.wraps` takes the names of what it copies; those copies follow.
_METADATA: Final = (OF_SIGNATURES | OF_DOCSTRINGS) - OF_CLASSES - {"WRAPPER_ASSIGNMENTS"}
# Callables that a decorator may hand the function to: they read nothing that a patch of metadata
# changes.
_HARMLESS: Final[tuple[object, ...]] = (
    functools.wraps, functools.update_wrapper, functools.partial, functools.lru_cache,
    functools.cache,
    set, frozenset, tuple, list, dict, bool, int, any, all, map, filter, zip, super, object, next,
    isinstance, issubclass, callable, getattr, setattr, hasattr, type, len, str, repr, id, property,
    staticmethod, classmethod, typing.cast, inspect.iscoroutinefunction, inspect.isfunction,
    inspect.isasyncgenfunction, inspect.isgeneratorfunction, inspect.isclass, TypeError, ValueError,
    AttributeError, RuntimeError,
)  # fmt: skip
_GENERATED: Final = frozenset(
    {"__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__",
     "__setattr__", "__delattr__", "__getstate__", "__setstate__", "__match_args__"}
)  # fmt: skip
_CLASS_VARIABLE: Final = frozenset({"typing.ClassVar", "typing_extensions.ClassVar"})
_DEPTH: Final = 4  # functions called by functions called by a decorator
_METACLASSES: Final = (type, abc.ABCMeta, enum.EnumMeta, type(typing.Protocol))
# What of a metaclass runs while a class is made, or decorated.
_MAKES_CLASSES: Final = frozenset(
    {"__new__", "__init__", "__prepare__", "mro", "__setattr__", "__delattr__", "__getattribute__"}
)


def reads_metadata(
    decorators: Iterable[ast.expr], resolve: Resolve, silent: Callable[[object], bool]
) -> str:
    """The decorator that may have read signature, annotations or docstring; "" when none
    can have. `silent`: whether the code of what is called has no word for what is asked.
    """
    for node in decorators:
        call = node.func if isinstance(node, ast.Call) else node
        name = dotted(call)
        if name is None:
            return ast.unparse(node)
        if name.rpartition(".")[2] in {"setter", "getter", "deleter"}:
            continue
        value = resolve(name)
        if any(value is each for each in (*_HARMLESS, *_KNOWN)):
            continue
        if is_quiet(value, factory=call is not node) or silent(value):
            continue
        return ast.unparse(node)
    return ""


_KNOWN: Final[tuple[object, ...]] = (
    abc.abstractmethod, typing.final, typing.no_type_check, functools.cached_property,
    functools.total_ordering, types.coroutine, enum.unique,
    *(each for each in (getattr(typing, "override", None),) if each is not None),
)  # fmt: skip


def is_quiet(value: object, *, factory: bool) -> bool:
    """Whether a decorator is a function that cannot have read metadata (`factory`: made by one)."""
    return type(value) is FunctionType and _quiet(value, factory=factory)


def _quiet(function: FunctionType, *, factory: bool, depth: int = _DEPTH) -> bool:
    """True when running the decorator cannot have read metadata, judged from its own code.

    The function it makes is run at each call, and reads what is true then: only the code that runs
    at definition counts (of a factory, also the decorator that it makes). What it calls must be
    known, or be as quiet.
    """
    running = [function.__code__, *_comprehensions(function.__code__)]
    if factory:
        running += [each for each in function.__code__.co_consts if isinstance(each, CodeType)]
    return depth > 0 and all(_quiet_code(code, function.__globals__, depth) for code in running)


def _comprehensions(code: CodeType) -> Iterator[CodeType]:
    """Those in code, and those in them: they run with it."""
    for each in code.co_consts:
        if isinstance(each, CodeType) and each.co_name in _COMPREHENSIONS:
            yield from (each, *_comprehensions(each))


_COMPREHENSIONS: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


def _quiet_code(code: CodeType, globals_: dict[str, object], depth: int) -> bool:
    builtins = globals_.get("__builtins__")
    if isinstance(builtins, dict):
        fallback = cast("dict[str, object]", builtins)
    else:
        fallback = vars(builtins) if builtins else {}
    steps = [each for each in dis.get_instructions(code) if each.opname not in _NO_STEP]
    takes = any(each.opname in _TAKES for each in steps)
    for at, step in enumerate(steps):
        name = step.argval
        if name in _METADATA and step.opname.startswith(("LOAD_", "IMPORT_")):
            return False
        if step.opname not in {"LOAD_GLOBAL", "LOAD_NAME"}:
            continue
        after = iter(steps[at + 1 :])
        value, then = _attribute_of(globals_.get(name, fallback.get(name)), after)
        if value is getattr and not _names_it(then, after):
            return False
        if holds_callables(value) and (takes or then.argval not in _ADDS):
            return False  # who knows what it calls
        if not _quiet_value(value, depth):
            return False
    return True


# Instructions that nothing is done by, and those by which something comes out of a table.
_NO_STEP: Final = frozenset({"CACHE", "PUSH_NULL", "PRECALL", "NOP", "RESUME", "EXTENDED_ARG"})
_TAKES: Final = frozenset({"GET_ITER", "FOR_ITER", "BINARY_SUBSCR"})
_ADDS: Final = frozenset({"append", "add", "insert", "extend", "update", "appendleft"})
_VARIABLES: Final = frozenset({"LOAD_FAST", "LOAD_DEREF", "LOAD_FAST_CHECK", "LOAD_GLOBAL"})
_STANDARD: Final = frozenset({*sys.stdlib_module_names, "builtins", "typing_extensions"})


def _attribute_of(value: object, after: Iterator[dis.Instruction]) -> tuple[Any, dis.Instruction]:
    """What is taken from a module by its name, through modules; and the instruction behind."""
    step = next(after)
    while type(value) is types.ModuleType and step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
        value = namespace(value).get(step.argval)
        step = next(after)
    return value, step


def _names_it(first: dis.Instruction, after: Iterator[dis.Instruction]) -> bool:
    """Whether `getattr` is called on a variable with a name that stands there."""
    return first.opname in _VARIABLES and next(after).opname == "LOAD_CONST"


def _quiet_value(value: Any, depth: int) -> bool:  # noqa: ANN401 - asked what it is
    """Whether what a decorator has by a name may be called without reading metadata."""
    if any(value is each for each in (*_HARMLESS, *_KNOWN)) or isinstance(value, enum.EnumType):
        return True
    if type(value).__module__ == "typing":
        return True  # an annotation
    if not callable(value):
        return type(value).__module__.partition(".")[0] in _STANDARD
    return type(value) is FunctionType and _quiet(value, factory=True, depth=depth - 1)


def _own_metaclasses(meta: type) -> list[type]:
    """A metaclass and its bases, without those of the language and of the standard library."""
    mro = cast("tuple[type, ...]", type.__dict__["__mro__"].__get__(meta))
    return [each for each in mro if each is not object and not any(each is m for m in _METACLASSES)]


def making(meta: type) -> str:
    """What of a metaclass runs, and may keep what it sees, when a class is made; "" when it has
    nothing but methods that run later, like `__call__`.
    """
    for each in _own_metaclasses(meta):
        hooked = _MAKES_CLASSES & class_dict(each).keys()
        if hooked or not any(type(each) is known for known in _METACLASSES):
            return f"metaclass {meta.__qualname__}"
    return ""


def described(cls: type, name: str) -> str:
    """A descriptor of the metaclass that stands in front of an attribute of the class; "" when
    there is none.
    """
    for each in _own_metaclasses(type(cls)):
        if name in class_dict(each):
            return f"metaclass {type(cls).__qualname__}, which has {name} as well"
    return ""


def watched_class(cls: type, *, values: bool) -> str:
    """What of a class may have read its body when it was made; "" when nothing did.

    `values`: whether a value (and not a method) is at stake: an Enum turns values into members.
    """
    if why := making(type(cls)):
        return why
    if values and isinstance(cls, enum.EnumMeta):
        return "an Enum made members of its values"
    for base in cls.__mro__[1:]:
        if "__init_subclass__" in class_dict(base) and base.__module__ not in {
            "builtins",
            "typing",
        }:
            return f"{base.__qualname__}.__init_subclass__"
    if values and issubclass(cls, tuple) and hasattr(cast("type", cls), "_fields"):
        return "a named tuple made fields of its values"
    return ""


def quiet_makers(cls: type) -> bool:
    """Whether nothing that ran when a class was made can have read metadata of its methods: judged
    from the code of its metaclasses, and of `__init_subclass__`, which use no method of the class.
    """
    metas = _own_metaclasses(type(cls))
    if any(not any(type(each) is known for known in _METACLASSES) for each in metas):
        return False
    hooks = [_hook(each, name) for each in metas for name in _MAKES_CLASSES & {*class_dict(each)}]
    hooks += [_hook(each, "__init_subclass__") for each in cls.__mro__[1:]]
    own = {
        name
        for each in (*cls.__mro__, *metas)
        for name, value in class_dict(each).items()
        if isinstance(value, _RUN) and not hasattr(type, name)
    }
    return all(
        hook is None or (is_quiet(hook, factory=False) and not own & {*hook.__code__.co_names})
        for hook in hooks
    )


def quiet_hooks(cls: type) -> bool:
    """Whether `__init_subclass__` alone ran when a class was made, and read no annotations."""
    kinds = {enum.Enum, tuple} & {*cls.__mro__}
    return not kinds and not making(type(cls)) and quiet_makers(cls)


_RUN: Final = (FunctionType, classmethod, staticmethod, property, functools.cached_property)


def _hook(owner: type, name: str) -> Any:  # noqa: ANN401 - asked what it is by who calls this
    """What a class or metaclass itself runs for a class that is made; None for what Python has."""
    value = unwrapped(class_dict(owner).get(name))
    builtin = isinstance(value, types.ClassMethodDescriptorType | types.WrapperDescriptorType)
    return None if builtin or owner.__module__ == "typing" else value


def collected(cls: type, name: str, *, implemented: bool) -> str:
    """What was derived from the methods a class had when it was made, for a method that comes or
    goes; "" when nothing was. `implemented`: it comes, and is concrete.
    """
    own = class_dict(cls)
    if "__dataclass_fields__" in own and (name == "__post_init__" or name in _GENERATED):
        return f"a dataclass generates {name}, or code which calls it"
    if own.get("_is_protocol"):
        return "a protocol collected its members"
    if implemented:
        return ""  # then it is abstract no more (see `abcs`)
    abstract = {each for base in cls.__mro__ for each in getattr(base, "__abstractmethods__", ())}
    return (
        f"{name} is abstract in a base: what is abstract was collected" if name in abstract else ""
    )


def plain_fields(edit: Edit) -> bool:
    """Whether a dataclass makes the same field of a name by both sides: it looks at no annotation
    but those which make no field, or an argument that is none.
    """
    nodes = [item.node for item in (*edit.old, *edit.new)]
    if not all(isinstance(node, ast.AnnAssign) for node in nodes):
        return False
    said = " ".join(ast.unparse(cast("ast.AnnAssign", node).annotation) for node in nodes)
    return not any(word in said for word in ("ClassVar", "InitVar", "KW_ONLY"))


def class_variable(edit: Edit, each: ModuleVersions) -> bool:
    """Whether a name is annotated as `ClassVar` wherever it is: a dataclass leaves it alone."""
    sides = ((edit.old, each.base), (edit.new, each.new))
    for items, version in sides:
        for item in items:
            node = item.node
            if version is None or not isinstance(node, ast.AnnAssign):
                return False
            said = node.annotation
            name = dotted(said.value if isinstance(said, ast.Subscript) else said)
            if origin(name or "", version.outline.imports) not in _CLASS_VARIABLE:
                return False
    return True


def field_of_derived(cls: type, name: str) -> str:
    """A derived dataclass that took the default of a field from an attribute it inherits; "" when
    there is none (CPython's `dataclasses._get_field`).
    """
    pending: list[type] = list(type.__subclasses__(cls))
    while pending:
        derived = pending.pop()
        own = class_dict(derived)
        if name in own:
            continue
        fields = own.get("__dataclass_fields__")
        annotated = own.get("__annotations__")
        if isinstance(fields, dict) and isinstance(annotated, dict) and name in annotated:
            return f"the dataclass {derived.__qualname__} took the default of a field from it"
        pending += type.__subclasses__(derived)
    return ""


def registers(base: type[object]) -> str:
    """What of a base runs, and may keep, a class derived from it; "" when nothing does."""
    if issubclass(base, type):
        return making(base)
    if type(base).__module__ != "typing" and (why := making(type(base))):
        return why
    for each in base.__mro__:
        known = each.__module__ in {"builtins", "typing", "enum"}
        if "__init_subclass__" in class_dict(each) and not known:
            return f"{each.__qualname__}.__init_subclass__"
    return ""
