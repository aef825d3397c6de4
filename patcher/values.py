"""Two values are the same when no program could tell: equal by type and content for what is
immutable, by identity for all else. No code of the application runs to find out.
"""

from __future__ import annotations

import functools
import gc
import re
import sys
import types
from enum import EnumType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher.reach import class_dict, is_a, namespace
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable

# What is given its class as well, in C; `types` has no name for it.
_C_METHOD: Final = type(cast("object", re.compile("").match))
_PLAIN_TYPES: Final[frozenset[type]] = frozenset(
    {
        int, str, bytes, float, bool, complex, type(None), type(Ellipsis), type(NotImplemented),
        tuple, frozenset, list, dict, set, range, slice, re.Pattern, types.ModuleType, type,
        types.BuiltinFunctionType, types.GenericAlias, types.UnionType, types.MethodDescriptorType,
        types.ClassMethodDescriptorType, types.MappingProxyType, _C_METHOD,
    }
)  # fmt: skip
_NAMED: Final[frozenset[type]] = frozenset({int, str, bytes, float})
# What every class has, or says of itself alone.
_SAID: Final = frozenset(
    {
        "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__slots__",
        "__annotations__", "__static_attributes__", "__firstlineno__",
    }
)  # fmt: skip
_METHOD_TYPES: Final[frozenset[type]] = frozenset({types.BuiltinFunctionType, _C_METHOD})
_PAIRED: Final = 100  # members of a set that are compared one by one
_STATE: Final = frozenset({list, dict, set, bytearray})
# Immutable values of the standard library, by module and name; `__reduce_ex__` tells all of them.
_REDUCED: Final = frozenset(
    {
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"pathlib.{name}" for name in ("PurePosixPath", "PureWindowsPath", "PosixPath")),
        *(f"pathlib._local.{name}" for name in ("PurePosixPath", "PureWindowsPath", "PosixPath")),
        *(
            f"ipaddress.IPv{version}{what}"
            for version in "46"
            for what in ("Address", "Network", "Interface")
        ),
        *(f"operator.{name}" for name in ("attrgetter", "itemgetter", "methodcaller")),
        *(f"urllib.parse.{name}" for name in ("ParseResult", "SplitResult")),
        "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "string.Template",
        "functools.partial", "builtins.slice",
    }
)  # fmt: skip


def _home(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _library_value(kind: type) -> bool:
    """Whether `kind` is one of the listed immutable types itself, not one that calls itself so."""
    if _home(kind) not in _REDUCED:
        return False
    module = sys.modules.get(kind.__module__)
    return module is not None and namespace(module).get(kind.__qualname__) is kind


def _is_enum(kind: type) -> bool:
    return type(kind) is EnumType


def _is_struct(kind: type) -> bool:
    return _home(kind) == "_struct.Struct"


def is_plain(value: object) -> bool:
    """Whether operators and methods of `value` reach no code of the application."""
    kind = type(value)
    constant = _is_enum(kind) or kind.__module__ == sys.__name__  # re.I, sys.version_info
    if constant or kind in _PLAIN_TYPES or is_a(value, type) or kind.__module__ == "typing":
        return True
    known = _library_value(kind) or _is_struct(kind) or is_named_tuple(kind)
    return known or _is_environment(kind) or _is_bare(kind)


def _is_bare(kind: type) -> bool:
    """Whether `kind` only gives a number or a text another name: its classes define nothing."""
    if type(kind) is not type or kind is object:
        return False
    *own, builtin, _ = kind.__mro__
    named = all(type(each) is type and class_dict(each).keys() <= _SAID for each in own)
    return named and builtin in _NAMED


def _is_environment(kind: type) -> bool:
    return _home(kind) == "os._Environ"


def is_library(kind: type) -> bool:
    """Whether `kind` is a class of the standard library, found where it says it is."""
    module = sys.modules.get(kind.__module__)
    own = module is not None and namespace(module).get(kind.__qualname__) is kind
    return kind in _PLAIN_TYPES or (own and _standard(kind.__module__))


def unwrapped(value: object) -> object:
    """What a static or class method holds; everything else as it is."""
    if isinstance(value, staticmethod | classmethod):
        return cast("staticmethod[..., object] | classmethod[object, ..., object]", value).__func__
    return value


def is_known_function(value: object) -> bool:
    """Whether `value` is a function or method of the standard library itself."""
    value = unwrapped(value)
    if type(value) is types.MethodType:
        return is_plain(value.__self__) and is_known_function(value.__func__)
    if type(value) is not types.FunctionType:
        return type(value) in _METHOD_TYPES
    space = value.__globals__
    names = {space.get("__name__"), getattr(space.get("__spec__"), "name", None)}
    return any(
        type(name) is str
        and _standard(name)
        and name in sys.modules
        and namespace(sys.modules[name]) is space
        for name in names
    )


def _standard(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top == "typing_extensions"


def is_named_tuple(kind: type) -> bool:
    """Whether `kind` was made by `namedtuple` and nothing says otherwise how it is made."""
    if type(kind) is not type or [base is tuple for base in kind.__bases__] != [True]:
        return False
    space = class_dict(kind)
    new = space.get("__new__")
    new = new.__func__ if isinstance(new, staticmethod) else new
    made = type(new) is types.FunctionType and str(new.__globals__.get("__name__"))
    hooked = {"__eq__", "__init__", "__add__", "__getattribute__"} & set(space)
    return made == f"namedtuple_{kind.__name__}" and not hooked


def static_attribute(value: object, attribute: str) -> object:
    """An attribute of a plain value; MISSING when it has none. Raises TypeError for others."""
    if is_a(value, types.ModuleType):
        return namespace(cast("types.ModuleType", value)).get(attribute, MISSING)
    if is_a(value, type):
        members = class_dict(cast("type", value)).get("_member_map_")
        if type(value) is EnumType and type(members) is dict and attribute in members:
            return cast("object", members[attribute])
        for each in type.__dict__["__mro__"].__get__(value):
            if attribute in class_dict(each):
                return class_dict(each)[attribute]
        return getattr(type, attribute, MISSING) if attribute == "__name__" else MISSING
    if _is_enum(type(value)):
        return _member_attribute(value, attribute)
    if is_plain(value):
        return getattr(value, attribute, MISSING)
    raise TypeError(type(value).__qualname__)


def _member_attribute(value: object, attribute: str) -> object:
    """`C.A.value` and `C.A.name`, unless the Enum has its own idea of them."""
    owner = next((each for each in type(value).__mro__ if attribute in class_dict(each)), None)
    if owner is None or owner.__module__ != "enum" or attribute not in {"value", "name"}:
        raise TypeError(type(value).__qualname__)
    return vars(value).get(f"_{attribute}_", MISSING)


def same(a: object, b: object) -> bool:  # noqa: PLR0911 - one clause a kind of value
    """Equal by type and value for plain values, by identity for everything else."""
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in {tuple, list} or is_named_tuple(kind):
        mine, other = cast("tuple[object, ...]", a), cast("tuple[object, ...]", b)
        return len(mine) == len(other) and all(map(same, mine, other))
    if kind in {frozenset, set}:
        return _same_set(cast("frozenset[object]", a), cast("frozenset[object]", b))
    if kind is dict:
        return _same_dict(cast("dict[object, object]", a), cast("dict[object, object]", b))
    if kind in {float, complex}:
        return repr(a) == repr(b)  # tells 0.0 from -0.0, and nan equals nan
    if kind in {types.GenericAlias, types.UnionType}:
        return bool(a == b) and repr(a) == repr(b)  # the order of a union counts
    if kind in {int, str, bytes, bool, range, re.Pattern}:
        return bool(a == b)
    if _is_enum(kind):
        return False  # a member is one object
    if kind.__module__ == "typing":
        return bool(a == b) and repr(a) == repr(b)
    return _same_library_value(kind, a, b)


def _same_library_value(kind: type, a: object, b: object) -> bool:
    if kind in _METHOD_TYPES:
        return _same_method(cast("types.BuiltinMethodType", a), cast("types.BuiltinMethodType", b))
    if kind is types.MappingProxyType:
        return all(map(same, gc.get_referents(a), gc.get_referents(b)))
    if _is_struct(kind):
        return bool(getattr(a, "format", a) == getattr(b, "format", b))
    return _library_value(kind) and same(_reduced(a), _reduced(b))


def _reduced(value: object) -> tuple[object, ...]:
    """What makes a copy of a value, as pickle would ask for it."""
    if type(value) is functools.partial:
        return (value.func, value.args, value.keywords, dict(vars(value)))
    return tuple(cast("Iterable[object]", value.__reduce_ex__(2)))


def _same_method(a: types.BuiltinMethodType, b: types.BuiltinMethodType) -> bool:
    """`R.match` of two equal patterns; methods of what has state only by identity."""
    owner = a.__self__
    alike = a.__name__ == b.__name__ and type(owner) not in _STATE
    return alike and same(owner, b.__self__)


def _same_dict(a: dict[object, object], b: dict[object, object]) -> bool:
    pairs = zip(a.items(), b.items(), strict=True)
    return len(a) == len(b) and all(same(k, j) and same(v, w) for (k, v), (j, w) in pairs)


def _same_set(a: frozenset[object], b: frozenset[object]) -> bool:
    mine, other = ({_key(each): each for each in side} for side in (a, b))
    left = [each for key, each in mine.items() if key not in other]
    right = [each for key, each in other.items() if key not in mine]
    if len(a) != len(b) or len(left) > _PAIRED:
        return False
    return all(any(same(each, twin) for twin in right) for each in left)


def _key(value: object) -> object:
    """The same for the same plain values; no other value is hashed or compared."""
    plain = type(value) in {int, str, bytes, bool, type(None)}
    return (type(value), value) if plain else id(value)
