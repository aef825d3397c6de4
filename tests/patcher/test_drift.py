from __future__ import annotations

from typing import Protocol

import pytest


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, files: dict[str, str] = ...) -> str: ...


START = """
    import sys, types
    from unittest import mock
    from zdpatch.patcher import codes, inventory
    import other, shop

    def base():
        with open(shop.__file__, "rb") as file:
            return codes.compile_source(file.read(), "<base>")

    def drift(heap=False, known=()):
        found = inventory.drift(inventory.take(shop, heap=heap), base(), known)
        return [(d.path, d.kind) for d in found]
"""

FILES = {
    "other.py": "def stranger(*args): return 'other'\nclass Cart: pass\n",
    "shop.py": """
        import abc, dataclasses, enum, functools, typing

        LIMIT = 1
        def price(x): return x
        def taxed(x): return price(x) + 1
        def deco(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args)
            return wrapper
        @deco
        def wrapped(x): return x
        def make():
            def made(): return 1
            return made
        maker = make()

        class Cart:
            rate = 1
            def total(self): return 1
            def _secret(self): return 1
            def __mangled(self): return 1
            @property
            def size(self): return 1
            @staticmethod
            def still(): return 1
            def __class_getitem__(cls, item): return cls
            class Line:
                def amount(self): return 1
        class Abstract(abc.ABC):
            def solid(self): return 1
            @abc.abstractmethod
            def gap(self): ...
        class Colour(enum.Enum):
            RED = 1
            def shade(self): return 1
        @dataclasses.dataclass
        class Row:
            a: int = 1
            def sum(self): return self.a
    """,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("shop.price = other.stranger", ("shop:price", "replaced")),
        ("shop.price = shop.taxed", ("shop:price", "replaced")),
        ("shop.price = lambda x: x", ("shop:price", "replaced")),
        ("shop.price = len", ("shop:price", "replaced")),
        ("shop.price = mock.Mock()", ("shop:price", "replaced")),
        ("shop.price = shop.deco(shop.price)", ("shop:price", "replaced")),
        ("del shop.price", ("shop:price", "missing")),
        ("shop.price.__code__ = other.stranger.__code__", ("shop:price", "replaced")),
        ("shop.price.__code__ = shop.taxed.__code__", ("shop:price", "replaced")),
        (
            "shop.price.__code__ = shop.price.__code__.replace(co_consts=(1,))",
            ("shop:price", "changed"),
        ),
        ("shop.Cart.total = other.stranger", ("shop:Cart.total", "replaced")),
        ("shop.Cart.total = shop.Cart._secret", ("shop:Cart.total", "replaced")),
        ("shop.Cart.total = staticmethod(shop.Cart.total)", ("shop:Cart.total", "replaced")),
        ("mock.patch.object(shop.Cart, 'total').start()", ("shop:Cart.total", "replaced")),
        (
            "mock.patch.object(shop.Cart, 'total', autospec=True).start()",
            ("shop:Cart.total", "replaced"),
        ),
        ("del shop.Cart.total", ("shop:Cart.total", "missing")),
        ("shop.Cart._Cart__mangled = len", ("shop:Cart.__mangled", "replaced")),
        ("shop.Cart.Line.amount = other.stranger", ("shop:Cart.Line.amount", "replaced")),
        ("shop.Cart.Line = other.Cart", ("shop:Cart.Line", "replaced")),
        ("shop.Cart.__class_getitem__ = len", ("shop:Cart.__class_getitem__", "replaced")),
        ("shop.Abstract.solid = other.stranger", ("shop:Abstract.solid", "replaced")),
        ("shop.Colour.shade = other.stranger", ("shop:Colour.shade", "replaced")),
        ("shop.Row.sum = other.stranger", ("shop:Row.sum", "replaced")),
        ("mock.patch('shop.Cart').start()", ("shop:Cart", "replaced")),
        ("shop.Cart = type('Fake', (), {})", ("shop:Cart", "replaced")),
        ("del shop.Cart", ("shop:Cart", "missing")),
        (
            "f = shop.wrapped.__wrapped__; f.__code__ = f.__code__.replace(co_consts=(1, 2))",
            ("shop:wrapped", "changed"),
        ),
        (
            "f = shop.maker; f.__code__ = f.__code__.replace(co_consts=(None, 2))",
            ("shop:make.<locals>.made", "changed"),
        ),
        (
            "exec(compile('def late(): pass', shop.__file__, 'exec'), vars(shop))",
            ("shop:late", "unknown"),
        ),
    ],
)
def test_what_was_changed_behind_the_source_is_named(
    run_child: RunChild, change: str, expected: tuple[str, str]
) -> None:
    """Monkeypatches, mocks, deleted names and replaced code of each kind are drift, once."""
    script = START + f"    assert drift() == []\n    {change}\n    print(drift())\n"
    assert run_child(script, files=FILES) == f"{[expected]}\n"


LAWFUL = """
    import abc, collections, dataclasses, enum, functools, sys, types, typing

    def rebound(x): return x
    rebound = functools.lru_cache(rebound)
    def gone(): pass
    del gone
    def replaced_by_other(): return 1
    def install():
        global replaced_by_other
        replaced_by_other = len
    install()
    if sys.version_info > (99,):
        def never(): return 1
    else:
        def otherwise(): return 1
    try:
        import nothing_of_this_name
    except ImportError:
        def fallback(): return 1
        nothing_of_this_name = None
    else:
        def not_taken(): return 1
    for number in range(0):
        def in_a_loop(): pass
    with open(__file__) as handle:
        def inside(): pass
    while False:
        def unreachable(): pass
    def both(): return 1
    def both(): return 2
    @typing.overload
    def loaded(x: int) -> int: ...
    @typing.overload
    def loaded(x: str) -> str: ...
    def loaded(x): return x
    def registered(f):
        return None
    @registered
    def lost(): pass

    @dataclasses.dataclass(order=True, slots=True)
    class Row:
        a: int = 1
        def total(self): return self.a
        def __post_init__(self): pass
    class Pair(typing.NamedTuple):
        a: int
        def swap(self): return Pair(self.a)
    Point = collections.namedtuple("Point", "x y")
    class Colour(enum.Enum):
        RED = 1
        def __new__(cls, value):
            made = object.__new__(cls)
            made._value_ = value
            return made
        def _generate_next_value_(name, start, count, last): return name
        def shade(self): return 1
    class Shape(typing.Protocol):
        def area(self) -> int: ...
        def __init__(self): ...
    class Generic(typing.Generic[typing.TypeVar("T")]):
        def __init__(self): pass
        def __init_subclass__(cls): pass
        def __new__(cls): return super().__new__(cls)
    @functools.total_ordering
    class Ordered:
        def __lt__(self, other): return False
        def __eq__(self, other): return True
    class Wrapping(type):
        def __new__(meta, name, bases, space):
            for key, value in list(space.items()):
                if type(value) is types.FunctionType:
                    space[key] = functools.wraps(value)(lambda *a, f=value: f(*a))
            return super().__new__(meta, name, bases, space)
    class Wrapped(metaclass=Wrapping):
        def method(self): return 1
    def logged(cls):
        cls.method = functools.partialmethod(cls.method)
        return cls
    @logged
    class Decorated:
        def method(self): return 1
    class Plugin:
        def __init_subclass__(cls):
            original = cls.run
            cls.run = lambda self: original(self)
    class One(Plugin):
        def run(self): return 1
    class Assigned:
        def method(self): return 1
    Assigned.method = functools.lru_cache(Assigned.method)
    class Interface(type):
        def __new__(meta, name, bases, space):
            return ("no class", space) if bases else super().__new__(meta, name, bases, space)
    class Root(metaclass=Interface): pass
    class IThing(Root):
        def ask(self): return 1
    class Conditional:
        if sys.version_info > (99,):
            def never(self): return 1
        def __secret(self): pass
        def temporary(self): pass
        del temporary
    space = {}
    exec("def made(): return 1\\ndef rebound_too(): return 2", globals())
    generated = eval("lambda: 1")
    @types.coroutine
    def marked():
        yield
"""


def test_what_programs_do_lawfully_is_not_drift(run_child: RunChild) -> None:
    """Decorators, generated code, conditions, metaclasses, deleted and rebound names are fine."""
    script = START.replace("import other, shop", "import shop") + (
        "    assert drift() == [] and drift(heap=True) == [], drift(heap=True)\n"
    )
    run_child(script, files={"shop.py": LAWFUL})


def test_submodules_may_hide_a_function_of_their_name(run_child: RunChild) -> None:
    """Importing `shop.price` puts the module where the package had a function."""
    script = START + "    import shop.price\n    assert drift() == []\n"
    files = {
        "other.py": "",
        "shop/__init__.py": "def price(): return 1\n",
        "shop/price.py": "",
    }
    run_child(script, files=files)


def test_another_base_is_seen_function_by_function(run_child: RunChild) -> None:
    """A process that runs another release differs where it differs; lines are no difference."""
    script = (
        START
        + """
    with open(shop.__file__) as file:
        source = file.read()
    def against(text):
        found = inventory.drift(
            inventory.take(shop, heap=False), codes.compile_source(text.encode(), "x")
        )
        return [(d.path, d.kind) for d in found]
    assert against("# moved\\n" * 9 + source.replace("\\n\\n", "\\n\\n\\n")) == []
    changed = source.replace("price(x) + 1", "price(x) + 2")
    assert against(changed) == [("shop:taxed", "changed")], against(changed)
    renamed = source.replace("_secret", "_hidden")
    assert ("shop:Cart._secret", "unknown") in against(renamed)
    assert ("shop:Cart._hidden", "missing") in against(renamed)
    """
    )
    run_child(script, files=FILES)


def test_known_codes_are_explained(run_child: RunChild) -> None:
    """A closure that an active patch had to leave on its old code is no drift when it is told."""
    script = (
        START
        + """
    old = shop.maker.__code__.replace(co_consts=(None, 7))
    shop.maker.__code__ = old
    assert drift() == [("shop:make.<locals>.made", "changed")]
    assert drift(known=[old]) == []
    """
    )
    run_child(script, files=FILES)


def test_hundreds_of_real_modules_do_not_drift(run_child: RunChild) -> None:
    """What the standard library and frameworks do when they are imported is lawful."""
    script = """
        import importlib, sys, types, warnings
        warnings.simplefilter("ignore")
        wanted = (
            "jinja2.sandbox jinja2.ext starlette.applications uvicorn "
            "click rich.console cryptography.x509 securesystemslib.signer gunicorn.app.base "
            "asyncio concurrent.futures http.server email.message logging.config unittest.mock "
            "xml.etree.ElementTree argparse sqlite3 ctypes decimal urllib.request zipfile "
            "multiprocessing.managers pdb doctest ipaddress xmlrpc.client wsgiref.simple_server"
        )
        for name in wanted.split():
            try:
                importlib.import_module(name)
            except ImportError:
                continue
        from zdpatch.patcher import codes, inventory
        # Frozen copies have tuples for frozensets; Enum is taken apart; typing is monkeypatched.
        odd = ("site", "enum", "typing", "_frozen", "importlib._bootstrap", "__main__")
        looked = 0
        for name, module in list(sys.modules.items()):
            file = vars(module).get("__file__") if type(module) is types.ModuleType else None
            if not file or not file.endswith(".py") or name.startswith(odd):
                continue
            with open(file, "rb") as source:
                base = codes.compile_source(source.read(), "x")
            found = inventory.drift(inventory.take(module, heap=False), base)
            assert not found, found
            looked += 1
        print(looked > 250)
    """
    assert run_child(script) == "True\n"
