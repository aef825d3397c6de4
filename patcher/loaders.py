"""How a module was made decides whether its source can be what runs: by a compiler, by a hook."""

from __future__ import annotations

import zipimport
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    BuiltinImporter,
    ExtensionFileLoader,
    FrozenImporter,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import overlay, reach
from zdpatch.patcher.folders import FolderLoader

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Final = (
    SourceFileLoader,
    SourcelessFileLoader,
    zipimport.zipimporter,
    overlay.PatchedLoader,
)


def compiled(space: Mapping[str, object]) -> str:
    """Why the module of this namespace has no Python code that could change; "" when it has.

    A file beside it may hold its source (Cython, mypyc): what runs was made from it by a compiler.
    """
    file, loader = space.get("__file__"), _really(space.get("__loader__"))
    if compiled_file(file):
        return f"it is a compiled module ({str(file).rpartition('/')[2]})"
    if type(loader) is ExtensionFileLoader or loader is BuiltinImporter:
        return "it is a compiled module"
    return ""


def compiled_file(path: object) -> bool:
    """Whether a file is one that the import system loads as an extension module."""
    return type(path) is str and path.endswith(tuple(EXTENSION_SUFFIXES))


def hook(space: Mapping[str, object]) -> str:
    """The loader which may have changed the module's code on its way in; "" for usual ones."""
    loader = _really(space.get("__loader__"))
    if loader is None or loader is FrozenImporter or type(loader) in _PLAIN:
        return ""
    cls = type(loader)
    return f"{reach.class_dict(cls).get('__module__')}.{reach.qualname(cls)}"


def _really(loader: object) -> object:
    """The loader of the module's code, where another one is for its files."""
    return loader.real if type(loader) is FolderLoader else loader
