"""Why a scope is not gone is told: a task, thread, timer or connection carries it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.patcher.carriers import Carrier, carriers, idle
from zdpatch.patcher.scopes import PIN, Job, Request, older

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Of any test."""
    yield
    gc.collect()
    assert older(sys.maxsize) == []


def left() -> list[Carrier]:
    """What carries the one scope that is there."""
    (found,) = carriers(older(sys.maxsize)).values()
    return found


def is_idle() -> bool:
    """Whether none of it runs for the request any more."""
    return len(idle(older(sys.maxsize))) == 1


async def rest(event: asyncio.Event) -> None:
    """Work of a request."""
    await event.wait()


async def serve_others(jobs: asyncio.Queue[Any]) -> None:
    """Work for whoever asks."""
    while True:
        await jobs.get()


def test_tasks() -> None:
    """Named with what they run; a worker is idle, and one that has ended carries nothing."""

    async def main() -> None:
        event = asyncio.Event()
        with Request("a"):
            task = asyncio.create_task(rest(event), name="resting")
            await asyncio.sleep(0)
        assert left() == [Carrier("task", "resting (rest)", idle=False)]
        assert not is_idle()
        event.set()
        await task
        assert is_idle()
        del task
        await asyncio.sleep(0)
        with Request("a"):
            worker = asyncio.create_task(serve_others(asyncio.Queue()), name="worker")
            await asyncio.sleep(0)
        assert left() == [Carrier("task", "worker (serve_others)", idle=True)]
        assert is_idle()
        worker.cancel()

    asyncio.run(main())


def test_timers_and_callbacks() -> None:
    """What will be called counts; what was cancelled does not."""

    def later() -> None:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Request("a"):
            timer = loop.call_later(60, later)
        (carrier,) = left()
        assert (carrier.kind, carrier.idle) == ("timer", False)
        assert "later" in str(carrier)
        timer.cancel()
        assert is_idle()
        del timer
        loop._scheduled.clear()  # type: ignore[attr-defined]
        with Request("a"):
            loop.call_soon(later)
        assert [each.kind for each in left()] == ["callback"]
        await asyncio.sleep(0)

    asyncio.run(main())


def test_connections() -> None:
    """One that a request opened is everybody's from then on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with Request("a"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x\n")
            assert await reader.readline() == b"x\n"
        await asyncio.sleep(0)
        assert [(each.kind, each.idle) for each in left()] == [("connection", True)]
        assert is_idle()
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(main())


def run_in_a_thread(job: Callable[[], object]) -> threading.Thread:
    """Started, by nobody in particular."""
    thread = threading.Thread(target=job, name="worker-1")
    thread.start()
    return thread


def test_threads_and_jobs() -> None:
    """By the thread's name; one that waits for another is idle, one that has not begun is not."""
    begun, gate, stop = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        while not stop.is_set():
            pass
        begun.set()
        gate.wait()

    with Request("a"):
        job = Job(PIN.get(), work)
    assert left() == [Carrier("job", work.__qualname__, idle=False)]
    thread = run_in_a_thread(job)
    del job
    begun.wait()
    begun.clear()
    assert [(each.kind, each.name, each.idle) for each in left()] == [("thread", "worker-1", False)]
    stop.set()
    begun.wait()
    while not is_idle():
        pass
    assert str(left()[0]) == "thread worker-1, which waits"
    gate.set()
    thread.join()


def test_a_context_that_somebody_keeps() -> None:
    """It may be run again, and is told."""
    with Request("a"):
        kept = contextvars.copy_context()
    assert [each.kind for each in left()] == ["context"]
    assert not is_idle()
    del kept


def test_a_call_that_is_over() -> None:
    """Its locals wait for the collector and carry nothing; those of a suspended one do."""

    def fail() -> None:
        kept = contextvars.copy_context()
        try:
            raise KeyError(kept)
        except KeyError as error:
            cycle.append(error)

    def hold() -> Generator[contextvars.Context]:
        kept = contextvars.copy_context()
        yield kept

    cycle: list[object] = []
    with Request("a"):
        fail()
        cycle[0].args = ()  # type: ignore[attr-defined]
    assert left() == []
    assert is_idle()
    cycle.clear()
    gc.collect()
    with Request("a"):
        generator = hold()
        assert next(generator)
    assert [each.kind for each in left()] == ["context"]
    generator.close()


def test_open_scopes_are_never_idle() -> None:
    """Their own block is what runs."""
    with Request("a"):
        assert idle(older(sys.maxsize)) == []
