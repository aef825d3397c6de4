"""A patch is the base and the new source of every module it changes, and of every data file beside
them; nothing else is trusted or needed.

Source is kept as the bytes of the file: encoding cookies, line ends and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PATCHED: Final = "<zdpatch "
# compiled modules on any platform, and what they are compiled from
_NATIVE: Final = (
    ".so", ".pyd", ".dll", ".dylib", ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd",
    ".pxi", ".rs", ".f", ".f90",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """One module of a patch, before and after.

    `base is None`: the module is added. `new is None`: it is removed. `base == new`: only values it
    takes from a changed module change here. `path` is relative to the import root
    ("jinja2/filters.py").
    """

    name: str
    path: str
    package: bool
    base: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class DataChange:
    """One file of a package that is no module, before and after; None: it is not there.

    `path` is relative to the import root ("certifi/cacert.pem").
    """

    path: str
    base: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Hooks:
    """A module of functions that carry live state over. `migrates` are the paths of variables, and
    modules, `upgrades` of classes whose objects they carry over; `functions` what it defines. Each
    may take `timeout_s` seconds.
    """

    source: bytes
    migrates: frozenset[str]
    upgrades: frozenset[str]
    functions: frozenset[str]
    timeout_s: int = 10

    @property
    def paths(self) -> frozenset[str]:
        """All that they are about."""
        return self.migrates | self.upgrades


NO_HOOKS: Final = Hooks(b"", frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Patch:
    """What the engine is asked to do: bring these modules and data files from base to new. `id`
    names it in file names and logs.
    """

    id: str
    changes: tuple[ModuleChange, ...]
    data: tuple[DataChange, ...] = ()
    hooks: Hooks | None = None


def file_name(patch_id: str, path: str) -> str:
    """The `co_filename` of patched code: a traceback names the patch, and no file on disk can
    shadow it.
    """
    return f"{_PATCHED}{patch_id} {path}>"


def is_patched(filename: str, patch_id: str = "") -> bool:
    """Whether a file name is one of `file_name`, of any patch or of this one."""
    return filename.startswith(f"{_PATCHED}{patch_id} " if patch_id else _PATCHED)


def is_data_path(path: str) -> bool:
    """Whether a path names a data file of a package."""
    return not no_data_path(path)


def no_data_path(path: str) -> str:
    """Why a path names no data file of a package; "" when it does: below a folder, spelt in one
    way, no module nor what one is compiled from, and no remark on what could not be read
    ("a (submodule)").
    """
    folder, _, name = path.rpartition("/")
    parts = path.split("/")
    if not folder or not parts[0].isidentifier():
        return "it is in no package"
    if any(part in {"", ".", "..", "__pycache__"} for part in parts):
        return "its path is no plain one"
    if any(letter in "\\\0" or not letter.isprintable() for letter in path):
        return "its name has a character that is not shown"
    if name.endswith(")"):
        return "its name ends with a bracket, as a remark on what could not be read"
    if name.endswith((".py", ".pyc", ".pyo", *_NATIVE)):
        return "it is a module, or what one is compiled from"
    return ""
