"""What functions do with what they get, by the custom of their names: keep it, make something of
it, let it go, or write.

In doubt they keep it: who reads this refuses then.
"""

from __future__ import annotations

import ast
import sys
from typing import Final

from zdpatch.patcher.names import dotted

# What an object does with what it is given that leaves nothing behind.
LETS_GO: Final = frozenset(
    {"debug", "info", "warning", "error", "exception", "critical", "log", "print", "format", "join",
     "encode", "decode", "startswith", "endswith", "index", "count", "get", "render", "match",
     "search", "fullmatch", "sub", "split", "findall", "finditer", "strip", "substitute",
     "safe_substitute", "enter_context", "close"}
)  # fmt: skip
# What the object of a parameter may do with it: others have it for one call.
TAKES: Final = frozenset({"write", "writelines", "send", "sendall", "send_text", "send_bytes"})
_MAKERS: Final = frozenset(
    {"dict", "list", "set", "tuple", "frozenset", "bytearray", "str", "bytes",
     "collections.OrderedDict", "collections.defaultdict", "collections.deque",
     "collections.Counter", "defaultdict"}
)  # fmt: skip
_DISPLAYS: Final = (
    ast.Dict, ast.List, ast.Set, ast.Tuple, ast.Constant, ast.JoinedStr, ast.ListComp, ast.DictComp,
    ast.SetComp, ast.GeneratorExp,
)  # fmt: skip
# Modules of the standard library that remember what they are given a path to.
_STATEFUL: Final = (
    "mimetypes.", "gettext.", "locale.", "logging.config.", "linecache.", "site.", "zoneinfo.",
    "sys.path", "ctypes.", "signal.", "atexit.",
)  # fmt: skip
_MODE: Final = 4  # letters of a mode of `open`, at most
_WRITES: Final = frozenset(
    {"write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "remove", "rmtree",
     "rename", "symlink_to", "hardlink_to", "copyfile", "copytree", "move", "chmod", "mkstemp",
     "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "chdir"}
)  # fmt: skip
SETTERS: Final = frozenset({"setattr", "exec", "eval", "object.__setattr__"})
# How functions are named that make something of it, and those that keep it.
_MAKES: Final = (
    "load", "safe_load", "parse", "read", "decode", "from", "render", "format", "to_",
    "as_", "compile", "is_", "check", "valid", "escape", "quote", "strip", "split", "get_", "make_",
)  # fmt: skip
_KEEPS: Final = (
    "register", "add", "set", "put", "append", "update", "install", "insert", "extend", "push",
    "save", "store", "dictConfig", "fileConfig", "basicConfig",
)  # fmt: skip


def may_keep(full: str) -> bool:
    """Whether a function of another package (its full name) may keep what it gets."""
    last = full.rpartition(".")[2]
    if full.partition(".")[0] in sys.stdlib_module_names:
        return last.startswith(_KEEPS)
    return not (last in LETS_GO or last[:1].isupper() or last.startswith(_MAKES))


def remembers_paths(full: str) -> bool:
    """Whether a function of the standard library remembers a path that it gets."""
    return full.startswith(_STATEFUL)


def writes(node: ast.Call) -> bool:
    """Whether a call may make, change or remove files."""
    arguments = [*node.args, *(word.value for word in node.keywords)]
    last = str(dotted(node.func) or getattr(node.func, "attr", "")).rpartition(".")[2]
    texts = (each.value for each in arguments if isinstance(each, ast.Constant))
    modes = [text for text in texts if isinstance(text, str) and len(text) <= _MODE]
    return last in _WRITES or (last == "open" and any({*mode} & {*"wax+"} for mode in modes))


def made_here(node: ast.expr) -> bool:
    """Whether an expression is an object that nobody else has yet."""
    called = dotted(node.func) if isinstance(node, ast.Call) else None
    return isinstance(node, _DISPLAYS) or called in _MAKERS or makes(node)


def makes(node: ast.expr) -> bool:
    """Whether an expression is a new object: of a class, by the custom of names."""
    name = dotted(node.func) if isinstance(node, ast.Call) else None
    return bool(name) and str(name).rpartition(".")[2][:1].isupper()
