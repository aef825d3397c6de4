from __future__ import annotations

from typing import Protocol


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(
        self, script: str, *, files: dict[str, str] = ..., flags: tuple[str, ...] = ...
    ) -> str: ...


START = """
    import gc, sys, types, threading
    from zdpatch.patcher import codes, inventory
    import shop

    def base(module=shop):
        with open(module.__file__, "rb") as file:
            return codes.compile_source(file.read(), "<base>")

    def paths(heap=False, module=shop):
        return set(inventory.take(module, heap=heap).functions)
"""

SHOP = """
    import collections, dataclasses, enum, functools, types

    def deco(f):
        @functools.wraps(f)
        def wrapper(*args):
            return f(*args)
        return wrapper

    @deco
    @deco
    def twice(x): return x
    @functools.lru_cache(maxsize=3)
    def cached(x): return x
    @functools.cache
    @deco
    def both(x): return x
    def plain(x, key=lambda v: v, *, other=lambda v: (v, v)): return x
    plain.attached = lambda: "attached"
    async def coro(): pass
    def gen(): yield
    part = functools.partial(deco(lambda: "in a partial"))
    registry = {"a": [({lambda: "deep"},)], 5: collections.deque([lambda: "deque"])}
    nested_default = collections.defaultdict(list, k=[lambda: "default"])
    def make(n):
        def counter(): return n
        return counter
    counters = [make(1), make(2)]

    @functools.singledispatch
    def shown(x): return "any"
    @shown.register
    def _shown_int(x: int): return "int"
    del _shown_int

    class Base:
        def __init_subclass__(cls, **kw): super().__init_subclass__(**kw)
        def hook(self): return "hook"
        class Inner:
            def inner(self): pass
            class Core:
                def core(self): pass
    class Thing(Base):
        __slots__ = ("kept",)
        def __init__(self): self.__secret()
        def __secret(self): pass
        @property
        def prop(self): return 1
        @prop.setter
        def prop(self, value): pass
        @prop.deleter
        def prop(self): pass
        @functools.cached_property
        def once(self): return 2
        @staticmethod
        def static(): pass
        @classmethod
        def klass(cls): pass
        pm = functools.partialmethod(lambda self, x: x, 1)
        @functools.singledispatchmethod
        def sdm(self, x): pass
    thing = Thing()
    thing.kept = lambda: "slot"
    thing.free = lambda: "dict"
    bound = thing.klass

    @dataclasses.dataclass(slots=True)
    class Row:
        a: int = 1
        def total(self): return self.a
    class Colour(enum.Enum):
        RED = 1
        def shade(self): return 1
        def __new__(cls, value):
            made = object.__new__(cls)
            made._value_ = value
            return made
    Pair = collections.namedtuple("Pair", "a b")
    def local():
        class Hidden(Base):
            def method(self): pass
        return Hidden
    only_subclass = local().__name__
    kept = [local()]
"""


def test_functions_are_found_wherever_they_hide(run_child: RunChild) -> None:
    """Every function code of a module full of wrappers and containers has its live function."""
    script = (
        START
        + """
    taken = inventory.take(shop, heap=False)
    assert taken.complete and taken.name == "shop" and taken.namespace is vars(shop)
    pairs = inventory.match(taken, base())
    flat = codes.flatten(base())
    assert set(pairs) == {(path, n) for path in flat for n in range(len(flat[path]))}
    assert [key for key, found in pairs.items() if not found] == []
    assert len(pairs["make.<locals>.counter", 0]) == 2
    assert len(pairs["deco.<locals>.wrapper", 0]) == 4
    assert inventory.ambiguous(taken, base()) == {}
    where = {f.qualname: f.where for group in taken.functions.values() for f in group}
    assert where["Thing.prop"].startswith("shop.Thing.__dict__['prop'].f")
    assert where["cached"] == "shop.cached.__wrapped__" and where["plain"] == "shop.plain"
    assert where["Base.Inner.Core.core"] == (
        "shop.Base.__dict__['Inner'].__dict__['Core'].__dict__['core']"
    )
    assert set(taken.classes) >= {
        *("Base", "Base.Inner", "Base.Inner.Core", "Thing", "Row", "Colour", "Pair"),
        "local.<locals>.Hidden",
    }
    assert taken.classes["Thing"] == [shop.Thing] and shop.Row in taken.classes["Row"]
    assert inventory.drift(taken, base()) == []
    assert inventory.drift(inventory.take(shop, heap=True), base()) == []
    """
    )
    for flags in ((), ("-O",), ("-OO",)):
        run_child(script, files={"shop.py": SHOP}, flags=flags)


def test_no_code_of_the_application_runs(run_child: RunChild) -> None:
    """Objects, metaclasses and modules whose every special method raises are walked past."""
    evil = """
        class Refuses(BaseException): pass
        def no(*args, **kw): raise Refuses
        names = ["getattribute", "getattr", "eq", "hash", "bool", "repr", "str", "len", "iter",
                 "contains", "instancecheck", "subclasscheck", "get", "call", "dir", "format",
                 "next", "getitem", "missing"]
        class Meta(type): pass
        class Evil(metaclass=Meta):
            def real(self): pass
        class EvilDict(dict):
            def real(self): pass
        class EvilList(list): pass
        class Liar:
            __class__ = property(no)
            __dict__ = property(no)
            __module__ = "elsewhere"
            def real(self): pass
        one, liar = Evil(), Liar()
        holder = {"one": one, "two": EvilDict(x=lambda: "in a dict")}
        listed = EvilList([lambda: "in a list"])
        object.__setattr__(one, "inside", lambda: "in an instance")
        class Key:
            def __hash__(self): return hash("plain")
            def __eq__(self, other): raise Refuses
        keyed = {Key(): lambda: "under a key"}
        def plain(): return 1
        for kind in (Meta, EvilDict, EvilList, Liar, Evil):
            for name in names:
                if not (kind is Meta and name == "call"):
                    type.__setattr__(kind, f"__{name}__", no)
    """
    script = """
    import sys
    class Lazy(type(sys)):
        def __getattribute__(self, name): raise SystemExit("touched")
    sys.modules["lazy"] = Lazy("lazy")
    class Proxy:
        @property
        def __class__(self): raise SystemExit("touched")
    sys.modules["proxy"] = Proxy()
    """
    check = """
    taken = inventory.take(shop, heap=False)
    heap = inventory.take(shop, heap=True)
    for found in (taken, heap):
        assert len(inventory.match(found, base())["<lambda>", 2]) == 1
        assert {k for k, v in inventory.match(found, base()).items() if not v} == set()
        assert inventory.drift(found, base()) == [], inventory.drift(found, base())
    assert inventory.bindings(shop.plain) and inventory.bindings(shop.plain, ["plain"])
    inventory.in_flight([shop.plain.__code__], heap=True)
    """
    run_child(START + script + check, files={"shop.py": evil})


def test_the_walk_stays_in_its_module(run_child: RunChild) -> None:
    """Functions of other modules are not taken, nor modules and namespaces entered."""
    files = {
        "shop.py": """
            import other, sys, types
            from other import tool, Tool, made
            def mine(): pass
            everything = [sys.modules, vars(other), other, globals()]
            orphan = types.ModuleType("orphan")
            exec("def lost(): pass", vars(orphan))
            other.box.append(lambda: "kept in another module's list")
            import other as again
            Tool.method = mine
        """,
        "other.py": """
            box = []
            def tool(): pass
            class Tool:
                def method(self): pass
            def made(): return lambda: 1
        """,
    }
    script = (
        START
        + """
    assert paths() == {"mine"}
    assert "<lambda>" in paths(heap=True)
    assert list(inventory.take(shop, heap=False).classes) == []
    import other
    del other.Tool.method
    assert paths(module=other) == {"tool", "made"}
    """
    )
    run_child(script, files=files)


def test_limits_are_told(run_child: RunChild) -> None:
    """A namespace too large for the walk is reported incomplete, never cut in silence."""
    script = (
        START
        + """
    shop.many = [object.__new__(type("T", (), {})) for _ in range(50)]
    shop.deep = deep = []
    for _ in range(30):
        deep.append([]); deep = deep[0]
    deep.append(shop.plain)
    assert not inventory.take(shop, heap=False).complete
    del shop.deep
    assert inventory.take(shop, heap=False).complete
    small = inventory.Limits(objects=20)
    assert not inventory.take(shop, heap=False, limits=small).complete
    """
    )
    run_child(script, files={"shop.py": "def plain(): pass\n"})


def test_the_heap_knows_what_no_namespace_does(run_child: RunChild) -> None:
    """Closures held elsewhere are found by garbage collection, and after gc.freeze by a walk."""
    script = (
        START
        + """
    import other
    path = "make.<locals>.counter"
    assert path not in paths() and path in paths(heap=True)
    gc.collect(); gc.freeze()
    assert gc.get_freeze_count() > 2000
    late = shop.make(7)
    found = inventory.take(shop, heap=True)
    assert sorted(f.function() for f in found.functions[path]) == [1, 2, 7]
    assert "local.<locals>.Hidden" in found.classes
    assert {f.where for f in found.functions[path]} == {"<heap>"}
    """
    )
    files = {
        "shop.py": """
            def make(n):
                def counter(): return n
                return counter
            def local():
                class Hidden:
                    def method(self): pass
                return Hidden
        """,
        "other.py": """
            import shop
            held = {"a": shop.make(1), "b": type("Holder", (), {"c": shop.make(2)})}
            hidden = shop.local()()
        """,
    }
    run_child(script, files=files)


def test_dicts_may_change_while_they_are_read(run_child: RunChild) -> None:
    """Threads that add and delete names all the time do not disturb a walk."""
    script = (
        START
        + """
    sys.setswitchinterval(1e-6)
    stop = threading.Event()
    shop.registry = {}
    def churn():
        n = 0
        while not stop.is_set():
            n += 1
            setattr(shop, f"x{n % 997}", [n]); shop.registry[n % 991] = {n}
            vars(shop).pop(f"x{(n * 7) % 997}", None); shop.registry.pop((n * 3) % 991, None)
            setattr(shop.Base, f"y{n % 97}", n)
    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads: thread.start()
    try:
        for _ in range(30):
            assert "Base.hook" in paths() and inventory.bindings(shop.plain)
    finally:
        stop.set()
    for thread in threads: thread.join()
    """
    )
    run_child(script, files={"shop.py": SHOP})


def test_equal_code_under_one_path_is_told_apart_by_place(run_child: RunChild) -> None:
    """Equal lambdas are paired by position, by order when all moved, and are ambiguous else."""
    files = {
        "shop.py": """
            pair = [lambda x: x, lambda x: x]
            if pair:
                def once(): return 1
            else:
                def once(): return 1
        """
    }
    script = (
        START
        + """
    taken = inventory.take(shop, heap=False)
    pairs = inventory.match(taken, base())
    one, other = shop.pair
    assert [f.function for f in pairs["<lambda>", 0]] == [one]
    assert [f.function for f in pairs["<lambda>", 1]] == [other]
    assert len(pairs["once", 0]) == 1 and not pairs["once", 1]
    with open(shop.__file__) as file:
        source = file.read()
    moved = codes.compile_source(("# moved\\n\\n" + source).encode(), "x")
    pairs = inventory.match(taken, moved)
    assert [f.function for f in pairs["<lambda>", 0]] == [one]
    assert [f.function for f in pairs["<lambda>", 1]] == [other]
    assert not pairs["once", 0] and not pairs["once", 1]
    assert list(inventory.ambiguous(taken, moved)) == ["once"]
    """
    )
    run_child(script, files=files)


def test_bindings_are_found_by_identity(run_child: RunChild) -> None:
    """Importers are named with the name they use; equal objects are not the object."""
    files = {
        "shop.py": "LIMIT = 10**6\nequal = 10**6\ndef f(): pass\n",
        "a.py": "from shop import LIMIT, f\nfrom shop import f as g\n",
        "b.py": "import shop\nLIMIT = 1000 * 1000\n",
    }
    script = (
        START
        + """
    import a, b
    sys.modules["alias"] = a
    def named(found):
        return sorted((x.module.__name__, x.name) for x in found)
    assert named(inventory.bindings(shop.f)) == [("a", "f"), ("a", "g"), ("shop", "f")]
    assert named(inventory.bindings(shop.f, ["g"])) == [("a", "g")]
    shop.LIMIT = a.LIMIT = int("1000000")
    assert named(inventory.bindings(shop.LIMIT)) == [("a", "LIMIT"), ("shop", "LIMIT")]
    """
    )
    run_child(script, files=files)


def test_classes_that_claim_another_home_are_ours(run_child: RunChild) -> None:
    """`__module__` rewritten to a public place does not hide a class, nor does a reload."""
    files = {
        "shop.py": """
            class Public:
                def method(self): pass
            Public.__module__ = "shop.public"
        """
    }
    script = (
        START
        + """
    import importlib
    old, method = shop.Public, shop.Public.method
    assert inventory.take(shop, heap=False).classes == {"Public": [old]}
    importlib.reload(shop)
    kept = [old()]
    taken = inventory.take(shop, heap=True)
    assert {id(c) for c in taken.classes["Public"]} == {id(old), id(shop.Public)}
    assert len(taken.functions["Public.method"]) == 2
    assert inventory.drift(taken, base()) == []
    """
    )
    run_child(script, files=files)
