from __future__ import annotations

import marshal
import sys
import textwrap
import types
from typing import Any, Protocol

import pytest

from zdpatch.patcher import codes


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(
        self,
        script: str,
        *,
        files: dict[str, str] = ...,
        flags: tuple[str, ...] = ...,
        env: dict[str, str] = ...,
    ) -> str: ...


SHOP = """
    import enum

    RATE = 2
    def price(x, y=3, *args, z, **kw):
        "What it costs."
        total = 0
        for i in range(x):
            try:
                total += i * y
            except (TypeError, ValueError) as error:
                raise SystemExit(str(error)) from None
            finally:
                total -= 1
        assert total < 10**9, "much"
        return total, {"a", "b", "c"} & kw.keys(), x in {"p", "q", "r"}

    class Cart:
        "State."
        __slots__ = ("a", "b")
        x = 7
        limits = (1, 2, 7)

        def __init__(self):
            self.b = 1
            self.a = self.b
            self.__hidden()

        def __hidden(self):
            return [v for v in (1, 2) if v], (lambda q: q + self.a), (w for w in "ab")

        class Line:
            def total(self):
                return super().__repr__()

        with open(__file__) as handle:
            first = handle.readline()

    async def fetch(n):
        async for item in stream(n):
            yield item

    def outer(a):
        b = a
        def inner():
            nonlocal b
            b += 1
            return b
        return inner

    async def stream(n):
        for i in range(n):
            yield i
"""


def compiled(source: str, filename: str = "shop.py") -> types.CodeType:
    return codes.compile_source(textwrap.dedent(source).encode(), filename)


def test_one_digest_wherever_the_lines_and_the_file_are() -> None:
    """Blank lines and comments before and between definitions do not show, nor the file's name."""
    moved = "\n# moved\n" * 40 + textwrap.dedent(SHOP).replace("\n\n", "\n\n\n# note\n\n")
    assert codes.same(compiled(SHOP), compiled(moved, "elsewhere.py"))


@pytest.mark.parametrize("lines", range(8))
def test_a_class_whose_first_line_equals_one_of_its_constants(lines: int) -> None:
    """3.13 stores its first line among the constants of a class body; no coincidence shows."""
    source = "\n" * lines + "class A:\n    x = 3\n    y = (4, 5)\n    __slots__ = ('a', 'b')\n"
    body = "    def f(self):\n        self.b = self.a = 1\n"
    assert codes.same(compiled(source + body), compiled("\n" * 300 + source + body))
    assert not codes.same(compiled(source + body), compiled(source + body.replace("1", "2")))


def test_hash_order_does_not_show(run_child: RunChild) -> None:
    """Sets in constants, and 3.13.0's list of attributes, have another order in every process."""
    script = f"""
        from zdpatch.patcher import codes
        print(codes.digest(codes.compile_source({textwrap.dedent(SHOP).encode()!r}, "x")).hex())
    """
    seen = {run_child(script, env={"PYTHONHASHSEED": seed}) for seed in ("0", "1", "2", "3")}
    assert len(seen) == 1


@pytest.mark.parametrize("flags", [(), ("-O",), ("-OO",)])
def test_code_from_a_compiled_file_equals_code_from_source(
    run_child: RunChild, flags: tuple[str, ...]
) -> None:
    """What is imported from a .pyc has the digest of its source, under -O and -OO too."""
    script = f"""
        import importlib.util, py_compile, shop
        from zdpatch.patcher import codes
        cached = importlib.util.cache_from_source(shop.__file__)
        stored = importlib.machinery.SourcelessFileLoader("shop", cached).get_code("shop")
        fresh = codes.compile_source(open(shop.__file__, "rb").read(), "new name")
        assert codes.same(stored, fresh)
        assert codes.same(shop.price.__code__, codes.flatten(fresh)["price"][0])
        print((shop.price.__doc__ is None) == {"-OO" in flags})
    """
    assert run_child(script, files={"shop.py": SHOP}, flags=flags) == "True\n"


def test_warm_code_equals_cold_code() -> None:
    """What the interpreter specialises while code runs does not show."""
    space: dict[str, Any] = {"__file__": __file__, "__name__": "shop"}
    base = compiled(SHOP)
    exec(base, space)
    for _ in range(200):
        space["price"](3, z=1)
        space["Cart"]()
        space["outer"](1)()
    flat = codes.flatten(compiled(SHOP))
    for function in (space["price"], space["outer"], space["Cart"].__init__):
        assert codes.same(function.__code__, flat[function.__code__.co_qualname][0])
    assert codes.same(base, compiled(SHOP))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_monitored_code_equals_plain_code(run_child: RunChild) -> None:
    """Every event of sys.monitoring rewrites instructions; none of it shows."""
    script = """
        import sys, shop
        from zdpatch.patcher import codes
        m = sys.monitoring
        m.use_tool_id(3, "all")
        every = [getattr(m.events, n) for n in dir(m.events) if n.isupper() and n != "NO_EVENTS"]
        for event in every:
            try:
                m.set_events(3, m.get_events(3) | event)
            except ValueError:
                pass
        assert m.get_events(3)
        for event in every:
            m.register_callback(3, event, lambda *a: None)
        for _ in range(50):
            shop.price(3, z=1), shop.Cart(), shop.outer(1)()
        flat = codes.flatten(codes.compile_source(open(shop.__file__, "rb").read(), "x"))
        for f in (shop.price, shop.outer, shop.Cart.__init__, shop.Cart._Cart__hidden):
            assert codes.same(f.__code__, flat[f.__code__.co_qualname][0]), f
        print("ok")
    """
    assert run_child(script, files={"shop.py": SHOP}) == "ok\n"


def test_traced_and_covered_code_equals_plain_code(run_child: RunChild) -> None:
    """sys.settrace, sys.setprofile and coverage leave the digest alone."""
    script = """
        import sys, coverage
        cover = coverage.Coverage(data_file=None, config_file=False)
        cover.start()
        import shop
        from zdpatch.patcher import codes
        for _ in range(50):
            shop.price(3, z=1), shop.Cart()
        cover.stop()
        sys.settrace(lambda *a: None)
        sys.setprofile(lambda *a: None)
        shop.price(3, z=1)
        flat = codes.flatten(codes.compile_source(open(shop.__file__, "rb").read(), "x"))
        assert codes.same(shop.price.__code__, flat["price"][0])
        sys.settrace(None)
        sys.setprofile(None)
        print("ok")
    """
    assert run_child(script, files={"shop.py": SHOP}) == "ok\n"


CONSTANTS = (
    *("1", "1.0", "True", "1j", "-0.0", "0.0", "0", "False", "0j", "1e999-1e999", "1e999"),
    *("'1'", "b'1'", "''", "b''", "None", "...", "()", "(1,)", "(1.0,)", "(True,)", "((1,),)"),
    *("'\\ud800'", "'a\\x00b'", "-1", "10**30", "(1, 2)", "(2, 1)", "'(1, 2)'", "1_0"),
)


def test_every_constant_has_its_own_digest() -> None:
    """Equal values of different types, signed zeros and texts that look like others are apart."""
    digests = {codes.digest(compiled(f"def f():\n    return {c}\n")) for c in CONSTANTS}
    assert len(digests) == len(CONSTANTS)


def test_a_number_of_ten_thousand_digits_has_a_digest() -> None:
    """The limit on converting numbers to decimal text does not matter."""
    source = "x = 0x" + "f" * 10_000
    assert codes.same(compiled(source), marshal.loads(marshal.dumps(compiled(source))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a, b): pass", "def f(b, a): pass"),
        ("def f(a): pass", "def f(*, a): pass"),
        ("def f(a): pass", "def f(a, /): pass"),
        ("def f(*a): pass", "def f(**a): pass"),
        ("def f(): return x", "def f(): return y"),
        ("def f(): return x.y", "def f(): return y.x"),
        ("def f(): return 1", "async def f(): return 1"),
        ("def f(): return (yield)", "async def f(): return await x"),
        ("def f(): return lambda: 1", "def f(): return lambda: 2"),
        ("class A:\n    def f(self): pass", "class B:\n    def f(self): pass"),
        ("try: a()\nexcept E: pass", "try: a()\nexcept E: raise"),
        ("def f(a):\n    def g(): return a", "def f(a):\n    def g(): return b"),
        ("x = 'a' in {'a', 'b'}", "x = 'a' in ('a', 'b')"),
        ("'one'", "'two'"),
    ],
)
def test_what_does_something_else_has_another_digest(one: str, other: str) -> None:
    """Parameters, names, kinds, nested code, handlers and docstrings count."""
    assert not codes.same(compiled(one), compiled(other))


def test_annotations_future_leaves_bodies_alone() -> None:
    """The flags of __future__ statements are not part of what a function does."""
    plain, future = "def f(x): return x\n", "from __future__ import annotations\n"
    one, other = compiled(plain), compiled(future + plain)
    assert codes.same(codes.flatten(one)["f"][0], codes.flatten(other)["f"][0])


def test_flatten_lists_alternatives_in_order() -> None:
    """Overloads, branches and lambdas share a path; comprehensions and class bodies have none."""
    source = """
        def f(): return 1
        def f(): return 2
        if X:
            def g(): return 1
        else:
            def g(): return 2
        pair = [lambda x: x + 1, lambda x: x + 2]
        class C:
            def m(self): return [x for x in y], (z for z in y), {w: w for w in y}
            class D:
                def n(self):
                    def deep(): pass
    """
    flat = codes.flatten(compiled(source))
    assert {path: len(found) for path, found in flat.items()} == {
        "f": 2,
        "g": 2,
        "<lambda>": 2,
        "C.m": 1,
        "C.D.n": 1,
        "C.D.n.<locals>.deep": 1,
    }
    assert [c.co_consts[-1] for c in flat["f"]] == [1, 2]
    assert list(codes.class_bodies(compiled(source))) == ["C", "C.D"]
    lines = [codes.position(c) for c in flat["<lambda>"]]
    assert lines == sorted(set(lines))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with 3.12")
def test_scopes_of_type_parameters_are_not_functions() -> None:
    """The hidden scope of `def f[T]` is passed through."""
    flat = codes.flatten(compiled("def f[T](x: T): pass\nclass A[T]:\n    def m(self): pass\n"))
    assert set(flat) == {"f", "A.m"}


def test_kinds_and_loops() -> None:
    """The kind of a call's result, and whether the code can go round."""
    source = """
        def f(): return 1
        def g(): yield 1
        async def c(): await x
        async def a(): yield 1
        def forever():
            while True: pass
        def each(x):
            for y in x: print(y)
        def delegated(): yield from x
        async def ticks():
            async for t in x: await t
        async def careful():
            try:
                await x
            except E:
                print()
            async with y: await z
            return 1
        def retry():
            while True:
                try:
                    return attempt()
                except E:
                    continue
        async def until(x):
            while x:
                await x
    """
    flat = {path: found[0] for path, found in codes.flatten(compiled(source)).items()}
    kinds = [codes.kind(flat[path]) for path in "fgca"]
    assert kinds == ["function", "generator", "coroutine", "async generator"]
    assert {path for path, code in flat.items() if codes.loops(code)} == {
        *("forever", "each", "ticks", "retry", "until"),
    }
    assert {path for path, code in flat.items() if codes.endless(code)} == {
        *("forever", "retry", "until"),
    }


def test_what_types_coroutine_does_is_kept_and_not_compared() -> None:
    """types.coroutine replaces a generator's code to mark it; the mark is carried over."""
    space: dict[str, Any] = {}
    exec(compiled("def g():\n    yield 1\nplain = g.__code__"), space)
    marked = types.coroutine(space["g"])
    live = marked.__code__
    assert live is not space["plain"]
    assert codes.same(live, space["plain"])
    new = codes.flatten(compiled("def g():\n    yield 2\n"))["g"][0]
    assert codes.like_live(new, live).co_flags == live.co_flags
    assert codes.like_live(new, space["plain"]) is new


@pytest.mark.parametrize("source", [b"x = (", b"a\0b", b"(" * 5000, b"# coding: none\n", b"\xff=1"])
def test_whatever_cannot_be_compiled_is_a_syntax_error(source: bytes) -> None:
    """Null bytes, depth and wrong encodings are reported as one kind of error."""
    with pytest.raises(SyntaxError):
        codes.compile_source(source, "x.py")


def test_the_encoding_cookie_is_obeyed() -> None:
    """Source is bytes, so its own encoding counts."""
    source = "# -*- coding: latin-1 -*-\nx = '\xe9'\n".encode("latin-1")
    assert "\xe9" in codes.compile_source(source, "x.py").co_consts
