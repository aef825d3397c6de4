"""Two sources in, edits by definition path out: what differs at import time, and in which code
objects.

Bodies are compared by their compiled code (positions aside), so formatting, comments and the
annotations of locals are no edits; everything that runs at import is compared by its text.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING

from zdpatch.patcher import codes
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.names import FunctionNode, annotations_of
from zdpatch.patcher.outline import DEFINITIONS, Item, Outline, outline
from zdpatch.patcher.source import ModuleChange, file_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# facets of a function edit
BODY, DEFAULTS, SIGNATURE, KIND, DECORATORS, ANNOTATIONS, DOCSTRING = (
    "body", "defaults", "signature", "kind", "decorators", "annotations", "docstring",
)  # fmt: skip
_KIND_FLAGS = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR (inspect)


@dataclass(frozen=True, eq=False)
class Edit:
    """One difference at one definition path.

    `kind`: function, nested, added, removed, rebound, value, header, fields, effect, star, stale.
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


@dataclass(frozen=True, eq=False)
class Version:
    """One version of one module: its outline and its code."""

    outline: Outline
    filename: str

    @cached_property
    def code(self) -> CodeType:
        """The module's code, compiled with this process's flags when first asked for."""
        return codes.compile_source(self.outline.source, self.filename)

    @cached_property
    def _functions(self) -> dict[tuple[str, int], CodeType]:
        every = ((name, each) for name, group in self.flat.items() for each in group)
        return {(name, each.co_firstlineno): each for name, each in every}

    def code_of(self, item: Item) -> CodeType | None:
        """The code object of a function item; None where the compiler dropped it (`if 0:`)."""
        return self._functions.get((item.qualname, first_line(item.node)))

    @cached_property
    def flat(self) -> dict[str, list[CodeType]]:
        return codes.flatten(self.code)


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
    return ModuleVersions(change, base, side(change.new, file_name(patch_id, change.path)))


def diff(versions: ModuleVersions) -> list[Edit]:
    """The edits of one module which both sides have."""
    base, new = versions.base, versions.new
    if base is None or new is None or versions.change.base == versions.change.new:
        return []
    return list(
        _Scopes(versions.name, base, new).compare("", base.outline.items, new.outline.items)
    )


class _Scopes:
    """Walks the scopes of both versions in step."""

    def __init__(self, module: str, base: Version, new: Version) -> None:
        self.module = module
        self.base = base
        self.new = new

    def compare(
        self, scope: str, old_items: Iterable[Item], new_items: Iterable[Item]
    ) -> Iterator[Edit]:
        old, new = _by_name(old_items), _by_name(new_items)
        for name in dict.fromkeys([*new, *old]):
            yield from self._name(scope, name, old.get(name, []), new.get(name, []))
        yield from self._effects(scope, old_items, new_items)

    def _name(self, scope: str, name: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        qualname = f"{scope}.{name}" if scope else name
        old, new = _runtime(old), _runtime(new)
        if not old and not new:
            return
        if not old or not new:
            kind = "removed" if old else "added"
            yield Edit(self.module, qualname, kind, tuple(old), tuple(new))
            return
        if _group(old[-1]) != _group(new[-1]):
            yield Edit(self.module, qualname, "rebound", tuple(old), tuple(new))
            return
        kinds = [each.kind for each in new]
        mixed = "function" in kinds and kinds[-1] != "function"
        if mixed and kinds == [each.kind for each in old]:
            yield from self._mixed(qualname, old, new)
            return
        match new[-1].kind:
            case "function":
                yield from self._functions(qualname, old, new)
            case "class":
                yield from self._classes(qualname, old, new)
            case _:
                yield from self._values(qualname, old, new)

    def _mixed(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        """`def f` and then `f = deco(f)`: definitions by their code, the others by their text."""
        for before, after in zip(old, new, strict=True):
            if before.kind == "function":
                yield from self._function(qualname, before, after)
            elif before.shape != after.shape:
                yield Edit(self.module, qualname, "value", tuple(old), tuple(new))
                return

    def _values(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        if [_value_shape(item) for item in old] != [_value_shape(item) for item in new]:
            lambdas = self._lambdas(old, new)
            if lambdas is not None:
                yield from lambdas
                return
            yield Edit(self.module, qualname, "value", tuple(old), tuple(new))
        elif [item.shape for item in old] != [item.shape for item in new]:
            yield Edit(self.module, qualname, "fields", tuple(old), tuple(new))

    def _lambdas(self, old: list[Item], new: list[Item]) -> list[Edit] | None:
        """The edits when only bodies of lambdas differ, which then are at unchanged positions; else
        None.
        """
        if any(_runs_lambda(item.node) for item in (*old, *new)):
            return None
        if [_without_lambdas(item.node) for item in old] != [
            _without_lambdas(item.node) for item in new
        ]:
            return None
        found: list[Edit] = []
        for before, after in zip(old, new, strict=True):
            prefix = f"{before.scope}." if before.scope else ""
            pairs = zip(_lambda_nodes(before.node), _lambda_nodes(after.node), strict=True)
            for was, now in pairs:
                codes_ = _lambda_code(self.base, prefix, was), _lambda_code(self.new, prefix, now)
                if codes_[0] is None or codes_[1] is None:
                    return None
                if codes.digest(codes_[0]) != codes.digest(codes_[1]):
                    path = f"{prefix}<lambda>"
                    body = frozenset({BODY})
                    found.append(
                        Edit(self.module, path, "nested", (before,), (after,), body, codes_)
                    )
        return found

    def _functions(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        pairs, left_old, left_new = _pair(old, new)
        for before, after in pairs:
            yield from self._function(qualname, before, after)
        if left_old or left_new:
            yield Edit(
                self.module, qualname, "rebound", tuple(left_old or old), tuple(left_new or new)
            )

    def _function(self, qualname: str, old: Item, new: Item) -> Iterator[Edit]:
        if old.kind != "function" or new.kind != "function":
            if old.shape != new.shape:
                yield Edit(self.module, qualname, "rebound", (old,), (new,))
            return
        old_code, new_code = self.base.code_of(old), self.new.code_of(new)
        facets = function_facets(old, new, old_code, new_code)
        if facets:
            yield Edit(
                self.module, qualname, "function", (old,), (new,), facets, (old_code, new_code)
            )
        if old_code and new_code and BODY in facets:
            yield from _nested(self.module, old, new, old_code, new_code)

    def _classes(self, qualname: str, old: list[Item], new: list[Item]) -> Iterator[Edit]:
        if len(old) != len(new):
            yield Edit(self.module, qualname, "rebound", tuple(old), tuple(new))
            return
        for before, after in zip(old, new, strict=True):
            if before.kind != "class" or after.kind != "class":
                yield from self._function(qualname, before, after)
                continue
            if _header(before) != _header(after):
                yield Edit(self.module, qualname, "header", (before,), (after,))
            yield from self.compare(before.qualname, before.children, after.children)

    def _effects(
        self, scope: str, old_items: Iterable[Item], new_items: Iterable[Item]
    ) -> Iterator[Edit]:
        old = [item for item in old_items if item.kind in {"effect", "star"}]
        new = [item for item in new_items if item.kind in {"effect", "star"}]
        pending = list(old)
        for item in new:
            twin = next((each for each in pending if each.shape == item.shape), None)
            if twin is None:
                yield Edit(self.module, scope, "effect", (), (item,))
                continue
            pending.remove(twin)
            yield from self._inside(twin, item)
        for item in pending:
            yield Edit(self.module, scope, "effect", (item,), ())

    def _inside(self, old: Item, new: Item) -> Iterator[Edit]:
        """Definitions under the same branch: only their bodies can differ, their shapes are
        equal.
        """
        for before, after in zip(old.children, new.children, strict=True):
            if before.kind == "function":
                yield from self._function(after.qualname, before, after)
            elif before.kind == "class":
                yield from self._inside(before, after)


def _by_name(items: Iterable[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        if item.kind not in {"effect", "star"}:
            for name in item.names:
                found.setdefault(name, []).append(item)
    return found


def _runtime(items: list[Item]) -> list[Item]:
    """Without what only type checkers see: overloads which a later definition replaces."""
    kept = [item for item in items if item.role != "overload"]
    return kept or items


def _group(item: Item) -> str:
    return "value" if item.kind in {"import", "field"} else item.kind


def _value_shape(item: Item) -> str:
    """What decides the value: not its annotation. A bare annotation decides none."""
    if isinstance(item.node, ast.AnnAssign):
        return f"Assign {ast.dump(item.node.value)}" if item.node.value else ""
    if isinstance(item.node, ast.Assign) and len(item.node.targets) == 1:
        target = item.node.targets[0]
        if isinstance(target, ast.Name):
            return f"Assign {ast.dump(item.node.value)}"
    return item.shape


def _runs_lambda(node: ast.stmt) -> bool:
    """Whether a lambda of the statement may have been called by it already."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            given = [part.func, *part.args, *(word.value for word in part.keywords)]
            if any(isinstance(each, ast.Lambda) for each in given):
                return True
        comprehension = isinstance(
            part, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        )
        if comprehension and any(isinstance(each, ast.Lambda) for each in ast.walk(part)):
            return True
    return False


class _NoBodies(ast.NodeTransformer):
    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return ast.Lambda(node.args, ast.Constant(None))


def _without_lambdas(node: ast.stmt) -> str:
    return ast.dump(_NoBodies().visit(copy.deepcopy(node)))


def _lambda_nodes(node: ast.stmt) -> list[ast.Lambda]:
    """Outermost lambdas of a statement, in order of appearance."""
    found: list[ast.Lambda] = []

    def visit(part: ast.AST) -> None:
        for child in ast.iter_child_nodes(part):
            if isinstance(child, ast.Lambda):
                found.append(child)
            else:
                visit(child)

    visit(node)
    return found


def _lambda_code(version: Version, prefix: str, node: ast.Lambda) -> CodeType | None:
    """The code of a lambda, by line; None when another one on its line could be meant."""
    group = [
        c for c in version.flat.get(f"{prefix}<lambda>", []) if c.co_firstlineno == node.lineno
    ]
    return group[0] if len(group) == 1 else None


def _pair(
    old: list[Item], new: list[Item]
) -> tuple[list[tuple[Item, Item]], list[Item], list[Item]]:
    """Definitions of one name which belong together: by role, the last with the last."""
    pairs: list[tuple[Item, Item]] = []
    left_old, left_new = list(old), list(new)
    for after in reversed(new):
        before = next((each for each in reversed(left_old) if each.role == after.role), None)
        if before is not None:
            pairs.append((before, after))
            left_old.remove(before)
            left_new.remove(after)
    return pairs[::-1], left_old, left_new


def _header(item: Item) -> str:
    assert isinstance(item.node, ast.ClassDef)
    node = item.node
    parts = [*node.bases, *(word.value for word in node.keywords), *node.decorator_list]
    parts += getattr(node, "type_params", [])
    names = [word.arg or "**" for word in node.keywords]
    return "|".join([*map(ast.dump, parts), *names, str(len(node.bases))])


def function_facets(
    old: Item, new: Item, old_code: CodeType | None, new_code: CodeType | None
) -> frozenset[str]:
    """Which facets of a definition differ between two items of kind function."""
    before, after = old.node, new.node
    assert isinstance(before, FunctionNode)
    assert isinstance(after, FunctionNode)
    facets: set[str] = set()
    if _dumps(before.decorator_list) != _dumps(after.decorator_list):
        facets.add(DECORATORS)
    if signature_shape(before) != signature_shape(after):
        facets.add(SIGNATURE)
    if default_shapes(before) != default_shapes(after):
        facets.add(DEFAULTS)
    if _annotation_shape(old, before) != _annotation_shape(new, after):
        facets.add(ANNOTATIONS)
    if ast.get_docstring(before, clean=False) != ast.get_docstring(after, clean=False):
        facets.add(DOCSTRING)
    if old_code is None or new_code is None:
        if old_code is not new_code:
            facets.add(BODY)
    elif codes.digest(old_code) != codes.digest(new_code):
        facets.add(BODY)
        if (old_code.co_flags ^ new_code.co_flags) & _KIND_FLAGS:
            facets.add(KIND)
    return frozenset(facets)


def _dumps(nodes: Iterable[ast.AST]) -> list[str]:
    return [ast.dump(node) for node in nodes]


def _annotation_shape(item: Item, node: FunctionNode) -> tuple[bool, dict[str, str]]:
    found = {name: ast.dump(each) for name, each in annotations_of(node).items()}
    return bool(found) and item.lazy_annotations, found


def signature_shape(node: FunctionNode) -> tuple[object, ...]:
    """The parameters by kind and name, and which of them have a default."""
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    return (
        tuple(positional),
        len(args.posonlyargs),
        args.vararg.arg if args.vararg else None,
        tuple(each.arg for each in args.kwonlyargs),
        args.kwarg.arg if args.kwarg else None,
        len(args.defaults),
        tuple(each is not None for each in args.kw_defaults),
    )


def defaults(node: FunctionNode) -> dict[str, ast.expr]:
    """Default expressions by parameter name."""
    args = node.args
    positional = [each.arg for each in [*args.posonlyargs, *args.args]]
    found = dict(
        zip(positional[len(positional) - len(args.defaults) :], args.defaults, strict=True)
    )
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return found | {each.arg: value for each, value in pairs if value is not None}


def changed_defaults(edit: Edit) -> frozenset[str]:
    """Parameters whose default must be evaluated: its text differs, it is new, or it reads a
    changed name.
    """
    if not edit.facets & {DEFAULTS, SIGNATURE}:
        return frozenset()
    before, after = (default_shapes(_function_node(each[-1])) for each in (edit.old, edit.new))
    return edit.stale | {name for name, shape in after.items() if before.get(name) != shape}


def _function_node(item: Item) -> FunctionNode:
    assert isinstance(item.node, FunctionNode)
    return item.node


def default_shapes(node: FunctionNode) -> dict[str, str]:
    return {name: ast.dump(value) for name, value in defaults(node).items()}


# ---------------------------------------------------------------- functions inside functions


def _nested(
    module: str, old: Item, new: Item, old_code: CodeType, new_code: CodeType
) -> Iterator[Edit]:
    """Edits of the functions that `old` makes when it runs: closures of them may be alive."""
    shapes = _nested_shapes(old), _nested_shapes(new)
    before, after = _inner(old_code), _inner(new_code)
    for qualname, group in before.items():
        pairs, left = _pair_codes(group, after.get(qualname, []))
        for was, now in pairs:
            shape_was = shapes[0].get((qualname, was.co_firstlineno))
            shape_now = shapes[1].get((qualname, now.co_firstlineno))
            if codes.digest(was) == codes.digest(now) and shape_was == shape_now:
                continue
            facets = {BODY}
            if was.co_freevars != now.co_freevars:
                facets.add("free variables")
            if shape_was != shape_now or _arguments(was) != _arguments(now):
                facets.add(SIGNATURE)
            if (was.co_flags ^ now.co_flags) & _KIND_FLAGS:
                facets.add(KIND)
            yield Edit(module, qualname, "nested", (old,), (new,), frozenset(facets), (was, now))
        for was in left:
            yield Edit(
                module, qualname, "nested", (old,), (new,), frozenset({"removed"}), (was, None)
            )
    yield from _nested_classes(module, old, new, old_code, new_code)


def _nested_classes(
    module: str, old: Item, new: Item, old_code: CodeType, new_code: CodeType
) -> Iterator[Edit]:
    """Classes made by a function, of which more than bodies of methods differs."""
    after = codes.class_bodies(new_code)
    for qualname, group in codes.class_bodies(old_code).items():
        digests = [alone(each) for each in after.get(qualname, [])]
        if [alone(each) for each in group] != digests:
            what = frozenset({"class"})
            yield Edit(module, qualname, "nested", (old,), (new,), what, (group[0], None))


def alone(code: CodeType) -> bytes:
    """A digest without the functions it makes; its comprehensions are its own."""
    constants = (
        None if isinstance(each, CodeType) and codes.is_function_code(each) else each
        for each in code.co_consts
    )
    return codes.digest(code.replace(co_consts=tuple(constants)))


def _inner(code: CodeType) -> dict[str, list[CodeType]]:
    found = codes.flatten(code)
    return {name: group for name, group in found.items() if name != code.co_qualname}


def _pair_codes(
    old: list[CodeType], new: list[CodeType]
) -> tuple[list[tuple[CodeType, CodeType]], list[CodeType]]:
    """Code objects of one path: equal ones first; of the rest only a single one is known to be the
    same one.
    """
    if len(old) == 1 and len(new) == 1:
        return [(old[0], new[0])], []
    digests = [codes.digest(each) for each in new]
    pairs: list[tuple[CodeType, CodeType]] = []
    left: list[CodeType] = []
    free = list(range(len(new)))
    for each in old:
        twin = next((i for i in free if digests[i] == codes.digest(each)), None)
        if twin is None:
            left.append(each)
        else:
            free.remove(twin)
            pairs.append((each, new[twin]))
    if len(left) == 1 and len(free) == 1:
        return [*pairs, (left[0], new[free[0]])], []
    return pairs, left


def _arguments(code: CodeType) -> tuple[object, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    stars = code.co_flags & 0x0C  # CO_VARARGS | CO_VARKEYWORDS
    return (code.co_argcount, code.co_posonlyargcount, code.co_varnames[:count], stars)


def _nested_shapes(item: Item) -> dict[tuple[str, int], str]:
    """Parameters, defaults and decorators of the definitions inside a function: evaluated when it
    runs.
    """
    found: dict[tuple[str, int], str] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FunctionNode):
                name = f"{prefix}.{child.name}"
                shape = ast.dump(child.args) + "|".join(_dumps(child.decorator_list))
                found[name, first_line(child)] = shape
                visit(child, f"{name}.<locals>")
            elif isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}.{child.name}")
            elif isinstance(child, ast.Lambda):
                found[f"{prefix}.<lambda>", child.lineno] = ast.dump(child.args)
                visit(child, f"{prefix}.<lambda>.<locals>")
            else:
                visit(child, prefix)

    visit(item.node, f"{item.qualname}.<locals>")
    return found
