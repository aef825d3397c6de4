"""A name that was imported from a module is compared with what that module has under the name now;
modules bind names anew, so only an object that surely was imported under another name tells.
"""

from __future__ import annotations

import ast
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import reach
from zdpatch.patcher.evaluate import live_import
from zdpatch.patcher.reach import is_a
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.patcher.items import Item

_module_of: Callable[[object], object] = type.__dict__["__module__"].__get__
_FUNCTIONS: Final = frozenset({FunctionType, BuiltinFunctionType})


def other(item: Item, live: object) -> str:
    """The clause about a name that is bound to another object than the one which is imported; ""
    if it is that, or if it cannot be told.
    """
    expected = live_import(item)
    if not isinstance(item.node, ast.ImportFrom) or expected is MISSING or live is expected:
        return ""
    if live is MISSING or not _at_home(live) or not _stays(expected):
        return ""
    return f"is {_place(live)} here, and {item.source} in the source"


def _at_home(value: object) -> bool:
    """Whether a function or class is what is bound where it says that it was defined."""
    place = _place(value)
    module, _, name = place.partition(":")
    space = sys.modules.get(module)
    if not name or "." in name or not is_a(space, ModuleType):
        return False
    return reach.namespace(cast("ModuleType", space)).get(name) is value


def _stays(value: object) -> bool:
    """Whether nobody bound the name to this since: a wrapper says another place than its own."""
    return _at_home(value) or reach.class_dict(type(value)).get("__module__") == "typing"


def _place(value: object) -> str:
    """Where a function or class says it was defined; "" for what says nothing."""
    if is_a(value, type):
        module: object = _module_of(value)
        name = reach.qualname(cast("type", value))
    elif type(value) in _FUNCTIONS:
        function = cast("FunctionType", value)
        module, name = function.__module__, function.__qualname__
    else:
        return ""
    return f"{module}:{name}" if type(module) is str and type(name) is str else ""
