"""Whether patched modules show what a fresh import of their new sources shows."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CACHED = type(functools.lru_cache(len))


def called(function: Callable[..., object]) -> object:
    """What `function` gives for its required parameters, each a small number; an exception by
    its name.
    """
    try:
        wanted = [
            one
            for one in inspect.signature(function).parameters.values()
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        value = function(*range(1, len(wanted) + 1))
        return [*value] if inspect.isgenerator(value) else value
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


def _looked(value: Any, deep: int = 0) -> object:  # noqa: ANN401
    if inspect.isfunction(value) or inspect.isclass(value):
        home: str = value.__module__
        if home not in ("m", "user"):
            return f"{home}.{value.__qualname__}"
    if isinstance(value, type):
        return observe_class(value)
    if inspect.isfunction(value) or inspect.ismethod(value):
        result = called(value)
        function = value.__func__ if inspect.ismethod(value) else value
        told = (repr(function.__defaults__), repr(function.__kwdefaults__), value.__doc__)
        return (told, _looked(result, deep + 1) if deep < 3 else "deep")
    if type(value) is CACHED:
        return ("cached", repr(called(value)))
    return value.__name__ if inspect.ismodule(value) else repr(value)


def observe_class(cls: type) -> dict[str, object]:
    """Everything a user sees of a class: its own names, and what a new instance's methods give."""
    seen: dict[str, object] = {"__doc__": cls.__doc__}
    try:
        one: Any = cls()
    except Exception as error:  # noqa: BLE001
        one = type(error).__name__
    for name in [key for key in vars(cls) if not key.startswith("__")]:
        try:
            seen[name] = _looked(getattr(one, name))
        except Exception as error:  # noqa: BLE001
            seen[name] = type(error).__name__
    return seen


def observe(module: types.ModuleType) -> dict[str, object]:
    """Everything a user sees of a module: its names, values, and what its functions give."""
    return {
        name: _looked(value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("__") or name == "__all__"
    }


def same_as_fresh(sources: dict[str, str]) -> bool:
    """True when the live modules show what a fresh import of `sources`, in that order, shows."""
    live = {name: sys.modules[name] for name in sources}
    fresh = {name: types.ModuleType(name) for name in sources}
    try:
        sys.modules.update(fresh)
        for name, source in sources.items():
            code = compile(source, "<fresh>", "exec", dont_inherit=True)
            exec(code, vars(fresh[name]))
    finally:
        sys.modules.update(live)
    for name in sources:
        seen, wanted = observe(live[name]), observe(fresh[name])
        unequal = [
            f"{name}:{key}: {seen.get(key, '(none)')} against {wanted.get(key, '(none)')}"
            for key in sorted(seen.keys() | wanted.keys())
            if seen.get(key) != wanted.get(key)
        ]
        if unequal:
            raise AssertionError("live against fresh: " + "; ".join(unequal)[:2000])
    return True
