"""Readers race commits: what they see is all old or all new."""

from __future__ import annotations

from typing import Protocol


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, files: dict[str, str] = ...) -> str: ...


PAIR = {
    "left.py": """
        LIMIT = 1
        def value(default=1): return 1, default
    """,
    "right.py": """
        class Cart:
            rate = 1
        def value(): return 1
    """,
}

RACE = """
    import sys, threading, time
    from functools import partial
    import left, right
    from zdpatch.patcher import swap
    from zdpatch.patcher.swap import MISSING, Step
    sys.setswitchinterval(1e-6)
    SPACE, TABLE = vars(left), {}

    def steps_to(version):
        one, other = left.value.__code__, right.value.__code__
        def numbered(code):
            consts = (version if type(c) is int else c for c in code.co_consts)
            return code.replace(co_consts=tuple(consts))
        def item(name):
            return Step("item", TABLE, name, version, TABLE.get(name, MISSING), name)
        return [
            Step("function", left.value, "__code__", numbered(one), one, "left"),
            Step("function", left.value, "__defaults__", (version,), left.value.__defaults__, "d"),
            *(item(str(n)) for n in range(100)),
            Step("item", SPACE, "LIMIT", version, left.LIMIT, "LIMIT"),
            Step("class", right.Cart, "rate", version, right.Cart.rate, "rate"),
            Step("function", right.value, "__code__", numbered(other), other, "right"),
        ]

    def race(read, write, enough, seconds=15):
        '''Torn reads, all reads and writes, when it is enough or time is up.'''
        stop, lock, total = threading.Event(), threading.Lock(), [0, 0, 0]
        def reader():
            while not stop.is_set():
                torn = read(1000)
                with lock:
                    total[0] += torn
                    total[1] += 1000
        threads = [threading.Thread(target=reader) for _ in range(3)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        while not enough(*total) and time.monotonic() < until:
            write()
            total[2] += 1
            time.sleep(0)
        stop.set()
        for thread in threads:
            thread.join()
        return total

    SEEN = lambda torn, reads, writes: torn > 0
    MILLION = lambda torn, reads, writes: reads >= 1_000_000 and writes >= 500

    def one_by_one(steps):
        for step in steps:
            swap.commit([step])
"""


def assert_only_the_control_tears(printed: str) -> None:
    """The first line is the control's torn reads; the second torn reads, reads, writes."""
    control, torn, reads, writes = map(int, printed.split())
    assert control > 0, "the test cannot see what it looks for"
    assert torn == 0, f"{torn} of {reads} reads saw the middle of one of {writes} commits"
    assert reads >= 100_000
    assert writes >= 50


def test_calls_see_a_commit_whole(run_child: RunChild) -> None:
    """Versions only rise, and are read in the order of writing: none may be below the one before.

    The control makes the same steps one by one, and is seen.
    """
    script = (
        RACE
        + """
    def read(times):
        torn = 0
        last, first, cart = right.value, left.value, right.Cart
        for _ in range(times):
            a, default = first()
            b, c, d = SPACE["LIMIT"], cart.rate, last()
            torn += a > b or b > c or c > d or a != default
        return torn

    version = iter(range(2, 10**9))
    print(*race(read, lambda: one_by_one(steps_to(next(version))), SEEN)[:1])
    print(*race(read, lambda: swap.commit(steps_to(next(version))), MILLION))
    """
    )
    assert_only_the_control_tears(run_child(script, files=PAIR))


def test_back_and_forth_is_seen_whole(run_child: RunChild) -> None:
    """While a patch goes in and out, a snapshot of all its slots is all old or all new."""
    script = (
        RACE
        + """
    new = steps_to(2)
    asked = [
        *(partial(getattr, f, "__code__") for f in (left.value, right.value)),
        partial(getattr, left.value, "__defaults__"),
        partial(dict.get, SPACE, "LIMIT"),
        partial(dict.get, TABLE, "50"),
        partial(type.__getattribute__, right.Cart, "rate"),
    ]
    def snapshot():
        return list(map(partial.__call__, asked))
    old = snapshot()
    undo = swap.commit(new)
    whole = (old, snapshot())
    undo.revert()
    assert snapshot() == old != whole[1]

    def read(times):
        return sum(snapshot() not in whole for _ in range(times))

    def there_and_back():
        swap.commit(new).revert()

    def in_python():
        undo = swap.prepare(new)
        one_by_one(undo.steps)
        one_by_one(undo._inverse)

    print(*race(read, in_python, SEEN)[:1])
    print(*race(read, there_and_back, MILLION))
    """
    )
    assert_only_the_control_tears(run_child(script, files=PAIR))
