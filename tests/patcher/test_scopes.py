"""A scope is open until it is left, is carried while anything can see it, and then is forgotten."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import queue
import sys
import threading
import time
from concurrent.futures import thread as pool_thread
from multiprocessing import pool
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.patcher import scopes
from zdpatch.patcher.scopes import PIN, Inside, Job, Request, begin, end, enter, leave, older
from zdpatch.patcher.workers import is_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

EVER = sys.maxsize


def keys() -> list[str | None]:
    """Of the scopes that are open or carried."""
    gc.collect()
    return [scope.key for scope in older(EVER)]


def test_a_request_is_open_until_it_is_left() -> None:
    """It is known with its key, epoch, thread and beginning, and nothing of it stays."""
    before = time.monotonic()
    with Request("a"):
        (scope,) = older(EVER)
        assert PIN.get() is scope
        assert (scope.key, scope.epoch, scope.left) == ("a", scopes.now(), False)
        assert scope.thread == threading.get_ident()
        assert before <= scope.began <= time.monotonic()
        assert "open" in repr(scope)
        del scope
    assert PIN.get(None) is None
    assert keys() == []


def test_older_is_what_began_before() -> None:
    """A request that begins after `advance` is not among them."""
    with Request("old"):
        epoch = scopes.advance()
        assert scopes.now() == epoch
        context = contextvars.Context()
        entered = context.run(enter, "new")
        assert [scope.key for scope in older(epoch)] == ["old"]
        assert sorted(str(key) for key in keys()) == ["new", "old"]
        context.run(leave, entered)
        context.run(leave, entered)
    assert older(epoch) == []


def test_an_exception_leaves() -> None:
    """And passes unchanged."""
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as caught, Request("a"):
        raise error
    assert caught.value is error
    assert PIN.get(None) is None


def test_what_is_inside_belongs_to_it() -> None:
    """Without a key, and with the same one, a request is part of the open one; another's is not."""
    with Request("a"):
        outer = PIN.get()
        for key in (None, "a"):
            with Request(key):
                assert PIN.get() is outer
            assert PIN.get() is outer
        with Request("b"):
            assert PIN.get() is not outer
            assert PIN.get().key == "b"
        assert PIN.get() is outer
        assert not outer.left
        del outer
    assert keys() == []


def test_a_server_names_what_is_open() -> None:
    """Only when nobody did so before."""
    with Request():
        for key in ("a", "b"):
            scopes.name(key)
            assert PIN.get().key == "a"
    scopes.name("nobody")
    assert PIN.get(None) is None


def test_one_object_is_entered_once_at_a_time() -> None:
    """Else nobody would know which scope is left."""
    request = Request("a")
    with request:
        context = contextvars.Context()
        with pytest.raises(RuntimeError, match="before"):
            context.run(request.__enter__)
    with request:
        assert keys() == ["a"]
    assert keys() == []


def test_carried_after_it_was_left() -> None:
    """A context that was copied inside carries it, and whoever asks is told so until it is gone."""
    with Request("a"):
        context = contextvars.copy_context()
    (scope,) = older(EVER)
    assert scope.left
    assert "carried" in repr(scope)
    assert context[PIN] is scope
    del scope
    del context
    assert keys() == []


def test_work_that_is_carried_begins_requests_of_its_own() -> None:
    """The request it was begun in is over, and what it does now is not part of that."""
    with Request("a"):
        context = contextvars.copy_context()

    def later() -> str | None:
        with Request("b"):
            pass
        with Request():
            return PIN.get().key

    assert context.run(later) is None
    assert context[PIN].key == "a"


def test_left_in_another_context() -> None:
    """A generator that is finished elsewhere ends its request, and no error comes of it."""

    def made() -> Generator[int]:
        with Request("a"):
            yield 1

    generator = made()
    assert contextvars.Context().run(next, generator) == 1
    assert keys() == ["a"]
    assert contextvars.Context().run(next, generator, 2) == 2
    assert keys() == []


def test_left_in_a_copy() -> None:
    """A context that inherited both scopes goes on in the outer one."""
    with Request("a"):
        outer = PIN.get()
        entered = enter("b")
        copy = contextvars.copy_context()
        copy.run(leave, entered)
        assert copy[PIN] is outer
        PIN.set(outer)


def test_parts_of_a_scope() -> None:
    """A scope may be begun here, worked for there, and ended elsewhere."""
    scope = begin("a")
    assert scope is not None
    assert PIN.get(None) is None
    with Inside(scope):
        assert begin(None) is None
        assert PIN.get() is scope
    seen: list[object] = []

    def look(jobs: list[Job]) -> None:
        seen.extend((PIN.get().key, jobs[0].thread))

    job = Job(scope, look)
    job([job])
    assert seen == ["a", threading.get_ident()]
    assert job.thread == 0
    assert PIN.get(None) is None
    end(scope)
    del job
    scope = None
    assert keys() == []


def test_tasks_carry_the_very_object() -> None:
    """What one task decides, the others see; a scope is carried while a task runs, not longer."""

    async def decide() -> None:
        PIN.get()[7] = 1

    async def see() -> int:
        await asyncio.sleep(0)
        return PIN.get()[7]

    async def rest(event: asyncio.Event) -> None:
        await event.wait()

    async def serve() -> None:
        event = asyncio.Event()
        with Request("a"):
            await asyncio.create_task(decide())
            assert list(await asyncio.gather(see(), see())) == [1, 1]
            task = asyncio.create_task(rest(event))
            called: list[object] = []
            asyncio.get_running_loop().call_soon(lambda: called.append(PIN.get()[7]))
            await asyncio.sleep(0)
            assert called == [1]
            assert await asyncio.to_thread(lambda: PIN.get()[7]) == 1
        assert keys() == ["a"]
        event.set()
        await task
        del task
        await asyncio.sleep(0)  # the loop holds what woke this up until it is called again
        assert keys() == []

    asyncio.run(serve())


def test_no_request_is_missed() -> None:
    """Threads that begin and end requests while others ask: each that began before is told.

    A request notes the last epoch that was announced when it began: it is old to the next one, and
    whoever asks must see it as long as it is not left.
    """
    stop = threading.Event()
    missed: list[str] = []

    def serve() -> None:
        while not stop.is_set():
            with Request("x"):
                me = PIN.get()
                if me not in older(me.epoch + 1):
                    missed.append("open")
                context = contextvars.copy_context()
            if me not in older(me.epoch + 1):
                missed.append("carried")
            del context, me

    threads = [threading.Thread(target=serve) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in threads:
        thread.start()
    for _ in range(300):
        epoch = scopes.advance()
        assert all(scope.epoch < epoch for scope in older(epoch))
    stop.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert missed == []
    assert keys() == []


def test_a_child_has_only_its_own() -> None:
    """Requests of threads that a fork did not copy, and of tasks, are the parent's."""
    started, done = threading.Event(), threading.Event()

    def serve() -> None:
        with Request("other"):
            started.set()
            done.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    with Request("a task's"):
        loop = contextvars.copy_context()
    entered = contextvars.Context().run(enter, "of a loop")
    with Request("mine"):
        before = sorted(str(key) for key in keys())
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            scopes.forget_others()
            os.write(write, ",".join(str(scope.key) for scope in older(EVER)).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write)
        assert before == ["a task's", "mine", "of a loop", "other"]
        assert os.read(read, 100) == b"mine"
        os.close(read)
    leave(entered)
    del loop
    done.set()
    thread.join()


def takes_in_a_while(jobs: queue.Queue[Callable[[], None]]) -> None:
    """A worker."""
    while not jobs.empty():
        jobs.get()()


def takes_with_a_limit(jobs: queue.Queue[Any], stop: threading.Event) -> None:
    """A worker."""
    while not stop.is_set():
        try:
            job = jobs.get(timeout=1)
        except queue.Empty:
            continue
        job()


def iterates_over_takes(jobs: queue.Queue[Any]) -> None:
    """A worker."""
    for job in iter(jobs.get, None):
        job()


async def takes_and_awaits(jobs: asyncio.Queue[Any]) -> None:
    """A worker."""
    while True:
        job = await jobs.get()
        await job()


def never_ends(flush: Callable[[], None]) -> None:
    """A worker: it cannot be the request's."""
    while True:
        try:
            time.sleep(60)
            flush()
        except ValueError:
            print("again")


def tries_again(call: Callable[[], int]) -> int:
    """No worker."""
    while True:
        try:
            return call()
        except ValueError:
            time.sleep(1)


def looks_up(found: dict[str, str], names: list[str]) -> list[str]:
    """No worker: a dictionary's `get` has a key."""
    out: list[str] = []
    for each in names:
        try:
            value = found[each]
        except KeyError:
            value = ""
        out.append(found.get(each, value))
    name: str | None = names[0]
    while name:
        name = found.get(name)
    return out


async def takes_once_each(jobs: asyncio.Queue[int]) -> int:
    """No worker: this comes to an end."""
    total = await jobs.get()
    for _ in range(3):
        total += await jobs.get()
    return total


WORKERS: list[Any] = [
    vars(pool_thread)["_worker"],
    vars(pool)["worker"],
    takes_in_a_while,
    takes_with_a_limit,
    iterates_over_takes,
    takes_and_awaits,
    never_ends,
]


@pytest.mark.parametrize("function", WORKERS)
def test_workers(function: object) -> None:
    """What takes work in a loop works for whoever gives it."""
    assert is_worker(function)


@pytest.mark.parametrize(
    "function",
    [tries_again, looks_up, takes_once_each, threading.Thread.run, threading.Timer.run, print],
)
def test_no_workers(function: object) -> None:
    """What comes to an end by itself works for whoever began it."""
    assert not is_worker(function)
