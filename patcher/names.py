"""Which names a statement reads and calls at the moment it runs: what is deferred (function bodies,
lambdas) does not count.

A dotted name is the longest attribute chain on a plain name ("re.compile"); its root is the name
looked up.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Final

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# Callables which keep the function they are given as it is, and read nothing of it.
_KEEPERS: Final = frozenset(
    {"property", "staticmethod", "classmethod", "partial", "partialmethod", "wraps",
    "update_wrapper",
     "cast", "isinstance", "callable", "register_at_fork", "map", "filter", "sorted", "min", "max"}
)  # fmt: skip


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` as "a.b.c"; None for anything which is not a plain attribute chain."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def fetched_module(node: ast.expr) -> str | None:
    """The name of the module that `import_module("a")`, `__import__("a")` or `sys.modules["a"]`
    gives.
    """
    match node:
        case ast.Call(func=func, args=[ast.Constant(value=str(name))]):
            called = (dotted(func) or "").rpartition(".")[2]
            return name if called in {"import_module", "__import__"} else None
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
            return name if dotted(value) in {"sys.modules", "modules"} else None
        case _:
            return None


def _attribute_read(node: ast.Call) -> str | None:
    """The dotted name that `getattr(a.b, "c")` reads."""
    match node.args:
        case [owner, ast.Constant(value=str(name)), *_] if (root := dotted(owner)) is not None:
            return f"{root}.{name}"
        case _:
            return None


# Callables which call what they are given, at once.
_CALLERS: Final = frozenset({"map", "filter", "sorted", "min", "max", "reduce", "sort", "groupby"})


@dataclass(slots=True)
class Uses:
    """Dotted names read, called and handed over as arguments when the visited code runs; `fetched`
    are full names, of attributes of modules that an expression gets by their names.
    """

    reads: set[str] = field(default_factory=set[str])
    calls: set[str] = field(default_factory=set[str])
    passed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    fetched: set[str] = field(default_factory=set[str])


class _Visitor(ast.NodeVisitor):
    def __init__(self, uses: Uses, *, lazy_annotations: bool) -> None:
        self.uses = uses
        self.lazy_annotations = lazy_annotations

    def visit_Name(self, node: ast.Name) -> None:
        self.uses.reads.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = dotted(node)
        if name is None:
            self._fetched(node)
            self.visit(node.value)
        else:
            owner, found, _ = f"{name}.".partition(".__dict__.")
            if found:  # whoever gets that can read every name
                self.uses.passed.add(("__dict__", owner))
            parts = name.split(".")  # `m.X.y` looks up `m`, `m.X` and `m.X.y`
            self.uses.reads.update(".".join(parts[: end + 1]) for end in range(len(parts)))

    def _fetched(self, node: ast.Attribute) -> None:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if (module := fetched_module(inner)) is not None:
            self.uses.fetched.add(".".join([module, *reversed(parts)]))

    def visit_Call(self, node: ast.Call) -> None:
        if (name := dotted(node.func)) is not None:
            self.uses.calls.add(name)
        if name == "getattr" and (read := _attribute_read(node)) is not None:
            self.uses.reads.add(read)
            self.generic_visit(node)
            return
        if isinstance(node.func, ast.Lambda):
            self.visit(node.func.body)
        last = node.func.attr if isinstance(node.func, ast.Attribute) else name
        for argument in [*node.args, *(word.value for word in node.keywords)]:
            given = dotted(argument)
            if given is not None and last in _CALLERS:
                self.uses.calls.add(given)
            elif given is not None and last not in _KEEPERS:
                self.uses.passed.add((name or "", given))
            if isinstance(argument, ast.Lambda) and last in _CALLERS:
                self.visit(argument.body)
        self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments(node.args)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not self.lazy_annotations:
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def _function(self, node: FunctionNode) -> None:
        for decorator in node.decorator_list:
            self.decorator(decorator)
        self._arguments(node.args)
        for param in getattr(node, "type_params", ()):
            self.visit(param)
        if not self.lazy_annotations:
            for annotation in annotations_of(node).values():
                self.visit(annotation)

    def decorator(self, decorator: ast.expr) -> None:
        """A decorator is a call: of what it names, or of what its own call gives back."""
        if (name := dotted(decorator)) is not None:
            self.uses.calls.add(name)
        self.visit(decorator)

    def _arguments(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)


def annotations_of(node: FunctionNode) -> dict[str, ast.expr]:
    """The annotations of a definition by parameter name, "return" for the result."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    found = {arg.arg: arg.annotation for arg in every if arg.annotation is not None}
    if node.returns is not None:
        found["return"] = node.returns
    return found


def uses(*nodes: ast.AST, lazy_annotations: bool = False) -> Uses:
    """What running `nodes` (statements or expressions) reads, calls and passes on."""
    found = Uses()
    visitor = _Visitor(found, lazy_annotations=lazy_annotations)
    for node in nodes:
        visitor.visit(node)
    return found


def mangled(scope: str, name: str) -> str:
    """A private name as it stands in its class (Python language reference, 6.2.1)."""
    if not scope or not name.startswith("__") or name.endswith("__"):
        return name
    owner = scope.rpartition(".")[2].lstrip("_")
    return f"_{owner}{name}" if owner else name
