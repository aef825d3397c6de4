"""Names which the patch gives a new value are put into the compiled constants of a statement that
runs again, where it reads them: the live module still has the old ones.

What a comprehension or a lambda reads is not the class's, in whose body it stands: only where its
first iterable, or its defaults, are evaluated.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Collection, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Final, cast

from zdpatch.patcher import generics
from zdpatch.patcher.names import FunctionNode, dotted
from zdpatch.patcher.outline import absolute
from zdpatch.patcher.purity import CALLERS
from zdpatch.patcher.statements import bound_names
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK: Final = "\0zdpatch:"
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Find = Callable[[str, str], object]  # (module, dotted name read there) -> new value, or MISSING


class Fill(ast.NodeTransformer):
    """Puts a marked constant in place of each staged name which the statement reads when it
    runs; `values` are what they stand for, see `with_values`.

    `local`: names which the statement finds where it stands. `given`: those of them that its
    functions do not find in the module, and their values. `own`: those which it binds itself for
    its functions; what these read of them is in `lost`, and has no value beforehand.
    """

    def __init__(  # noqa: PLR0913 - what is known of the place
        self,
        module: str,
        find: Find,
        local: Collection[str],
        *,
        given: Mapping[str, object],
        own: Collection[str] = (),
        package: bool = False,
        lazy: bool = False,
    ) -> None:
        self.module = module
        self.find = find
        self.local = frozenset(local)
        self.given = given
        self.own = own
        self.package = package
        self.lazy = lazy
        self.values: list[object] = []
        self.lost: set[str] = set()
        self._around = frozenset[str]()  # names of the functions that a part stands in
        self._inside: bool = False

    def statement(self, node: ast.stmt) -> ast.stmt:
        """A filled copy."""
        return cast("ast.stmt", self.visit(copy.deepcopy(node)))

    def _constant(self, node: ast.expr, value: object) -> ast.expr:
        # `x if 1 else 0` keeps the compiler from folding the placeholder into its surroundings
        self.values.append(value)
        mark = ast.Constant(f"{_MARK}{len(self.values) - 1}")
        filled = ast.IfExp(ast.Constant(value=True), mark, ast.Constant(value=0))
        return ast.fix_missing_locations(ast.copy_location(filled, node))

    # ------------------------------------------------------------ names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._chain(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = dotted(node)
        filled = self._chain(node, name) if name is not None else node
        return cast("ast.expr", self.generic_visit(node)) if filled is node else filled

    def _chain(self, node: ast.Name | ast.Attribute, name: str) -> ast.expr:
        root = name.partition(".")[0]
        if not isinstance(node.ctx, ast.Load) or root in self.local:
            return node
        if self._inside and root in self.own:
            self.lost.add(root)
        elif self._inside and root in self.given:
            alone = isinstance(node, ast.Name)
            return self._constant(node, self.given[root]) if alone else node
        value = self.find(self.module, name)
        return node if value is MISSING else self._constant(node, value)

    # ------------------------------------------------------------ what has names of its own

    def _in_function(self, names: set[str], parts: list[ast.AST]) -> None:
        """Fill parts, in place, of a function with these names."""
        outer = self.local, self._around, self._inside
        self.local = self._around = self._around | names
        self._inside = True
        for part in parts:
            self.generic_visit(part)
        self.local, self._around, self._inside = outer

    def _comprehension(self, node: Comprehension) -> ast.expr:
        first = node.generators[0]
        first.iter, first_iter = ast.Constant(None), self.visit(first.iter)
        self._in_function(_targets(node), [node])
        first.iter = first_iter
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        node.args = self.visit(node.args)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if dotted(node.func) in CALLERS:  # the bodies of lambdas run now
            for given in [*node.args, *(word.value for word in node.keywords)]:
                if isinstance(given, ast.Lambda):
                    body = ast.Expr(given.body)
                    self._in_function(_parameters(given), [body])
                    given.body = body.value
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        for part in ("decorator_list", "bases", "keywords"):
            setattr(node, part, [self.visit(each) for each in getattr(node, part)])
        outer = self.local
        body: list[ast.stmt] = []
        for each in node.body:  # a name is the class's own only after it was bound
            body.append(self.visit(each))
            self.local = self.local | set(bound_names(each))
        node.body, self.local = body, outer
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return self._function(node)

    def _function(self, node: FunctionNode) -> ast.stmt:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        outer = self.local
        self.local = outer | generics.param_names(node)
        node.args = self.visit(node.args)
        if node.returns is not None and not self.lazy:
            node.returns = self.visit(node.returns)
        self.local = outer
        return node

    # ------------------------------------------------------------ statements

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """An import inside a branch: what the patch changes is bound to its new value."""
        owner = absolute(node, self.module, package=self.package)
        made: list[ast.stmt] = []
        for alias in node.names:
            value = MISSING if alias.name == "*" else self.find("", f"{owner}.{alias.name}")
            if value is MISSING:
                made.append(ast.ImportFrom(node.module, [alias], node.level))
            else:
                name = ast.Name(alias.asname or alias.name, ast.Store())
                filled = self._constant(ast.copy_location(ast.Constant(None), node), value)
                made.append(ast.Assign([name], filled))
        return [ast.fix_missing_locations(ast.copy_location(each, node)) for each in made]

    def visit_TypeAlias(self, node: ast.stmt) -> ast.stmt:
        return node  # its value is looked up when somebody asks for it

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node if self.lazy else cast("ast.arg", self.generic_visit(node))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if not self.lazy:
            return cast("ast.stmt", self.generic_visit(node))
        node.value = None if node.value is None else self.visit(node.value)
        return node  # the annotation is kept as its text


def with_values(code: CodeType, values: list[object]) -> CodeType:
    """Code compiled of a filled statement, with the values in it."""
    if not values:
        return code

    def real(constant: object) -> object:
        if isinstance(constant, CodeType):
            return with_values(constant, values)
        if isinstance(constant, str) and constant.startswith(_MARK):
            return values[int(constant.removeprefix(_MARK))]
        return constant

    return code.replace(co_consts=tuple(map(real, code.co_consts)))


def in_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that stand in comprehensions and lambdas, and do not see the names
    of the class around.
    """
    for part in ast.walk(node):
        inside: list[ast.AST] = []
        if isinstance(part, Comprehension):
            first = part.generators[0].iter
            below = (each for one in ast.iter_child_nodes(part) for each in _flat(one))
            inside = [each for each in below if each is not first]
        elif isinstance(part, ast.Lambda):
            inside = [part.body]
        for each in inside:
            yield from ast.walk(each)


def _flat(node: ast.AST) -> list[ast.AST]:
    """A node; for a generator of a comprehension what is in it."""
    return [*ast.iter_child_nodes(node)] if isinstance(node, ast.comprehension) else [node]


def _targets(node: Comprehension) -> set[str]:
    """The names that a comprehension binds for itself."""
    every = (part for each in node.generators for part in ast.walk(each.target))
    return {part.id for part in every if isinstance(part, ast.Name)}


def _parameters(node: ast.Lambda) -> set[str]:
    return {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
