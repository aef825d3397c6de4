"""Requests run while a patch of several functions goes in and out; prints how many saw both
versions.

A program: `consistent_child.py consistent|direct SECONDS [values]`. A request calls functions of
the patch one after the other, through functions that do not change, in threads, tasks, executors,
generators and await chains; and others do so outside of any request, below one function of the
patch. "direct" is the control, without dispatchers. With "values" a constant changes too, so that
all of it flips in one instant in which nobody is inside.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.agent import local
from zdpatch.patcher import scopes
from zdpatch.patcher.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from zdpatch.patcher.moving import MovingEngine
    from zdpatch.patcher.source import Patch

SOURCE = """
import asyncio
LIMIT = 1
def rate():
    return VERSION
def fee():
    return VERSION
class Cart:
    def total(self):
        return VERSION
    @property
    def name(self):
        return VERSION
def lines(count):
    for _ in range(count):
        yield VERSION, fee()
async def paid():
    await asyncio.sleep(0)
    return VERSION, rate()
async def stream():
    yield VERSION
    await asyncio.sleep(0)
    yield rate()
def below(wait):
    first = rate()
    wait()
    found = {each for pair in lines(2) for each in pair}
    return {VERSION, first, rate(), fee(), Cart().total(), *found}
async def chain(wait):
    first = rate()
    await wait()
    return {VERSION, first, *await paid(), *[each async for each in stream()]}
"""
# What changes nothing of itself: it calls the patch twice.
FRAME = """
import shop
def twice(wait):
    seen = {shop.rate(), shop.Cart().total()}
    wait()
    seen |= {shop.fee(), shop.Cart().name, shop.rate()}
    return seen | {each for pair in shop.lines(2) for each in pair}
async def awaits(wait):
    seen = {shop.rate()}
    await wait()
    return seen | {*await shop.paid(), *[each async for each in shop.stream()], shop.fee()}
"""
READS = "    return VERSION\ndef fee", "    assert LIMIT == VERSION\n    return VERSION\ndef fee"


def source(version: int, *, values: bool) -> str:
    """The module whose functions say `version`."""
    text = SOURCE.replace(*READS) if values else SOURCE
    text = text.replace("LIMIT = 1", f"LIMIT = {version}") if values else text
    return text.replace("VERSION", str(version))


class Load:
    """Requests, and what they saw."""

    def __init__(self, shop: ModuleType, frame: ModuleType, pause: float) -> None:
        self.pause = pause  # seconds between two requests: without any, there is always one
        self.shop, self.frame = shop, frame
        self.stop = False
        self.done: dict[str, int] = {}
        self.mixed: dict[str, int] = {}
        self.both: set[int] = set()
        self.failed: list[str] = []

    def note(self, kind: str, seen: set[int]) -> None:
        """One request is over."""
        self.done[kind] = self.done.get(kind, 0) + 1
        self.both |= seen
        if len(seen) > 1:
            self.mixed[kind] = self.mixed.get(kind, 0) + 1

    def requests(self, pool: ThreadPoolExecutor) -> None:
        """In a thread: requests, some of which go on in an executor."""
        number = 0
        while not self.stop:
            number += 1
            with scopes.Request(str(number)):
                first = self.frame.twice(lambda: time.sleep(0.0005))
                if number % 4 == 0:
                    work = pool.submit(copy_context().run, self.frame.twice, lambda: None)
                    first = first | work.result()
            self.note("request", first)
            time.sleep(self.pause)

    def calls(self) -> None:
        """In a thread: calls outside of any request, below one function of the patch."""
        while not self.stop:
            self.note("call", self.shop.below(lambda: time.sleep(0.0005)))

    def tasks(self) -> None:
        """In a thread: an event loop with requests, tasks of requests, and chains outside."""

        async def request(number: int) -> None:
            while not self.stop:
                with scopes.Request(f"task {number}"):
                    parts = await asyncio.gather(
                        asyncio.create_task(self.frame.awaits(lambda: asyncio.sleep(0.001))),
                        asyncio.to_thread(self.frame.twice, lambda: None),
                    )
                self.note("task", parts[0] | parts[1])
                await asyncio.sleep(self.pause)

        async def outside() -> None:
            while not self.stop and not self.pause:
                self.note("chain", await self.shop.chain(lambda: asyncio.sleep(0.001)))

        async def main() -> None:
            await asyncio.gather(*map(request, range(1 if self.pause else 3)), outside(), outside())

        asyncio.run(main())

    def guarded(self, work: Callable[..., None], *given: object) -> Callable[[], None]:
        """`work`, in whose thread an error is noted."""

        def run() -> None:
            try:
                work(*given)
            except Exception as error:
                self.failed.append(repr(error))
                raise

        return run


def settle(engine: MovingEngine) -> int:
    """Wait until the version that leaves has left, and finish; how often it was looked."""
    looks, until = 0, time.monotonic() + 20
    while time.monotonic() < until:
        looks += 1
        with suppress(ProcessError):
            if not engine.blockers():
                engine.finish()
                return looks
        if looks % 500 == 0:
            gc.collect()  # a context in a cycle of garbage carries its scope until then
        time.sleep(0.001)
    told = [str(each) for each in engine.blockers()]
    engine.abort()
    raise RuntimeError(f"never settled: {told}")


def flips(engine: MovingEngine, patch: Patch, how: str, number: int) -> None:
    """The patch goes in and out once."""
    plan = local.plan(patch)
    if how == "direct":
        local.apply(plan)
        time.sleep(0.01)
        local.revert(patch.id)
        return
    engine.begin(plan)
    if number % 4 == 3:  # it is turned back half way
        time.sleep(0.002)
        engine.turn()
        settle_back(engine)
        return
    settle(engine)
    engine.begin_revert(patch.id)
    settle(engine)


def settle_back(engine: MovingEngine) -> None:
    """As `settle`, of what was turned; it may have gone back at once."""
    if engine.moving() is not None:
        settle(engine)


def main() -> None:
    """Run for argv[2] seconds; print the counts as JSON."""
    how, seconds, values = sys.argv[1], float(sys.argv[2]), "values" in sys.argv[3:]
    root = Path(tempfile.mkdtemp(prefix="consistent-"))
    (root / "shop.py").write_text(source(1, values=values))
    (root / "frame.py").write_text(FRAME)
    sys.path.insert(0, str(root))
    load = Load(importlib.import_module("shop"), importlib.import_module("frame"), 0.02 * values)
    texts = [{"shop.py": source(version, values=values)} for version in (1, 2)]
    patch = local.make_patch(*texts)
    engine, pool = local.engine(), ThreadPoolExecutor(2)
    works = [load.guarded(load.requests, pool), load.guarded(load.tasks)]
    works += [] if values else [load.guarded(load.requests, pool), load.guarded(load.calls)]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(1e-4)
    until, number = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < until:
            number += 1
            flips(engine, patch, how, number)
    finally:
        load.stop = True
        for thread in threads:
            thread.join()
        pool.shutdown()
    told = {"done": load.done, "mixed": load.mixed, "flips": number, "failed": load.failed}
    print(json.dumps({**told, "both": sorted(load.both)}))


if __name__ == "__main__":
    main()
