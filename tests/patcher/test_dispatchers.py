"""A dispatcher is, for everybody who looks or calls, the function that it stands for."""

from __future__ import annotations

from typing import Protocol

import pytest

from zdpatch.patcher import dispatching


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, files: dict[str, str] = ...) -> str: ...


GROUP = """
    import sys, textwrap, types
    from zdpatch.patcher import codes, scopes, swap
    from zdpatch.patcher.versions import NEW, OLD, Change, Group

    def text(source):
        return textwrap.dedent(source)

    def both(source, *names, **slots):
        "A namespace that runs `source` as 'old', and a group that brings 'new'."
        space = {"__name__": "shop"}
        exec(compile(source.replace("VERSION", "'old'"), "shop.py", "exec"), space)
        new = codes.flatten(compile(source.replace("VERSION", "'new'"), "<new>", "exec"))
        found = list(functions(space, names))
        changes = [Change.of(f, f"shop:{n}", new[n][0], slots) for n, f in found]
        return space, Group(changes)

    def functions(space, names):
        for name in names:
            value = space
            for part in name.split("."):
                value = value[part] if isinstance(value, dict) else vars(value)[part]
            for attribute in ("fget", "__func__"):
                value = getattr(value, attribute, value)
            yield name, value

    def into(group):
        swap.commit(group.steps_in())
        group.start()

    def out(group, version=NEW):
        swap.commit(group.steps_out(version))
        group.close()
"""


def test_what_dispatchers_rest_on_holds_here() -> None:
    """The self-test of this interpreter finds nothing, and leaves no group behind."""
    assert dispatching.failed() == []


def test_all_kinds_of_function_are_dispatched(run_child: RunChild) -> None:
    """Each kind keeps its kind; a call in an old request gives the old one's very object."""
    run_child(
        GROUP
        + """
    import asyncio, inspect
    SOURCE = text('''
    import contextlib
    def plain(): return VERSION
    def items():
        got = yield VERSION
        yield got
    async def later(): return VERSION
    async def stream():
        yield VERSION
    @types.coroutine
    def awaited():
        yield
        return VERSION
    @contextlib.contextmanager
    def managed():
        yield VERSION
    shorter = lambda: VERSION
    class Base:
        def say(self): return "base"
    class Shop(Base):
        def say(self): return VERSION, super().say()
        @property
        def name(self): return VERSION
        @classmethod
        def made(cls): return VERSION, cls
        @staticmethod
        def free(): return VERSION
        def __call__(self): return VERSION
        def __private(self): return VERSION
        def asks(self): return self.__private()
    ''').replace("import contextlib", "import contextlib, types")
    names = ["plain", "items", "later", "stream", "Shop.say", "Shop.name", "Shop.made",
             "Shop.free", "Shop.__call__", "Shop._Shop__private", "Shop.asks"]
    source = SOURCE
    space = {"__name__": "shop"}
    exec(compile(source.replace("VERSION", "'old'"), "shop.py", "exec"), space)
    new = codes.flatten(compile(source.replace("VERSION", "'new'"), "<new>", "exec"))
    found = [(n.replace("_Shop__", "__"), f) for n, f in functions(space, names)]
    found += [("awaited", space["awaited"]), ("<lambda>", space["shorter"]),
              ("managed", space["managed"].__wrapped__)]
    changes = [Change.of(f, n, codes.like_live(new[n][0], f.__code__), {}) for n, f in found]
    group = Group(changes)
    shop = space["Shop"]()
    kinds = {n: (f.__code__.co_flags & 0x3a0, str(inspect.signature(f)), f.__code__.co_name,
                 f.__code__.co_qualname, f.__code__.co_freevars) for n, f in found}
    bound = shop.say

    def said():
        it = space["items"]()
        first = next(it)
        assert it.send(5) == 5
        async def tasks():
            one = await asyncio.create_task(space["later"]())
            two = [x async for x in space["stream"]()]
            return one, *two, await space["awaited"]()
        with space["managed"]() as held:
            pass
        return {space["plain"](), first, *asyncio.run(tasks()), shop.say()[0], bound()[0],
                shop.name, shop.made()[0], space["Shop"].free(), shop(), shop.asks(), held,
                space["shorter"]()}

    assert said() == {"old"}
    before = scopes.enter("before")
    into(group)
    assert said() == {"old"}
    scopes.leave(before)
    assert said() == {"new"}
    assert shop.say() == ("new", "base") and shop.made()[1] is space["Shop"]
    assert kinds == {n: (f.__code__.co_flags & 0x3a0, str(inspect.signature(f)),
                         f.__code__.co_name, f.__code__.co_qualname, f.__code__.co_freevars)
                     for n, f in found}
    assert inspect.iscoroutinefunction(space["later"])
    assert inspect.isawaitable(space["awaited"]())
    out(group)
    assert said() == {"new"}
    assert all(f.__code__ is c.new for (_, f), c in zip(found, changes))
    """
    )


def test_closures_keep_their_cells(run_child: RunChild) -> None:
    """Cells are the live ones, also those that are written to; two closures are two members."""
    run_child(
        GROUP
        + """
    source = text('''
    def outer(n):
        def count(step=1):
            nonlocal n
            n += step
            return VERSION, n
        return count
    ''')
    space = {"__name__": "shop"}
    exec(source.replace("VERSION", "'old'"), space)
    inner = codes.flatten(compile(source.replace("VERSION", "'new'"), "<new>", "exec"))
    one, two = space["outer"](1), space["outer"](10)
    new = inner["outer.<locals>.count"][0]
    group = Group([Change.of(f, "shop:outer.<locals>.count", new, {}) for f in (one, two)])
    assert one() == ("old", 2)
    into(group)
    assert one(step=2) == ("new", 4) and two() == ("new", 11)
    out(group)
    assert one() == ("new", 5) and two() == ("new", 12)
    """
    )


def test_other_defaults_and_parameters_are_each_version_s_own(run_child: RunChild) -> None:
    """While both versions run, each binds its own defaults; `inspect` shows the old ones."""
    run_child(
        GROUP
        + """
    import inspect
    space = {"__name__": "shop"}
    exec("def price(net, rate=1, *, unit='a'): return 'old', net, rate, unit", space)
    fresh = {}
    exec("def price(net, rate=2, more=3, *, unit='b'): return 'new', net, rate, more, unit", fresh)
    f, g = space["price"], fresh["price"]
    slots = {"__defaults__": g.__defaults__, "__kwdefaults__": g.__kwdefaults__}
    group = Group([Change.of(f, "shop:price", g.__code__, slots)])
    shown = inspect.signature(f)
    before = scopes.enter("before")
    into(group)
    assert f(1) == ("old", 1, 1, "a") and f(1, rate=5) == ("old", 1, 5, "a")
    assert inspect.signature(f) == shown
    try:
        f(1, more=1)
    except TypeError as error:
        assert "price() got an unexpected keyword argument 'more'" in str(error)
    else:
        raise AssertionError
    scopes.leave(before)
    assert f(1) == ("new", 1, 2, 3, "b") and f(1, 2, 4, unit="c") == ("new", 1, 2, 4, "c")
    out(group, OLD)
    assert f(1) == ("old", 1, 1, "a") and "__signature__" not in vars(f)
    """
    )


def test_exceptions_and_warnings_look_as_they_did(run_child: RunChild) -> None:
    """No context is added to an exception, errors of the caller's name the function, `stacklevel`
    counts callers, and the frame in between shows the source of the definition.
    """
    run_child(
        GROUP
        + """
    import logging, traceback, warnings
    source = text('''
    import logging, warnings
    def fails(): raise KeyError(VERSION)
    def warns(): warnings.warn(VERSION, stacklevel=2)
    def logs(): logging.getLogger("x").warning(VERSION, stacklevel=2)
    ''')
    space, group = both(source, "fails", "warns", "logs")
    into(group)
    with scopes.Request("undecided before this call"):
        try:
            space["fails"]()
        except KeyError as error:
            assert error.args == ("new",) and error.__context__ is None, error.__context__
            frames = traceback.extract_tb(error.__traceback__)
            assert [f.name for f in frames] == ["<module>", "fails", "fails"]
            assert "importlib" in frames[1].filename
        else:
            raise AssertionError
    try:
        space["fails"](1)
    except TypeError as error:
        assert str(error) == "fails() takes 0 positional arguments but 1 was given", error
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        space["warns"]()
    assert found[0].filename == __file__, found[0].filename
    records = []
    logging.getLogger("x").addFilter(lambda record: records.append(record) or False)
    space["logs"]()
    assert records[0].pathname == __file__, records[0].pathname
    """
    )


def test_nothing_is_left_of_a_group(run_child: RunChild) -> None:
    """After the collapse no constant, no function and no group of it is alive."""
    run_child(
        GROUP
        + """
    import gc, weakref
    source = text('''
    def price(): return VERSION
    async def later(): return VERSION
    ''')
    gc.disable()
    space, group = both(source, "price", "later")
    into(group)
    assert space["price"]() == "new"
    parts = [weakref.ref(group), *(weakref.ref(f) for m in group.members for f in m.versions),
             *(weakref.ref(m.code) for m in group.members)]
    out(group)
    del group
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts), [part() for part in parts]
    assert all(type(c) is not types.FunctionType for c in space["price"].__code__.co_consts)
    """
    )


def test_the_stack_decides_where_there_is_no_request(run_child: RunChild) -> None:
    """Direct calls, generators and await chains go on as they began; a new call is new."""
    run_child(
        GROUP
        + """
    import asyncio, threading
    source = text('''
    def rate(): return VERSION
    def price(wait):
        first = rate()
        wait()
        return VERSION, first, rate()
    def items():
        while True:
            yield VERSION, rate()
    async def inner(wait):
        await wait()
        return rate()
    async def outer(wait):
        first = rate()
        return VERSION, first, await inner(wait)
    ''')
    space, group = both(source, "rate", "price", "items", "inner", "outer")
    inside, leave = threading.Event(), threading.Event()
    got = []
    def wait():
        inside.set()
        leave.wait()
    thread = threading.Thread(target=lambda: got.append(space["price"](wait)))
    thread.start()
    inside.wait()
    items = space["items"]()
    assert next(items) == ("old", "old")
    async def main():
        begun = asyncio.Event()
        chain = asyncio.create_task(space["outer"](begun.wait))
        await asyncio.sleep(0)
        into(group)
        begun.set()
        return await chain
    assert asyncio.run(main()) == ("old",) * 3
    assert next(items) == ("old", "old")
    assert space["price"](lambda: None) == ("new",) * 3
    leave.set()
    thread.join()
    assert got == [("old",) * 3]
    import _thread
    alone = threading.Event()
    space["alone"] = alone
    exec("def down(): price(alone.set)", space)
    for first in (space["down"], lambda: space["price"](alone.set)):
        alone.clear()
        _thread.start_new_thread(first, ())
        assert alone.wait(10)
    group.turn()
    assert space["price"](lambda: None) == ("old",) * 3
    """
    )


@pytest.mark.parametrize("deep", [900])
def test_recursion_goes_as_deep_as_before(run_child: RunChild, deep: int) -> None:
    """A dispatcher takes a frame of its own, for which there is room."""
    run_child(
        GROUP
        + f"""
    from zdpatch.patcher.headroom import Headroom
    source = text('''
    def down(n):
        return down(n - 1) if n else VERSION
    ''')
    space, group = both(source, "down")
    limit = sys.getrecursionlimit()
    into(group)
    room = Headroom()
    room.give()
    assert space["down"]({deep}) == "new"
    dispatchers = [m.code for m in group.members]
    out(group)
    room.leave(dispatchers)
    room.give_back(last=True)
    assert not room.given and sys.getrecursionlimit() == limit
    """
    )


def test_a_stack_is_asked_once_for_each_context(run_child: RunChild) -> None:
    """Where new code has begun outside of requests, what comes there is new without asking again;
    what stands in old code is old, and after a turn, or with another group, it is asked again.
    """
    run_child(
        GROUP
        + """
    import threading
    from zdpatch.agent import carry
    source = text('''
    def rate(): return VERSION
    def price(wait):
        wait()
        return VERSION, rate()
    ''')
    space, group = both(source, "rate", "price")
    inside, leave, got = threading.Event(), threading.Event(), []
    def wait():
        inside.set()
        leave.wait()
    thread = threading.Thread(
        target=lambda: got.append((space["price"](wait), space["rate"]())), daemon=True)
    thread.start()
    inside.wait()
    with scopes.Request("before"):
        into(group)
        assert space["rate"]() == "old"
    asked = []
    def count(frame, event, arg):
        if event == "call":
            asked.append(frame.f_code.co_name)
    sys.setprofile(count)
    assert [space["rate"]() for _ in range(3)] == ["new"] * 3
    sys.setprofile(None)
    assert asked.count("_by_stack") == 1, asked
    assert scopes.current() is None
    with scopes.Request("since"):
        assert scopes.current().key == "since" and space["rate"]() == "new"
    exec("def below(): return price(lambda: None)", space)
    assert space["below"]() == ("new", "new")
    carry.install()
    other = threading.Thread(target=lambda: got.append(space["rate"]()))
    other.start()
    assert "_bootstrap" not in vars(other)
    other.join()
    leave.set()
    thread.join()
    assert got == ["new", (("old", "old"), "new")], got
    group.turn()
    assert space["rate"]() == "old"
    out(group, OLD)
    fresh = {}
    exec("def rate(): return 'newer'", fresh)
    second = Group([Change.of(space["rate"], "shop:rate", fresh["rate"].__code__, {})])
    into(second)
    assert space["rate"]() == "newer"
    out(second)
    """
    )


def test_what_is_suspended_in_old_code_is_asked_for_each_call(run_child: RunChild) -> None:
    """A group with generators marks nothing: an old one may go on anywhere."""
    run_child(
        GROUP
        + """
    source = text('''
    def rate(): return VERSION
    def items():
        while True:
            yield VERSION, rate()
    ''')
    space, group = both(source, "rate", "items")
    held = space["items"]()
    into(group)
    assert space["rate"]() == "new" and next(held) == ("old", "old")
    assert next(space["items"]()) == ("new", "new")
    """
    )


def test_an_inner_function_of_old_code_is_asked_for_each_call(run_child: RunChild) -> None:
    """What old code made and gave away goes on with old code."""
    run_child(
        GROUP
        + """
    source = text('''
    def rate(): return VERSION
    def maker():
        return lambda: (VERSION, rate())
    ''')
    space, group = both(source, "rate", "maker")
    made = space["maker"]()
    into(group)
    assert space["rate"]() == "new" and made() == ("old", "old")
    assert space["maker"]()() == ("new", "new")
    """
    )
