"""A name is looked up as the live module has it, without running any code of the application."""

from __future__ import annotations

import builtins
import functools
from types import ModuleType
from typing import TYPE_CHECKING

from zdpatch.patcher import reach

if TYPE_CHECKING:
    from collections.abc import Callable


def resolver(module: ModuleType) -> Callable[[str], object]:
    """Looks up dotted names as the module has them."""
    return functools.partial(resolve, module)


def resolve(module: ModuleType, name: str) -> object:
    """A dotted name as the live module has it, looked up without running any code of the
    application.
    """
    root, *rest = name.split(".")
    space = reach.namespace(module)
    value: object = space.get(root, vars(builtins).get(root))
    for attribute in rest:
        if isinstance(value, ModuleType):
            value = reach.namespace(value).get(attribute)
        elif reach.is_a(value, type):
            value = reach.class_dict(value).get(attribute)  # type: ignore[arg-type]
        else:
            return None
    return value
