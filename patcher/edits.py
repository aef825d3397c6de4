"""What the engine speaks of: versions of a module, and the edits between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zdpatch.patcher import codes
from zdpatch.patcher.assigned import IN_FUNCTION
from zdpatch.patcher.bytecode import Written
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.items import DEFINITIONS, Item
from zdpatch.patcher.outline import Outline, outline
from zdpatch.patcher.source import ModuleChange, file_name

if TYPE_CHECKING:
    import ast
    from types import CodeType

# facets of a function edit
BODY, DEFAULTS, SIGNATURE, KIND, DECORATORS, ANNOTATIONS, DOCSTRING, TYPE_PARAMS = (
    "body", "defaults", "signature", "kind", "decorators", "annotations", "docstring",
    "type parameters",
)  # fmt: skip
# what a function says of itself: whoever reads that may do so once, when it gets the function
SIGNATURES = frozenset({ANNOTATIONS, DEFAULTS, SIGNATURE, TYPE_PARAMS})
METADATA = SIGNATURES | {DOCSTRING}
# The same annotations, kept as text on one side (`from __future__ import annotations`): they mean
# the same to whoever read them. Also the `detail` of an edit of kind "fields".
POSTPONED = "annotations as text"
KIND_FLAGS = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR (inspect)


@dataclass(frozen=True, eq=False)
class Edit:
    """One difference at one definition path.

    `kind`: function, nested, added, removed, rebound, value, header, fields, effect, star, stale,
    unfit (what lives does not fit the new code).
    `old` and `new` are the items on either side (empty when there is none); `facets` say what of a
    function differs; `cause` names the changed definition that makes an unchanged statement differ,
    `stale` the parameters whose unchanged default reads one.
    """

    module: str
    qualname: str
    kind: str
    old: tuple[Item, ...] = ()
    new: tuple[Item, ...] = ()
    facets: frozenset[str] = frozenset()
    codes: tuple[CodeType | None, CodeType | None] = (None, None)
    detail: str = ""
    cause: str = ""
    stale: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def shown(self) -> str:
        """The path for people: of a statement that binds no name, the scope it stands in."""
        scope = self.qualname.rpartition(":")[0] if ":" in self.qualname else self.qualname
        return f"{self.module}:{scope}" if scope else self.module

    @property
    def line(self) -> int:
        """Line in the new source; in the base for what is removed."""
        if self.kind == "nested":
            code = self.codes[1] or self.codes[0]
            return code.co_firstlineno if code else 0
        items = self.new or self.old
        return items[-1].line if items else 0

    @property
    def scope(self) -> str:
        return (self.new or self.old)[-1].scope

    @property
    def of_function(self) -> bool:
        """Whether it is about an attribute of a function, whose path is the scope."""
        return (self.new or self.old)[-1].role == IN_FUNCTION


@dataclass(frozen=True, eq=False)
class Version:
    """One version of one module: its outline and its code."""

    outline: Outline
    filename: str

    @cached_property
    def code(self) -> CodeType:
        """The module's code, compiled with this process's flags when first asked for."""
        return codes.compile_source(self.outline.source, self.filename)

    def read_as(self, outline: Outline) -> Version:
        """The same source under another outline."""
        again = Version(outline, self.filename)
        for known in ("code", "written"):
            if known in vars(self):
                vars(again)[known] = vars(self)[known]  # as the cached property does
        return again

    @cached_property
    def _functions(self) -> dict[tuple[str, int], CodeType]:
        every = ((name, each) for name, group in self.flat.items() for each in group)
        return {(name, each.co_firstlineno): each for name, each in every}

    def code_of(self, item: Item) -> CodeType | None:
        """The code object of a function item; None where the compiler dropped it (`if 0:`)."""
        return self._functions.get((item.qualname, first_line(item.node)))

    @cached_property
    def written(self) -> Written:
        """What its code says is there."""
        return Written(self.code)

    @property
    def flat(self) -> dict[str, list[CodeType]]:
        return self.written.flat


@dataclass(frozen=True, eq=False)
class ModuleVersions:
    """Both sides of one module of a patch; a side is None when the module is added or removed."""

    change: ModuleChange
    base: Version | None
    new: Version | None

    @property
    def name(self) -> str:
        return self.change.name


def first_line(node: ast.stmt) -> int:
    """`co_firstlineno` of a definition: its first decorator's line."""
    if isinstance(node, DEFINITIONS):
        return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return node.lineno


def version(name: str, source: bytes, filename: str, *, package: bool) -> Version:
    """Parse one side; it is compiled when its code is needed. Raises SyntaxError."""
    return Version(outline(name, source, package=package), filename)


def read(change: ModuleChange, patch_id: str) -> ModuleVersions:
    """Parse and compile both sides. Raises Refused (ZDP-206) naming the line that does not
    compile.
    """

    def side(source: bytes | None, filename: str) -> Version | None:
        if source is None:
            return None
        try:
            found = version(change.name, source, filename, package=change.package)
            if change.base != change.new:
                _ = found.code  # what parses may still not compile
            return found
        except SyntaxError as error:
            line, why = error.lineno or 0, str(error.msg)
            remedy = "mend the source and build again"
            verdict = Verdict(f"{change.name}:", line, "syntax", "X", why, remedy)
            cause = f"{change.path} line {line}: {why}"
            raise Refused("ZDP-206", cause, (verdict,), next=remedy) from error

    base = side(change.base, f"<base of {change.path}>")
    filename = file_name(patch_id, change.path)
    if base is not None and change.base == change.new:  # one text is read once
        return ModuleVersions(change, base, Version(base.outline, filename))
    return ModuleVersions(change, base, side(change.new, filename))
