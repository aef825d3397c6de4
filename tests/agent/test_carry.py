"""Threads and jobs of a request carry its scope; a pool's threads, and its next jobs, do not."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import multiprocessing.pool
import queue
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, thread
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch import agent
from zdpatch.agent import carry
from zdpatch.patcher.scopes import PIN, older

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def carrying() -> Iterator[None]:
    """Installed for the test, and gone after it."""
    before = threading.Thread.start, ThreadPoolExecutor.submit
    carry.install()
    yield
    carry.remove()
    assert before == (threading.Thread.start, ThreadPoolExecutor.submit)
    gc.collect()
    assert older(sys.maxsize) == []


def key() -> str | None:
    """Of the scope in which this is called; "outside" when there is none."""
    scope = PIN.get(None)
    return "outside" if scope is None else scope.key


def key_of(number: int) -> str | None:
    """The same, for `map`."""
    del number
    return key()


def test_signatures_and_names_stay() -> None:
    """Whoever looks at what was replaced sees what was there; twice is once."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    carry.install()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)
    carry.remove()
    for replaced, name in ((start, "start"), (submit, "submit")):
        original = getattr(threading.Thread if name == "start" else ThreadPoolExecutor, name)
        assert original is not replaced
        assert inspect.signature(replaced) == inspect.signature(original)
        assert (replaced.__name__, replaced.__doc__) == (original.__name__, original.__doc__)
    carry.install()


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants nothing replaced says so, and has what the interpreter carries by itself."""
    carry.remove()
    monkeypatch.setenv("ZDPATCH_CARRY", "off")
    carry.install()
    with ThreadPoolExecutor(1) as pool, agent.request("a"):
        assert pool.submit(key).result() == "outside"
        assert asyncio.run(asyncio.to_thread(key)) == "a"


def test_somebody_wraps_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands over ours is not taken away with it, and ours goes when that is gone."""
    ours: Any = ThreadPoolExecutor.submit
    calls: list[object] = []

    @functools.wraps(ours)
    def theirs(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        calls.append(args)
        return ours(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", theirs)
        carry.remove()
        assert ThreadPoolExecutor.submit is theirs
        carry.install()
        with ThreadPoolExecutor(1) as pool, agent.request("a"):
            assert pool.submit(key).result() == "a"
        assert len(calls) == 1
    assert ThreadPoolExecutor.submit is ours


def test_a_job_carries_the_scope_and_leaves_nothing() -> None:
    """The thread that a request's job brings up has no scope before, after or between jobs."""
    with ThreadPoolExecutor(1, initializer=lambda: began.append(key())) as pool:
        began: list[str | None] = []
        with agent.request("a"):
            assert pool.submit(key).result() == "a"
            assert list(pool.map(key_of, range(3))) == ["a"] * 3
        assert pool.submit(key).result() == "outside"
        with agent.request("b"):
            assert pool.submit(key).result() == "b"
        assert pool.submit(key).result() == "outside"
        assert began == ["outside"]
        gc.collect()
        assert older(sys.maxsize) == []


def test_a_job_keeps_its_arguments_result_and_error() -> None:
    """A call is made as without a scope."""

    def call(*args: object, **kwargs: object) -> object:
        return args, kwargs

    def fail() -> None:
        raise KeyError("x")

    with ThreadPoolExecutor(1) as pool, agent.request("a"):
        assert pool.submit(call, 1, fn=2, self=3).result() == ((1,), {"fn": 2, "self": 3})
        with pytest.raises(KeyError, match="x"):
            pool.submit(fail).result()
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]


def test_a_queued_job_is_carried_work() -> None:
    """A request that ended is told as long as its job waits or runs, and is old until then."""
    gate, ran = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gate.wait)
        with agent.request("a"):
            job: Future[str | None] = pool.submit(key)
        assert [scope.key for scope in older(sys.maxsize)] == ["a"]
        gate.set()
        assert job.result() == "a"
        pool.submit(ran.set).result()
        gc.collect()
        assert older(sys.maxsize) == []


def test_a_subclass_of_the_executor() -> None:
    """An executor that overrides `submit` sees the function that it was given."""

    class Named(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            names.append(fn.__name__)
            return super().submit(fn, *args, **kwargs)

    names: list[str] = []
    with Named(1) as pool, agent.request("a"):
        assert pool.submit(key).result() == "a"
    assert names == ["key"]


def test_event_loops() -> None:
    """`run_in_executor` carries what it lost, `to_thread` what it kept; contexts stay theirs."""
    other: contextvars.ContextVar[int] = contextvars.ContextVar("other", default=0)

    def look() -> tuple[str | None, int]:
        return key(), other.get()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        with agent.request("a"):
            other.set(1)
            # only the scope is carried: to copy a context is the application's to decide
            assert await loop.run_in_executor(None, look) == ("a", 0)
            assert await asyncio.to_thread(look) == ("a", 1)
        assert await loop.run_in_executor(None, look) == ("outside", 0)
        assert await asyncio.to_thread(look) == ("outside", 1)

    asyncio.run(serve())


@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
def test_concurrent_requests(loops: str) -> None:
    """A hundred at once, through tasks, threads and executors: each sees its own and no other."""
    module = pytest.importorskip(loops)
    loop_factory = module.new_event_loop

    async def one(name: str, pool: ThreadPoolExecutor) -> set[str | None]:
        seen: set[str | None] = set()
        loop = asyncio.get_running_loop()

        async def child() -> None:
            await asyncio.sleep(0)
            seen.add(key())
            seen.add(await loop.run_in_executor(pool, key))
            loop.call_soon(lambda: seen.add(key()))
            loop.call_later(0.001, lambda: seen.add(key()))
            loop.call_soon_threadsafe(lambda: seen.add(key()))
            await asyncio.sleep(0.002)

        with agent.request(name):
            await asyncio.gather(child(), asyncio.create_task(child()))
            seen.add(await asyncio.to_thread(key))
        seen.discard(name)
        return seen

    async def serve() -> list[set[str | None]]:
        with ThreadPoolExecutor(4) as pool:
            return list(await asyncio.gather(*(one(f"r{n}", pool) for n in range(100))))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(serve()) == [set()] * 100


class Mine(threading.Thread):
    """Overrides what a thread runs."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.seen: list[str | None] = []

    def run(self) -> None:
        """Look."""
        self.seen.append(key())


def test_threads() -> None:
    """A thread carries the scope while it runs, whatever it overrides, and holds nothing then."""
    seen: list[str | None] = []
    with agent.request("a"):
        plain = threading.Thread(target=lambda: seen.append(key()), name="plain")
        timer = threading.Timer(0.001, lambda: seen.append(key()))
        mine = Mine()
        for each in (plain, timer, mine):
            each.start()
            each.join()
            assert "_bootstrap" not in vars(each)
        with pytest.raises(RuntimeError, match="once"):
            plain.start()
    assert (seen, mine.seen) == (["a", "a"], ["a"])
    outside = threading.Thread(target=lambda: seen.append(key()))
    outside.start()
    outside.join()
    assert seen[-1] == "outside"


def test_a_thread_that_goes_on() -> None:
    """It belongs to the request that is over, until it ends; so does what it starts."""
    gate, seen = threading.Event(), queue.SimpleQueue[str | None]()

    def work() -> None:
        gate.wait()
        seen.put(key())
        inner = threading.Thread(target=lambda: seen.put(key()))
        inner.start()
        inner.join()

    with agent.request("a"):
        thread = threading.Thread(target=work)
        thread.start()
    assert [(scope.key, scope.left) for scope in older(sys.maxsize)] == [("a", True)]
    gate.set()
    thread.join()
    assert [seen.get(), seen.get()] == ["a", "a"]


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error passes, and the thread is as it was."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    name = "_start_new_thread" if sys.version_info < (3, 13) else "_start_joinable_thread"
    monkeypatch.setattr(threading, name, refuse)
    thread = threading.Thread(target=key)
    with agent.request("a"), pytest.raises(RuntimeError, match="can't start"):
        thread.start()
    assert "_bootstrap" not in vars(thread)


def test_pools_begun_by_a_request() -> None:
    """Workers of a pool work for whoever gives them work next, not for who needed them first."""
    jobs: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        while True:
            job = jobs.get()
            if job is None:
                return
            job.set_result(key())

    def ask() -> str | None:
        job: Future[str | None] = Future()
        jobs.put(job)
        return job.result(10)

    with agent.request("a"):
        worker = threading.Thread(target=work)
        worker.start()
        assert ask() == "outside"
    assert older(sys.maxsize) == []
    with agent.request("a"):
        # it keeps threads of its own that wait for nobody's work
        pool = multiprocessing.pool.ThreadPool(1)
    with agent.request("b"):
        assert ask() == "outside"
        assert pool.apply(key) == "outside"
    jobs.put(None)
    worker.join()
    pool.close()
    pool.join()


def test_threads_of_anyio() -> None:
    """What Starlette runs in threads is in its own request, and those threads are in none."""
    anyio = pytest.importorskip("anyio")

    async def serve() -> list[str | None]:
        seen: list[str | None] = []
        for name in ("a", "b"):
            with agent.request(name):
                seen.append(await anyio.to_thread.run_sync(key))
        gc.collect()
        await asyncio.sleep(0)
        return [*seen, *(scope.key for scope in older(sys.maxsize))]

    assert asyncio.run(serve()) == ["a", "b"]


def test_the_default_executor_is_left_alone() -> None:
    """Outside of requests a job is the very function."""
    given: list[object] = []

    base: Any = vars(thread)["_WorkItem"]

    class Item(base):  # type: ignore[misc]
        def __init__(self, future: Any, fn: Any, *rest: Any) -> None:  # noqa: ANN401
            given.append(fn)
            base.__init__(self, future, fn, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thread, "_WorkItem", Item)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(key).result()
    assert given == [key]
