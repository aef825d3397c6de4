"""What may not change: every object of some modules, and the interpreter around them."""

from __future__ import annotations

import functools
import sys
import threading
import types
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CACHED = type(functools.lru_cache(len))
PLAIN = frozenset({type(None), bool, int, float, str, bytes, complex, type(...)})


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__doc__", "__name__"):
        yield name, getattr(function, name)
    for name, value in function.__annotations__.items():
        yield f"annotation {name}", value
    for name, value in function.__dict__.items():
        yield f"dict {name}", value
    for number, cell in enumerate(function.__closure__ or ()):
        yield f"cell {number}", cell
        try:
            yield f"contents {number}", cell.cell_contents
        except ValueError:
            continue


def _is(value: object, *kinds: type) -> bool:
    """isinstance() asks the value for its class, which can be anybody's code; this does not."""
    return issubclass(type(value), kinds)


def _parts(value: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401, PLR0911
    """What `value` is made of, without calling anything of its own."""
    if _is(value, types.FunctionType):
        return _function_parts(value)
    if _is(value, type):
        space = cast("dict[str, object]", dict(vars(cast("type", value))))
        own = [(f".{name}", part) for name, part in space.items() if name != "__dict__"]
        return [*own, *((f"base {n}", base) for n, base in enumerate(value.__bases__))]
    if _is(value, types.MethodType):
        return [("self", value.__self__), ("func", value.__func__)]
    if _is(value, staticmethod, classmethod):
        return [("wrapped", value.__func__)]
    if _is(value, property):
        return [("get", value.fget), ("set", value.fset), ("del", value.fdel)]
    if _is(value, functools.partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if type(value) is dict:
        items = cast("dict[object, object]", value).items()
        return [(f"[{key!r:.40}]", item) for key, item in items if type(key) in PLAIN]
    if type(value) in (list, tuple):
        return [(f"[{number}]", item) for number, item in enumerate(value)]
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    attributes = cast("dict[str, object]", state if type(state) is dict else {})
    return [(f"state {key}", item) for key, item in attributes.items()]


def _foreign(value: Any, own: set[str]) -> bool:  # noqa: ANN401
    if _is(value, types.ModuleType):
        return value.__name__ not in own
    if _is(value, type, types.FunctionType):
        return value.__module__ not in own
    return type(value) in PLAIN or _is(value, types.CodeType)


class _Fingerprint(dict[str, object]):
    """Passes for an object of the engine's own, which is no holder of what a patch replaces."""

    __module__ = "zdpatch.tests"


def fingerprint(names: Iterable[str]) -> dict[str, object]:
    """Every object reachable through the modules `names`, by the way to it.

    It holds them, so that an id stays theirs. Breadth first and in the order of names, so that the
    ways do not depend on the order in which names were bound.
    """
    own = set(names)
    found = _Fingerprint()
    seen: set[int] = set()
    level: list[tuple[str, object]] = []
    for name in sorted(own & sys.modules.keys()):
        found[name] = sys.modules[name]
        values = vars(sys.modules[name]).items()
        # Anybody's exec() adds __builtins__.
        level += [(f"{name}:{key}", item) for key, item in values if key != "__builtins__"]
    while level:
        below: list[tuple[str, object]] = []
        for way, value in sorted(level, key=lambda pair: pair[0]):
            found[way] = _stand_in(value)
            if id(value) in seen or _foreign(value, own):
                continue
            seen.add(id(value))
            below += [(f"{way} {part}", item) for part, item in _parts(value)]
        level = below
    return found


_texts: dict[tuple[int, int], object] = {}


def _stand_in(value: object) -> object:
    """Of a text or a path, another object that is the same for the same one: who holds the way to a
    data file stands against a patch of it.
    """
    if not _is(value, str, bytes, PurePath):
        return value
    return _texts.setdefault((id(value), hash(value)), object())


def difference(
    before: dict[str, object], after: dict[str, object], *, state: bool = True
) -> list[str]:
    """Ways whose object is another one, in words; empty when nothing was touched.

    `state=False` leaves out what the scenario itself may have changed: items and attributes.
    """
    missing = object()
    return [
        f"{way}: {before.get(way, '(none)')!r:.80} -> {after.get(way, '(none)')!r:.80}"
        for way in sorted(before.keys() | after.keys())
        if before.get(way, missing) is not after.get(way, missing)
        and (state or not (" [" in way or " state " in way or " contents " in way))
    ][:8]


def surroundings() -> dict[str, object]:
    """What a patch may not change in the interpreter itself."""
    foreign = {
        name
        for name in sys.modules
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("zdpatch")
    }
    return {
        "sys.modules": sorted(foreign),
        "sys.meta_path": [id(finder) for finder in sys.meta_path],
        "sys.path": list(sys.path),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "switch interval": sys.getswitchinterval(),
    }
