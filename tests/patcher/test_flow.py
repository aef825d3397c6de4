from __future__ import annotations

import textwrap

from zdpatch.patcher import codes
from zdpatch.patcher.bytecode import bound, stored_elsewhere

SOURCE = """
    import abc
    class A(B, f(1), metaclass=abc.ABCMeta):
        def m(self, a=1, *, b: int = 2): pass
        @staticmethod
        def s(): pass
        if X:
            def c(self): pass
        def after(self): pass
    @decorated
    class C: pass
    class D: pass
    try:
        import x
        def in_try(): pass
    except ImportError:
        def in_handler(): pass
    else:
        def in_else(): pass
    finally:
        def in_finally(): pass
    def between(): pass
    with a:
        def in_with(): pass
    for i in y:
        def in_for(): pass
    while z:
        def in_while(): pass
    if X:
        raise Y
    def after_raise(): pass
    @decorated
    def with_decorator(): pass
    name = lambda: 1
    def twice(): pass
    def twice(): pass
    def elsewhere(): pass
    def setter():
        global elsewhere
        elsewhere = 1
    match z:
        case 1:
            def in_case(): pass
    if X:
        def in_if(): pass
    elif Y:
        def in_elif(): pass
    else:
        def in_last_else(): pass
"""


def names(source: str) -> list[str]:
    code = codes.compile_source(textwrap.dedent(source).encode(), "x.py")
    return [made.name for made in bound(code, stored_elsewhere(code), frozenset()).definitions]


def test_only_what_surely_happens_is_a_plain_definition() -> None:
    """No condition, handler, loop, decorator or second store stands between it and its name."""
    found = names(SOURCE)
    # The body of `finally` is there twice, so its name is stored twice.
    assert found == ["A", "D", "between", "after_raise", "setter"]


def test_plain_definitions_of_a_class_body() -> None:
    """Mangled names are as the namespace has them; a condition at the end is seen."""
    code = codes.compile_source(textwrap.dedent(SOURCE).encode(), "x.py")
    (body,) = codes.class_bodies(code)["A"]
    assert [made.name for made in bound(body, frozenset(), frozenset()).definitions] == [
        "m",
        "after",
    ]
    mangled = codes.compile_source(b"class A:\n    def __m(self): pass\n", "x.py")
    (body,) = codes.class_bodies(mangled)["A"]
    assert [made.name for made in bound(body, frozenset(), frozenset()).definitions] == ["_A__m"]


def test_a_star_import_may_rebind_anything() -> None:
    """After `from x import *` no definition is sure."""
    assert names("def f(): pass\nfrom x import *\n") == []


def test_a_body_that_never_returns_has_nothing_sure() -> None:
    """A module that always raises binds nothing that anyone can hold it to."""
    assert names("def f(): pass\nraise SystemExit\n") == []


def test_branches_that_leave_the_body_are_branches() -> None:
    """The compiler ends each branch with a return of its own when nothing follows."""
    source = """
        if X:
            one = 1
        else:
            def other(): pass
    """
    assert names(source) == []
