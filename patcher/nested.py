"""Functions and classes inside functions, and lambdas: their code may be alive in closures.

They are paired by path and by what they do; only where one is left on either side is it known to
be the same one.
"""

from __future__ import annotations

import ast
import copy
from types import CodeType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import codes
from zdpatch.patcher.assigned import IN_CLASS, IN_FUNCTION
from zdpatch.patcher.captures import Captures, captures, recaptured
from zdpatch.patcher.edits import (
    ANNOTATIONS,
    BODY,
    KIND,
    KIND_FLAGS,
    SIGNATURE,
    Edit,
    Version,
    first_line,
)
from zdpatch.patcher.facets import default_shapes, dumps, signature_shape
from zdpatch.patcher.items import Item
from zdpatch.patcher.names import FunctionNode, annotations_of, dotted
from zdpatch.patcher.purity import origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# These keep a function they are given, and do not call it.
_KEEPERS: Final = frozenset(
    {"property", "staticmethod", "classmethod", "functools.partial", "functools.cached_property",
     "collections.defaultdict", "dataclasses.field"}
)  # fmt: skip


def nested_edits(
    module: str, old: Item, new: Item, old_code: CodeType, new_code: CodeType
) -> Iterator[Edit]:
    """Edits of the functions that `old` makes when it runs: closures of them may be alive."""
    if _inner(old_code):
        yield from _nested_functions(module, old, new, old_code, new_code)
    yield from _nested_classes(module, old, new, old_code, new_code)


def _nested_functions(
    module: str, old: Item, new: Item, old_code: CodeType, new_code: CodeType
) -> Iterator[Edit]:
    shapes, notes = zip(_nested_shapes(old), _nested_shapes(new), strict=True)
    bound = captures(old), captures(new)
    after = _inner(new_code)
    for qualname, group in _inner(old_code).items():
        pairs, left = _pair_codes(group, after.get(qualname, []))
        for was, now in pairs:
            shape_was = shapes[0].get((qualname, was.co_firstlineno))
            shape_now = shapes[1].get((qualname, now.co_firstlineno))
            hints = notes[0].get((qualname, was.co_firstlineno))
            facets = set[str]()
            if hints != notes[1].get((qualname, now.co_firstlineno)):
                facets.add(ANNOTATIONS)
            if codes.digest(was) != codes.digest(now) or shape_was != shape_now:
                facets.add(BODY)
            if not facets:
                continue
            if was.co_freevars != now.co_freevars:
                facets.add("free variables")
            if shape_was != shape_now or _arguments(was) != _arguments(now):
                facets.add(SIGNATURE)
            if _recaptured(bound, was, now):
                facets.add("captured variables")
            if (was.co_flags ^ now.co_flags) & KIND_FLAGS:
                facets.add(KIND)
            yield Edit(module, qualname, "nested", (old,), (new,), frozenset(facets), (was, now))
        for was in left:
            there = len(after.get(qualname, ())) > len(pairs)
            facets = {"unclear"} if there else {"removed"}
            yield Edit(module, qualname, "nested", (old,), (new,), frozenset(facets), (was, None))


def _recaptured(bound: tuple[Captures, Captures], was: CodeType, now: CodeType) -> list[str]:
    before, after = (
        table.get((code.co_qualname, code.co_firstlineno), {})
        for table, code in zip(bound, (was, now), strict=True)
    )
    return recaptured(before, after, now.co_freevars)


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
    """A digest without the functions it makes, and what these are known to set on their object; its
    comprehensions are its own.
    """
    return _ALONE.of(code)


def _alone(code: CodeType) -> bytes:
    if not codes.is_class_body(code) and next(codes.functions_in(code), None) is None:
        return codes.digest(code)  # there is nothing to leave out
    constants = (
        None if isinstance(each, CodeType) and codes.is_function_code(each) else each
        for each in code.co_consts
    )
    return codes.body_digest(code.replace(co_consts=tuple(constants)))


_ALONE: Final = codes.ByCode(_alone)


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


_Said = dict[tuple[str, int], str]  # by qualified name and first line


def _nested_shapes(item: Item) -> tuple[_Said, _Said]:
    """Parameters, defaults and decorators of the definitions inside a function, evaluated when it
    runs; and their annotations.
    """
    found, hints = _Said(), _Said()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FunctionNode):
                name = f"{prefix}.{child.name}"
                args = [signature_shape(child), default_shapes(child), dumps(child.decorator_list)]
                found[name, first_line(child)] = repr(args)
                said = [(who, ast.dump(each)) for who, each in annotations_of(child).items()]
                hints[name, first_line(child)] = repr(said)
                visit(child, f"{name}.<locals>")
            elif isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}.{child.name}")
            elif isinstance(child, ast.Lambda):
                found[f"{prefix}.<lambda>", child.lineno] = ast.dump(child.args)
                visit(child, f"{prefix}.<lambda>.<locals>")
            else:
                visit(child, prefix)

    visit(item.node, f"{item.qualname}.<locals>")
    return found, hints


def lambda_edits(
    base: Version, current: Version, old: list[Item], new: list[Item]
) -> list[Edit] | None:
    """The edits when only bodies of lambdas differ, which then are at unchanged positions; else
    None.
    """
    imports = current.outline.imports
    if any(_runs_lambda(item.node, imports) for item in (*old, *new)):
        return None
    if [_without_lambdas(item.node) for item in old] != [
        _without_lambdas(item.node) for item in new
    ]:
        return None
    found: list[Edit] = []
    for before, after in zip(old, new, strict=True):
        outside = before.role in {IN_CLASS, IN_FUNCTION}  # at the top level of the module
        prefix = f"{before.scope}." if before.scope and not outside else ""
        pairs = zip(_lambda_nodes(before.node), _lambda_nodes(after.node), strict=True)
        for was, now in pairs:
            codes_ = _lambda_code(base, prefix, was), _lambda_code(current, prefix, now)
            if codes_[0] is None or codes_[1] is None:
                return None
            if codes.digest(codes_[0]) != codes.digest(codes_[1]):
                path = f"{prefix}<lambda>"
                body = frozenset({BODY})
                found.append(
                    Edit(base.outline.name, path, "nested", (before,), (after,), body, codes_)
                )
    return found


def _runs_lambda(node: ast.stmt, imports: Mapping[str, str]) -> bool:
    """Whether a lambda of the statement may have been called by it already."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and origin(dotted(part.func) or "", imports) not in _KEEPERS:
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
    """The code of a lambda, by its place; None when another one could be meant."""
    body = node.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    group = [
        code
        for code in version.flat.get(f"{prefix}<lambda>", [])
        if code.co_firstlineno == node.lineno and _within(code, start, end)
    ]
    return group[0] if len(group) == 1 else None


def _within(code: CodeType, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Whether the instructions of `code` stand between two places (those without one aside)."""
    places = [p for p in code.co_positions() if None not in p and (p[2], p[3]) != (0, 0)]
    ends = [((p[0] or 0, p[2] or 0), (p[1] or 0, p[3] or 0)) for p in places]
    return all(start <= first and last <= end for first, last in ends)


def default_lambda_edits(
    base: Version, current: Version, old: Item, new: Item
) -> list[Edit] | None:
    """The edits when nothing but bodies of lambdas differs in the defaults of a function."""
    before, after = (_defaults_alone(item) for item in (old, new))
    return lambda_edits(base, current, [before], [after])


def _defaults_alone(item: Item) -> Item:
    assert isinstance(item.node, FunctionNode)
    args = item.node.args
    values = [*args.defaults, *filter(None, args.kw_defaults)]
    alone = ast.copy_location(ast.Expr(ast.Tuple(values, ast.Load())), item.node)
    return Item("value", item.scope, item.names, alone)
