"""What an expression gives of a file of a package: nothing, a path to it, or what is in it.

Followed from where a module asks where it lies (`__file__`, `importlib.resources`, `pkgutil`), by
the text. Literal names that lead elsewhere end it: `HERE / "other.json"` is no way to "data.json".
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.names import dotted
from zdpatch.patcher.purity import CALLERS, origin
from zdpatch.patcher.spelling import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

NOTHING: Final = 0
PATH: Final = 1
CONTENT: Final = 2

# Names of a module, and attributes of modules and specs, that say where it lies.
PLACES: Final = frozenset({"__file__", "__path__", "__spec__", "__loader__"})
# Ways to the files on disk, which a patch leaves as they are.
ODD: Final = frozenset(
    {"__path__", "submodule_search_locations", "co_filename", "getfile", "getsourcefile",
     "f_code", "currentframe", "_getframe", "get_filename", "find_spec", "__cached__"}
)  # fmt: skip
_PLACE_ATTRIBUTES: Final = PLACES | ODD | {"origin"}
_RESOURCE: Final[dict[str, int]] = {
    **dict.fromkeys(("files", "path", "as_file", "contents"), PATH),
    **dict.fromkeys(("read_text", "read_binary", "open_text", "open_binary"), CONTENT),
}
# Calls that get a package and a name (importlib.resources, pkgutil, setuptools' pkg_resources).
_SOURCES: Final[dict[str, int]] = {
    **{f"importlib.resources.{name}": level for name, level in _RESOURCE.items()},
    **{f"importlib_resources.{name}": level for name, level in _RESOURCE.items()},
    "pkgutil.get_data": CONTENT,
    "pkg_resources.resource_filename": PATH,
    "pkg_resources.resource_string": CONTENT,
    "pkg_resources.resource_stream": CONTENT,
}
_PATH_CALLS: Final = frozenset(
    {"os.fspath", "os.fsencode", "os.fsdecode", "str", "importlib.resources.as_file",
     "importlib_resources.as_file", "sys.intern"}
    | {f"pathlib.{name}" for name in ("Path", "PurePath", "PosixPath", "PurePosixPath")}
    | {f"{module}.{name}" for module in ("os.path", "posixpath")
       for name in ("join", "dirname", "abspath", "realpath", "normpath", "expanduser", "relpath",
                    "split", "splitext", "normcase")}
)  # fmt: skip
HARMLESS: Final = _PATH_CALLS | _SOURCES.keys()
"""Calls that keep nothing of what they get."""
_PATH_PARTS: Final = frozenset({"parent", "parents"})
_PATH_METHODS: Final = frozenset(
    {"joinpath", "with_name", "with_suffix", "with_stem", "resolve", "absolute", "expanduser",
     "as_posix", "as_uri", "__str__", "__fspath__", "relative_to", "format", "rstrip", "lstrip",
     "strip", "replace", "removesuffix", "removeprefix", "partition", "rpartition", "rsplit",
     "split", "encode", "decode", "enter_context", "__enter__"}
)  # fmt: skip
_QUESTIONS: Final = frozenset(
    {"exists", "isfile", "isdir", "is_file", "is_dir", "islink", "access"}
)
_OPEN: Final = frozenset("%{}*?[")  # a name that has these is none yet
_HOLD: Final = frozenset({"functools.partial", "staticmethod", "classmethod", "property"})
_CALLERS: Final = CALLERS | {"functools.partial", "functools.reduce", "next", "iter"}
# Words that a text without them cannot read a file of its package by.
WORDS: Final = frozenset(
    {*PLACES, *ODD, "resources", "importlib_resources", "get_data", "pkg_resources", "pkgutil"}
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """The data files that change, by path below the import root; `roots` are packages they are in
    ("google/cloud/storage").
    """

    paths: frozenset[str]
    roots: frozenset[str]

    @cached_property
    def parts(self) -> frozenset[str]:
        return frozenset(part for path in self.paths for part in path.split("/"))

    @cached_property
    def packages(self) -> frozenset[str]:
        return frozenset(root.replace("/", ".") for root in self.roots)

    def elsewhere(self, literal: str, *, whole: bool = True) -> bool:
        """Whether a literal certainly leads to other files: it has a name that none of them has, or
        begins with (an ending may be added). `whole`: it is between slashes.
        """
        steps = literal.split("/")
        certain = steps if whole else steps[1:-1]
        if not whole and len(steps) > 1 and "." in steps[-1]:
            certain = [*certain, steps[-1]]
        names = (step for step in certain if step not in {"", ".", ".."} and not _OPEN & {*step})
        return any(not any(part.startswith(name) for part in self.parts) for name in names)

    def named(self, literal: str) -> bool:
        """False for the name of another file of the same kind."""
        last = literal.rpartition("/")[2]
        kinds = {part.rpartition(".")[2] for part in self.parts if "." in part}
        other = "." in last and last.rpartition(".")[2] in kinds and not _OPEN & {*last}
        return last in self.parts or not other

    def own(self, package: str) -> bool:
        """Whether a package of this name may hold one of them."""
        return any(package == p or package.startswith(f"{p}.") for p in self.packages)


@dataclass
class Ways:
    """What expressions of one body give. `name` says what a dotted name gives, `called` what a call
    of one does: a function that is only named reads nothing. `seen`: ids of literals, and names of
    variables, on the way to a file.
    """

    files: Files
    imports: Mapping[str, str]
    variables: Mapping[str, int]
    name: Callable[[str], int]
    called: Callable[[str], int]
    seen: set[int | str]
    bound: set[int] = field(default_factory=set[int])
    """Ids of what holds functions and has a name: who calls that is followed by it."""

    def given(self, node: ast.AST | None) -> int:  # noqa: PLR0911 - one clause a kind of expression
        """NOTHING, PATH or CONTENT."""
        match node:
            case None | ast.Constant():
                return NOTHING
            case ast.Name(id=name):
                return max(self.variables.get(name, NOTHING), self._named(name))
            case ast.Attribute():
                return self._attribute(node)
            case ast.Call():
                return self._call(node)
            case ast.BinOp(left=left, right=right):
                whole = isinstance(node.op, ast.Div)
                return self._joined([left, right], whole=whole)
            case ast.JoinedStr(values=values):
                return self._joined(values, whole=False)
            case ast.Lambda(body=body):
                return self.given(body)
            case _:
                return self._most([*ast.iter_child_nodes(node)])

    def _mark(self, nodes: Iterable[ast.AST]) -> None:
        """Literals, and variables that may hold some, were taken for parts of the way."""
        self.seen.update(each.id if isinstance(each, ast.Name) else id(each) for each in nodes)

    def _most(self, nodes: Collection[ast.AST]) -> int:
        return max(map(self.given, nodes), default=NOTHING)

    def _named(self, name: str) -> int:
        root = name.partition(".")[0]
        if root in self.variables and root not in PLACES:
            return NOTHING
        if name in PLACES or origin(name, self.imports) in _SOURCES:
            return PATH  # who has the function can ask it
        return self.name(name)

    def _attribute(self, node: ast.Attribute) -> int:
        if node.attr in _PLACE_ATTRIBUTES:
            return PATH
        base = self.given(node.value)
        if base == PATH:
            return PATH if node.attr in _PATH_PARTS else NOTHING
        name = dotted(node)
        return max(base, self._named(name) if name else NOTHING)

    def _joined(self, nodes: Collection[ast.AST], *, whole: bool) -> int:
        """Of names put together; NOTHING when a literal leads to other files."""
        level = self._most(nodes)
        literals = (n.value for n in nodes if isinstance(n, ast.Constant))
        texts = [str(value) for value in literals if isinstance(value, str)]
        elsewhere = any(self.files.elsewhere(text, whole=whole) for text in texts)
        if level == PATH and elsewhere:
            return NOTHING
        if level:
            self._mark(nodes)
        return level

    def _call(self, node: ast.Call) -> int:
        name = dotted(node.func)
        full = origin(name, self.imports) if name else ""
        if full.rpartition(".")[2] in ODD:
            return PATH
        if full in _SOURCES and not full.endswith("as_file"):
            return self._source(node.args, _SOURCES[full])
        if full == "getattr" and any(text in _PLACE_ATTRIBUTES for text in texts(node.args)):
            return PATH
        if isinstance(node.func, ast.Subscript) and (held := dotted(node.func.value)):
            name = held  # one of a table of functions
        if name and (known := self.called(name)):
            if not all(map(self.files.named, texts(node.args))):
                return NOTHING
            self._mark(node.args)
            return known
        return self._made(node, full)

    def function(self, node: ast.AST) -> int:
        """What calls give of something that only holds functions: one, a `partial` of one, a table
        of some. NOTHING for all else, and for what is read when it is evaluated.
        """
        match node:
            case ast.Name() | ast.Attribute():
                name = dotted(node) or ""
                return NOTHING if self.given(node) else self.called(name)
            case ast.Dict() | ast.List() | ast.Tuple() | ast.Set():
                inner = [*ast.iter_child_nodes(node)]
            case ast.Call(func=func, args=args, keywords=words):
                if origin(dotted(func) or "", self.imports) not in _HOLD:
                    return NOTHING
                inner = [*args, *(word.value for word in words)]
            case _:
                return NOTHING
        level = max(map(self.function, inner), default=NOTHING)
        if level:
            self._mark(inner)
        return level

    def _made(self, node: ast.Call, full: str) -> int:
        """What a function of others makes of its arguments."""
        arguments: list[ast.AST] = [*node.args, *(word.value for word in node.keywords)]
        level = self._most(arguments)
        if level == PATH and full.rpartition(".")[2] in _QUESTIONS:
            return NOTHING
        if full in _PATH_CALLS:
            return self._joined(arguments, whole=True)
        if full in _CALLERS and id(node) not in self.bound:
            names = filter(None, map(dotted, (a for a in arguments if isinstance(a, ast.expr))))
            level = max([level, *map(self.called, names)])
        base = self.given(node.func.value) if isinstance(node.func, ast.Attribute) else NOTHING
        if isinstance(node.func, ast.Attribute) and base == PATH:
            return self._method(node.func, arguments)
        return CONTENT if base or level else NOTHING

    def _method(self, func: ast.Attribute, arguments: list[ast.AST]) -> int:
        if func.attr in _QUESTIONS:
            return NOTHING
        if func.attr in {"joinpath", "with_name"}:
            return self._joined([func.value, *arguments], whole=True)
        if func.attr in _PATH_METHODS:
            self._mark(arguments)
            return PATH
        if func.attr == "get_data":
            return self._joined([func.value, *arguments], whole=False) and CONTENT
        return CONTENT

    def _source(self, arguments: list[ast.expr], level: int) -> int:
        """Of `read_text(package, name)` and its like."""
        package, *names = arguments or [ast.Constant(None)]
        named = package.value if isinstance(package, ast.Constant) else None
        if isinstance(named, str) and not self.files.own(named):
            return NOTHING
        if any(map(self.files.elsewhere, texts(names))):
            return NOTHING
        self._mark(names)
        return level
