from __future__ import annotations

from typing import Protocol


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, flags: tuple[str, ...] = ...) -> str: ...


START = """
    import abc, ctypes, enum, gc, sys, types, weakref
    from zdpatch.patcher import swap
    from zdpatch.patcher.errors import BugError, ProcessError, Refused
    from zdpatch.patcher.swap import MISSING, Step

    def refused(kind, *steps):
        try:
            swap.commit(steps)
        except kind as error:
            return f"{error.code} {error.cause}"
        raise AssertionError("it was committed")

    def item(table, name, value, expected):
        return Step("item", table, name, value, expected, f"table.{name}")

    def code(function, other):
        return Step("function", function, "__code__", other.__code__, function.__code__, "code")
"""


def test_every_kind_of_slot_goes_there_and_back(run_child: RunChild) -> None:
    """Added, replaced and deleted names come back as the very objects, absent ones absent."""
    script = (
        START
        + """
    class Colour(enum.Enum):
        RED = 1
    class Cart(abc.ABC):
        limit = [1]
        def total(self): return 1
    def price(x, y=1, *, z=2):
        "Old."
        return x, y, z
    def priced(x, y, *, z):
        return "new", x, y, z
    price.tag = [1]
    def closed(a):
        return lambda: a
    inner = closed(5)
    cell = inner.__closure__[0]
    table, listed = {"a": [1], "b": [2]}, [[1], [2]]
    doc, notes = price.__doc__, price.__annotations__
    def slots():
        return [
            price.__code__, price.__defaults__, price.__kwdefaults__, price.__doc__,
            price.__annotations__, *price.__dict__.items(), Colour.__dict__.get("extra", MISSING),
            Cart.__dict__.get("limit", MISSING), Cart.__dict__["total"], Cart.__doc__,
            *table.items(), *listed, cell.cell_contents,
        ]
    before = slots()
    undo = swap.commit([
        code(price, priced),
        Step("function", price, "__defaults__", (9,), price.__defaults__, "d"),
        Step("function", price, "__kwdefaults__", {"z": 8}, price.__kwdefaults__, "k"),
        Step("function", price, "__doc__", "New.", doc, "doc"),
        Step("function", price, "__annotations__", {"x": int}, notes, "notes"),
        Step("function", price, "tag", MISSING, price.tag, "tag"),
        Step("function", price, "other", 1, MISSING, "other"),
        Step("class", Colour, "extra", 1, MISSING, "extra"),
        Step("class", Cart, "limit", MISSING, Cart.limit, "limit"),
        Step("class", Cart, "total", priced, Cart.total, "total"),
        Step("class", Cart, "__doc__", "Cart.", None, "doc"),
        item(table, "a", 1, table["a"]),
        item(table, "b", MISSING, table["b"]),
        item(table, "c", 3, MISSING),
        Step("list", listed, 1, "x", listed[1], "list"),
        Step("cell", cell, "cell_contents", 6, 5, "cell"),
    ])
    assert undo.committed and undo.flip_us > 0 and not undo.conflicts()
    assert price(0) == ("new", 0, 9, 8) and price.__doc__ == "New." and not hasattr(price, "tag")
    assert price.other == 1 and Colour.extra == 1 and not hasattr(Cart, "limit")
    assert Cart.total is priced and Cart.__doc__ == "Cart." and inner() == 6
    assert table == {"a": 1, "c": 3} and listed == [[1], "x"]
    assert undo.revert() > 0 and not undo.committed
    after = slots()
    assert len(before) == len(after)
    def identical(one, other):
        if type(one) is tuple and one and type(one[0]) is str:
            return one[0] == other[0] and one[1] is other[1]
        return one is other
    assert all(map(identical, before, after)), (before, after)
    undo.commit()
    undo.revert()
    assert price(0) == (0, 1, 2)
    """
    )
    run_child(script)


def test_what_cannot_be_written_is_refused_before(run_child: RunChild) -> None:
    """Kinds, closures, immutable types, guarded classes and foreign setters; nothing is touched."""
    script = (
        START
        + """
    def f(): return 1
    def g(): yield 1
    async def c(): return 1
    async def a(): yield 1
    def closed(x, y):
        def only_x(): return x
        def only_y(): return y
        def both(): return x, y
        return only_x, only_y, both
    only_x, only_y, both = closed(1, 2)
    for one, other in [(f, g), (f, c), (g, c), (c, a), (a, g), (g, f)]:
        assert "cannot become" in refused(Refused, code(one, other))
    for one, other in [(f, only_x), (only_x, f), (only_x, only_y), (only_x, both)]:
        assert "closure has" in refused(Refused, code(one, other))
    table = {"a": 1}
    def second(cls, name, value=1, expected=MISSING):
        return refused(
            Refused, item(table, "a", 2, 1), Step("class", cls, name, value, expected, "second")
        )
    assert "cannot be changed" in second(int, "q")
    class S(ctypes.Structure): pass
    assert "guards" in second(S, "q")
    class Meta(type):
        @property
        def rate(cls): return 1
        @rate.setter
        def rate(cls, value): raise AssertionError("called")
        def __setattr__(cls, name, value): raise AssertionError("called")
        def __getattribute__(cls, name): raise AssertionError("called")
    class Guarded(metaclass=Meta): pass
    assert "setter" in second(Guarded, "rate")
    swap.commit([Step("class", Guarded, "other", 1, MISSING, "other")]).revert()
    class Plain: pass
    for name in ("bases", "mro", "dict", "class", "module", "qualname", "name"):
        second(Plain, f"__{name}__")
    second(Plain, "__doc__", MISSING, None)
    second(Plain, "__abstractmethods__", ["a"])
    for name in ("__closure__", "__globals__", "__builtins__", "__dict__", "__class__"):
        refused(Refused, Step("function", f, name, None, MISSING, name))
    refused(Refused, Step("function", f, "__defaults__", [1], None, "d"))
    refused(Refused, Step("function", f, "__kwdefaults__", (1,), None, "d"))
    refused(Refused, Step("function", f, "__code__", MISSING, f.__code__, "d"))
    refused(Refused, Step("list", [1], 1, 1, MISSING, "l"))
    proxy = types.MappingProxyType({})
    wrong = [("item", proxy), ("function", len), ("class", f), ("list", ()), ("x", 1)]
    for kind, target in wrong:
        refused(BugError, Step(kind, target, "a", 1, MISSING, "t"))
    assert "two steps" in refused(BugError, item(table, "a", 2, 1), item(table, "a", 3, 1))
    assert table == {"a": 1} and f() == 1
    """
    )
    run_child(script)


def test_a_changed_slot_stops_the_commit_and_the_undo(run_child: RunChild) -> None:
    """What somebody else changed is named, and not a single slot is written."""
    script = (
        START
        + """
    def f(): return 1
    def g(): return 2
    def h(): return 3
    table = {"a": 1, "b": [2]}
    steps = [code(f, g), item(table, "a", 10, 1), item(table, "b", 20, [2])]
    assert refused(ProcessError, *steps).startswith("ZDP-203 table.b is a list")
    undo = swap.prepare([code(f, g), item(table, "a", 10, 1)])
    f.__code__ = h.__code__
    try:
        undo.commit()
    except ProcessError as error:
        assert error.code == "ZDP-203" and "code is code h" in error.cause, error
    assert f() == 3 and table["a"] == 1 and not undo.committed
    f.__code__ = undo.steps[0].expected
    undo.commit()
    table["a"] = 11
    assert undo.conflicts() == ["table.a is 11 and should be 10"]
    try:
        undo.revert()
    except ProcessError as error:
        assert error.code == "ZDP-209" and "table.a is 11" in error.cause
    assert f() == 2 and undo.committed
    del table["a"]
    assert undo.conflicts() == ["table.a is absent and should be 10"]
    table["a"] = 10
    undo.revert()
    assert f() == 1 and table["a"] == 1
    for wrong in (undo.revert, swap.commit([item(table, "a", 1, 1)]).commit):
        try:
            wrong()
        except BugError:
            continue
        raise AssertionError
    """
    )
    run_child(script)


def test_an_interrupt_in_the_loop_leaves_nothing_behind(run_child: RunChild) -> None:
    """Ctrl-C inside the C loop is raised after it: then all steps are taken back."""
    script = (
        START
        + """
    import signal
    table = {}
    undo = swap.prepare([item(table, str(n), n, MISSING) for n in range(20_000)])
    def interrupt(_, frame):
        # A signal that comes inside the loop is handled in the first line of Python after it.
        if frame.f_code.co_name == "_flip" and table:
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert gc.isenabled()  # or an interrupt one line later would leave it off
            raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    caught = 0
    for attempt in range(50):
        signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)  # far shorter than the loop takes
        try:
            undo.commit()
        except KeyboardInterrupt:
            caught += not undo.committed
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert gc.isenabled()
        assert len(table) == (20_000 if undo.committed else 0), len(table)
        if undo.committed:
            undo.revert()
        if caught == 5:
            break
    assert caught and not table
    """
    )
    run_child(script)


def test_nothing_dies_inside_the_loop(run_child: RunChild) -> None:
    """Replaced values live in the undo; collection is off in the loop, and on again after it."""
    script = (
        START
        + """
    log = []
    class Loud:
        def __del__(self):
            log.append(dict(table))
    table = {"a": Loud(), "b": 1}
    class Cyclic: pass
    one = Cyclic(); one.me = one; one.loud = Loud(); del one
    collected = []
    gc.callbacks.append(lambda *_: collected.append(len(table)))
    gc.set_threshold(1)
    undo = swap.prepare(
        [item(table, "a", 2, table["a"]), item(table, "b", 2, 1), item(table, "c", 2, MISSING)]
    )
    undo.commit()
    gc.set_threshold(700)
    new = {"a": 2, "b": 2, "c": 2}
    assert all(seen == new or (seen["b"] == 1 and "c" not in seen) for seen in log), log
    assert gc.isenabled()
    ref = weakref.ref(undo.steps[0].expected)
    gc.disable()
    undo.revert()
    assert not gc.isenabled() and ref() is table["a"]
    """
    )
    run_child(script)


def test_an_audit_hook_is_known_for_certain(run_child: RunChild) -> None:
    """Ten thousand questions without a hook are all answered no, and all yes with one, unheard."""
    script = (
        START
        + """
    def f(): return 1
    def g(): return 2
    table = {"a": 1}
    assert not any(swap.audited() for _ in range(10_000))
    undo, other = swap.prepare([code(f, g)]), swap.commit([item(table, "a", 2, 1)])
    heard = []
    sys.addaudithook(lambda event, _: heard.append(event))
    heard.clear()
    assert all(swap.audited() for _ in range(10_000)) and not heard
    try:
        undo.commit()
    except ProcessError as error:
        assert error.code == "ZDP-214"
    assert f() == 1
    other.revert()  # a dict raises no audit events
    assert table == {"a": 1}
    """
    )
    run_child(script)


def test_a_changed_kind_is_refused_where_it_would_only_warn(run_child: RunChild) -> None:
    """With warnings as errors a change of kind would end a commit in its middle; it is refused."""
    script = (
        START
        + """
    import warnings
    warnings.simplefilter("error")
    def f(): return 1
    def g(): yield 1
    table = {"a": 1}
    assert "ZDP-202" in refused(Refused, item(table, "a", 2, 1), code(f, g))
    assert table == {"a": 1}
    """
    )
    run_child(script)


def test_a_method_goes_through_the_slots_of_its_type(run_child: RunChild) -> None:
    """Special methods added to a class work at once, in subclasses too, and are gone after undo."""
    script = (
        START
        + """
    class Base: pass
    class Derived(Base): pass
    def length(self): return 3
    thing = Derived()
    undo = swap.commit([Step("class", Base, "__len__", length, MISSING, "len")])
    assert len(thing) == 3
    undo.revert()
    try:
        len(thing)
    except TypeError:
        pass
    else:
        raise AssertionError
    """
    )
    run_child(script)


def test_a_slot_of_an_object_goes_there_and_back(run_child: RunChild) -> None:
    """The docstring of a property and an attribute in `__slots__` are set past anyone's setter, and
    come back; an empty slot is not filled, and what is no slot is a mistake of ours.
    """
    script = (
        START
        + """
    class Slim:
        __slots__ = ("kind", "empty")
        def __setattr__(self, name, value): raise AssertionError("called")
    def get(self): "Old."
    held, slim = property(get), Slim()
    Slim.kind.__set__(slim, "old")
    undo = swap.commit([
        Step("member", held, "__doc__", "New.", held.__doc__, "doc"),
        Step("member", slim, "kind", "new", slim.kind, "kind"),
    ])
    print(held.__doc__, slim.kind)
    undo.revert()
    print(held.__doc__ is get.__doc__, slim.kind)
    print(refused(Refused, Step("member", slim, "empty", 1, MISSING, "empty")))
    print(refused(BugError, Step("member", get, "kind", 1, MISSING, "kind")))
    """
    )
    assert run_child(script).splitlines() == [
        "New. new",
        "True old",
        "ZDP-202 empty: a step on a slot replaces its content",
        "ZDP-901 kind: a function as member step",
    ]
