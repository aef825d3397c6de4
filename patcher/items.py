"""One statement that runs when a module is imported: what it reads, calls and binds."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from zdpatch.patcher.deferred import walk_run
from zdpatch.patcher.generics import params_of
from zdpatch.patcher.names import FunctionNode, Uses, annotations_of, dotted, uses
from zdpatch.patcher.operations import Ran, ran_by_statement
from zdpatch.patcher.parts import parts
from zdpatch.patcher.statements import without_bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal["function", "class", "value", "import", "field", "star", "effect"]
DECIDED: Final = "decided"  # role of what is left of a branch: the test, which has no effect
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, eq=False)
class Item:
    """One import-time statement of a scope.

    `scope` is "" or the qualified name of a class; `names` are what it binds; `role` tells apart
    the definitions of one name which belong together ("setter", "overload", ...).
    """

    kind: Kind
    scope: str
    names: tuple[str, ...]
    node: ast.stmt
    role: str = ""
    source: str = ""  # imports: dotted origin of the bound name
    lazy_annotations: bool = False
    children: tuple[Item, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""

    @property
    def qualname(self) -> str:
        return f"{self.scope}.{self.name}" if self.scope else self.name

    @property
    def line(self) -> int:
        return self.node.lineno

    @cached_property
    def shape(self) -> str:
        """What the statement says, without positions: equal shapes are the same statement."""
        return ast.dump(without_bodies(self.node)) if self.kind == "effect" else ast.dump(self.node)

    @cached_property
    def reads(self) -> frozenset[str]:
        return frozenset(self._uses.reads)

    @cached_property
    def calls(self) -> frozenset[str]:
        return frozenset(self._uses.calls)

    @cached_property
    def passed(self) -> frozenset[tuple[str, str]]:
        """(callee, argument) of the calls that got a plain name."""
        return frozenset(self._uses.passed)

    @cached_property
    def fetched(self) -> frozenset[str]:
        """Full names read of modules that the statement gets by their names."""
        return frozenset(self._uses.fetched)

    @cached_property
    def imported(self) -> tuple[tuple[ast.ImportFrom, str], ...]:
        """Names that a branch imports when it runs."""
        if self.kind not in {"value", "effect"}:
            return ()
        found = (part for part in ast.walk(self.node) if isinstance(part, ast.ImportFrom))
        return tuple((node, alias.name) for node in found for alias in node.names)

    @cached_property
    def global_names(self) -> frozenset[str]:
        """Dotted names of a definition whose root is none of its own parameters and variables."""
        return self._global_names(self._parts)

    def run_names(self, imports: Mapping[str, str], *, made: bool = False) -> frozenset[str]:
        """Those of `global_names` that are read when the function is called (see `deferred`);
        `imports` are those of its module.
        """
        assert isinstance(self.node, FunctionNode)
        if made not in self._run_names:
            header = parts(self.node.args)  # a default may be called in the body
            names = self._global_names(header + walk_run(self.node, imports, made=made))
            self._run_names[made] = names
        return self._run_names[made]

    @cached_property
    def _run_names(self) -> dict[bool, frozenset[str]]:
        return {}

    @cached_property
    def _parts(self) -> list[ast.AST]:
        return parts(self.node)

    @cached_property
    def _own_names(self) -> set[str]:
        """Parameters and variables."""
        own: set[str] = set()
        for part in self._parts:
            if isinstance(part, ast.arg):
                own.add(part.arg)
            elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                own.add(part.id)
        return own

    def _global_names(self, nodes: Iterable[ast.AST]) -> frozenset[str]:
        read = (
            n for n in nodes if isinstance(n, (ast.Name, ast.Attribute)) and n not in self._text
        )
        names, own = map(dotted, read), self._own_names
        return frozenset(n for n in names if n is not None and n.partition(".")[0] not in own)

    @cached_property
    def _text(self) -> frozenset[ast.AST]:
        """Annotations that `from __future__ import annotations` makes text: no call reads them."""
        every = ast.walk(self.node) if self.lazy_annotations else ()
        found: list[ast.expr] = []
        for part in every:
            if isinstance(part, FunctionNode):
                found += annotations_of(part).values()
            elif isinstance(part, ast.AnnAssign):
                found.append(part.annotation)
        return frozenset(inside for each in found for inside in ast.walk(each))

    @cached_property
    def ran(self) -> Ran:
        """What the statement does when the body that it stands in is executed."""
        return ran_by_statement(self.node)

    @cached_property
    def _uses(self) -> Uses:
        if isinstance(self.node, ast.ClassDef):
            header: list[ast.AST] = [*self.node.bases, *params_of(self.node)]
            header += [word.value for word in self.node.keywords]
            found = uses(*header)
            for decorator in self.node.decorator_list:
                found.calls.update(uses(ast.Call(decorator, [], [])).calls)
                found.reads.update(uses(decorator).reads)
            return found
        return uses(self.node, lazy_annotations=self.lazy_annotations)
