"""Whatever the edit, a patch is right or refused: the live module shows what a fresh import of
the new source shows.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

LITERALS = (
    "1",
    "2",
    "-3",
    "2.5",
    "True",
    "None",
    "'a'",
    "'b'",
    "(1, 'x')",
    "()",
    "b'z'",
    "0",
    "-0.0",
    "1.0",
)


class Writer:
    """Writes a module from a seed, and the same module again with some of its parts edited."""

    def __init__(self, seed: int, edits: int) -> None:
        self.seed = seed
        self.edits = edits

    def source(self, *, edited: bool) -> str:
        """The base, or the base with about `edits` of its choices made anew."""
        self.rng = random.Random(self.seed)
        self.edit = random.Random(self.seed + 1) if edited else None
        parts = [self.part(number) for number in range(self.rng.randint(2, 7))]
        if self.edit is not None:
            if self.edit.random() < 0.2:
                parts.append(self.fresh())
            if self.edit.random() < 0.15:
                parts.pop(self.edit.randrange(len(parts)))
        return "\n\n".join(parts) + "\n"

    def pick(self, choices: tuple[str, ...]) -> str:
        """One choice; the edited module now and then takes another one."""
        taken = self.rng.choice(choices)
        if self.edit is not None and self.edit.random() < self.edits / 40:
            return self.edit.choice(choices)
        return taken

    def value(self) -> str:
        """A literal, or an expression of the constants before."""
        return self.pick((*LITERALS, "X0", "f'{X0}!'", "(X0, X0)", "str(X0)"))

    def fresh(self) -> str:
        """A definition that only the edited module has."""
        return f"def added(n={self.value()}):\n    return n, X0"

    def part(self, number: int) -> str:
        """One definition at module level; the first is always the constant X0."""
        if number == 0:
            return f"X0 = {self.pick(LITERALS)}"
        kinds = (
            *(self.constant, self.function, self.klass, self.maker, self.generator, self.table),
            *(self.function, self.subclass, self.branch, self.decorated, self.dataclass, self.lamb),
        )
        return self.rng.choice(kinds)(number)

    def constant(self, number: int) -> str:
        return f"K{number} = {self.value()}"

    def table(self, number: int) -> str:
        return f"T{number} = {{'a': {self.pick(LITERALS)}}}"

    def parameters(self) -> str:
        default = self.pick(("", "1", "'d'", "X0", "[]", "None"))
        extra = self.pick(("", "", "", ", e=5", ", *, k=X0", ", *rest"))
        return self.pick(("a", "a", "b")) + (f"={default}" if default else "") + extra

    def body(self, indent: str) -> str:
        doc = self.pick(('"""One."""', '"""Two."""', "pass"))
        loop = self.pick(("x = 1", "x = 2", "x = [y for y in (1, 2)]", "x = (lambda q: q)(3)"))
        return f"{indent}{doc}\n{indent}{loop}\n{indent}return x, {self.value()}"

    def function(self, number: int) -> str:
        comment = self.pick(("", "# words\n", "\n\n"))
        return f"{comment}def f{number}({self.parameters()}):\n{self.body('    ')}"

    def generator(self, number: int) -> str:
        return f"def g{number}():\n    yield {self.value()}\n    yield {self.value()}"

    def maker(self, number: int) -> str:
        uses = self.pick(("a", "a", "b", "(a, b)"))
        inner = f"    def inner(n=0):\n        return {uses}, {self.value()}\n    return inner"
        return f"def make{number}(a=1, b=2):\n{inner}"

    def klass(self, number: int) -> str:
        lines = [f"class C{number}:", f"    attr = {self.value()}"]
        lines += ["    def __init__(self):", f"        self.n = {self.value()}"]
        kind = self.pick(
            ("", "", "", "@property\n    ", "@staticmethod\n    ", "@classmethod\n    ")
        )
        own = {"@staticmethod\n    ": ""}.get(kind, "self")
        lines += [f"    {kind}def m({own}):", self.body("        ")]
        lines += ["    def __secret(self):", f"        return {self.value()}"]
        lines += ["    def open(self):", "        return self.__secret(), self.n, self.attr"]
        return "\n".join(lines)

    def subclass(self, number: int) -> str:
        uses = self.pick(("super().m()", "super().m(), 1", "1", "self.__own, super().m()"))
        return (
            f"class A{number}:\n    LIMIT = {self.value()}\n    __own = {self.value()}\n"
            f"    def m(self, n=LIMIT):\n        return n, {self.value()}, self.__own\n"
            f"class B{number}(A{number}):\n    __own = {self.value()}\n"
            f"    def m(self):\n        return {uses}\n"
        )

    def branch(self, number: int) -> str:
        test = self.pick(("X0 is not None", "X0 is not None", "True", "X0 == 'no'"))
        return (
            f"if {test}:\n    def b{number}():\n        return {self.value()}\n"
            f"else:\n    def b{number}():\n        return {self.value()}, 'else'\n"
            f"try:\n    import no_such_module_x\n"
            f"except ImportError:\n    N{number} = {self.value()}"
        )

    def decorated(self, number: int) -> str:
        doc = self.pick(("One.", "One.", "Two."))
        return (
            f"import functools\ndef deco{number}(f):\n    @functools.wraps(f)\n"
            f"    def wrapper(*a):\n        return {self.pick(LITERALS)}, f(*a)\n"
            f"    return wrapper\n@deco{number}\ndef d{number}(a=1):\n"
            f'    """{doc}"""\n    return a, {self.value()}\n'
            f"@functools.lru_cache\ndef c{number}(a=1):\n    return a, {self.value()}"
        )

    def dataclass(self, number: int) -> str:
        return (
            f"from dataclasses import dataclass\n@dataclass\nclass D{number}:\n"
            f"    x: int = {self.pick(('1', '1', '1', '2'))}\n"
            f"    def get(self):\n        return self.x, {self.value()}"
        )

    def lamb(self, number: int) -> str:
        return f"l{number} = lambda a=1: (a, {self.value()})\nalias{number} = l{number}"


USER = """
import m
from m import X0
TEXT = f"{X0}?"
def read(n=X0):
    return X0, TEXT, m.X0, n
class Reader:
    value = X0
"""


def _importable(source: str) -> bool:
    try:
        exec(compile(source, "<probe>", "exec", dont_inherit=True), {"__name__": "probe"})
    except Exception:  # noqa: BLE001  # whatever it is, the module cannot be imported
        return False
    return True


def _case(base: str, new: str) -> dict[str, Any]:
    live = (
        "held = {k: v for k, v in vars(m).items() if inspect.isfunction(v)}\n"
        "classes = [v for v in vars(m).values() if isinstance(v, type)]\n"
        "closures = {k: v() for k, v in held.items() if k.startswith('make')}\n"
    )
    # A module that has no X0 any more cannot be seen through the one that imports it.
    seen = {"m": new, "user": USER} if new.startswith("X0") else {"m": new}
    now = (
        f"same_as_fresh({seen!r})\n"
        "all(getattr(m, k, v) is v for k, v in held.items())\n"
        "all(getattr(m, c.__name__, c) is c for c in classes)\n"
        "all(called(f) == called(getattr(m, k)()) for k, f in closures.items() if hasattr(m, k))\n"
    )
    back = f"same_as_fresh({ {'m': base, 'user': USER}!r})"
    sections = {"live": live, "now": now, "back": back, "either": ""}
    empty: dict[str, Any] = {"outside": {}, "gone": [], "lazy": []}
    files = {"m.py": base, "user.py": USER}
    return {"base": files, "new": {"m.py": new}, "sections": sections, **empty}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**9), edits=st.integers(1, 4))
def test_right_or_refused(
    run_case: Callable[[dict[str, Any]], dict[str, Any]], seed: int, edits: int
) -> None:
    """A random edit of a random module is applied rightly, and undone, or refused with nothing
    touched.
    """
    writer = Writer(seed, edits)
    base, new = writer.source(edited=False), writer.source(edited=True)
    assume(_importable(new))
    report = run_case(_case(base, new))
    event("refused" if report["refused"] else "applied")
    assert not report["failed"], f"{report['failed']}\n--- base\n{base}\n--- new\n{new}"
