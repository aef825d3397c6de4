from __future__ import annotations

from typing import Protocol


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, files: dict[str, str] = ...) -> str: ...


SHOP = """
    import threading
    inside, leave = threading.Event(), threading.Event()
    def busy():
        inside.set()
        leave.wait()
    def outer(): busy()
    def gen():
        yield 1
        yield 2
    async def coro(waiting):
        await waiting
    async def stream():
        yield 1
"""


def test_threads_in_the_code_are_named_with_their_line(run_child: RunChild) -> None:
    """Every frame of a stack counts, not only the innermost; equal code elsewhere does not."""
    script = """
        import threading, shop, types
        from zdpatch.patcher import inventory
        thread = threading.Thread(target=shop.outer, name="worker-7")
        thread.start()
        shop.inside.wait()
        wanted = [shop.outer.__code__, shop.busy.__code__]
        found = inventory.in_flight(wanted)
        assert [(f.path, f.kind, f.name, f.line) for f in found] == [
            ("shop:busy", "thread", "worker-7", 6), ("shop:outer", "thread", "worker-7", 7)
        ], found
        assert len({f.frame_id for f in found}) == 2
        twin = shop.busy.__code__.replace()
        assert twin == shop.busy.__code__ and not inventory.in_flight([twin])
        shop.leave.set()
        thread.join()
        assert not inventory.in_flight(wanted, heap=True)
    """
    run_child(script, files={"shop.py": SHOP})


def test_what_is_suspended_is_found_on_the_heap(run_child: RunChild) -> None:
    """Started and unstarted generators, coroutines and async generators are on no stack."""
    script = """
        import shop
        from zdpatch.patcher import inventory

        class Wait:
            def __await__(self):
                yield

        codes = [f.__code__ for f in (shop.gen, shop.coro, shop.stream)]
        begun, fresh, coro, stream = shop.gen(), shop.gen(), shop.coro(Wait()), shop.stream()
        next(begun)
        coro.send(None)
        assert inventory.in_flight(codes) == []
        found = inventory.in_flight(codes, heap=True)
        seen = sorted((f.path, f.kind) for f in found)
        assert seen == [
            ("shop:coro", "coroutine"), ("shop:gen", "generator"),
            ("shop:gen", "generator"), ("shop:stream", "async generator"),
        ], seen
        assert {f.line for f in found if f.path == "shop:gen"} == {8, 9}
        for each in begun: pass
        fresh.close(), coro.close()
        del begun, fresh
        assert [f.path for f in inventory.in_flight(codes, heap=True)] == ["shop:stream"]
    """
    run_child(script, files={"shop.py": SHOP})


def test_a_running_generator_is_counted_once(run_child: RunChild) -> None:
    """A generator which runs in a thread is on its stack and on the heap: one frame."""
    script = """
        import shop
        from zdpatch.patcher import inventory
        def asking():
            yield inventory.in_flight([asking.__code__], heap=True)
        (found,) = next(asking())
        assert found.kind == "thread" and found.name == "MainThread"
    """
    run_child(script, files={"shop.py": SHOP})


def test_references_explain_every_holder(run_child: RunChild) -> None:
    """Functions, frames, generators and containers are one each; what is hidden remains."""
    script = """
        import gc, sys, shop
        from zdpatch.patcher.inventory import references
        def made():
            def inner(): yield
            return inner
        known = 3  # the constants of `made`, the function's slot, the name `code`
        function = made()
        code = function.__code__
        assert references(code, known) == 0
        another, running, held = made(), made()(), [code]
        # One function, one list, a generator (in 3.11 it and its frame) and the function it keeps.
        assert references(code, known) == (5 if sys.version_info < (3, 12) else 4)
        del another, running, held
        assert references(code, known) == 0
        hidden = [made()]
        gc.freeze()
        assert references(code, known) == 1
        assert references(shop.busy.__code__, 1) == 0
    """
    run_child(script, files={"shop.py": SHOP})


def test_greenlets_that_have_switched_away_are_stacks_too(run_child: RunChild) -> None:
    """No thread has their frames; those of subclasses count, ended and unstarted ones have none."""
    script = """
        import greenlet, shop
        from zdpatch.patcher import inventory

        class Own(greenlet.greenlet):
            gr_frame = None

        def outer():
            shop.switch()
        wanted = [shop.switch.__code__, outer.__code__]
        kept = [Own(outer), greenlet.greenlet(outer)]
        assert not inventory.in_flight(wanted)
        kept[0].switch()
        found = inventory.in_flight(wanted)
        assert [(f.path, f.kind, f.line) for f in found] == [
            ("shop:switch", "greenlet", 4), ("__main__:outer", "greenlet", 10)
        ], found
        kept[0].switch()
        assert kept[0].dead and not inventory.in_flight(wanted)
    """
    shop = """
        import greenlet
        def switch():
            greenlet.getcurrent().parent.switch()
    """
    run_child(script, files={"shop.py": shop})


def test_what_goes_round_for_ever(run_child: RunChild) -> None:
    """In a `for` over what has no end, directly or through what ends no sooner; frozen or not."""
    script = """
        import gc, itertools, shop
        from zdpatch.patcher import inventory

        long = [
            itertools.count(), itertools.cycle("ab"), itertools.repeat(1), iter(int, 1),
            iter(range(10**9)), map(str, itertools.count()),
            enumerate(filter(None, itertools.count(1))),
        ]
        short = [
            iter("abc"), iter(range(9)), itertools.repeat(1, 9), map(str, range(9)), zip("ab", "ab")
        ]
        def found(calls):
            got = inventory.in_flight([shop.each.__code__], heap=True)
            at = {id(call.gi_frame): call for call in calls}
            return [(at[f.frame_id], f.unending) for f in got if f.frame_id in at]

        calls = [shop.each(one) for one in (*long, *short)]
        for call in calls:
            next(call)
        ends = dict((calls.index(call), unending) for call, unending in found(calls))
        assert [ends[n] for n in range(len(calls))] == [True] * 7 + [False] * 5, ends
        over = shop.over(itertools.count())
        next(over)  # it has one, and is in no loop
        assert not inventory.in_flight([shop.over.__code__], heap=True)[0].unending
        gc.freeze()
        assert dict((calls.index(call), u) for call, u in found(calls)) == ends
    """
    shop = """
        def each(things):
            for thing in things:
                yield thing
        def over(things):
            yield 1
            for thing in things:
                yield thing
    """
    run_child(script, files={"shop.py": shop})
