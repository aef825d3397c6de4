"""Looking at a frozen heap leaves it as it is: the event loop that runs in it goes on."""

from __future__ import annotations

import subprocess
import sys

LOOP = """
import asyncio, gc, os, sys, types
from zdpatch.patcher import inventory
from zdpatch.patcher.hidden import with_hidden

target = types.ModuleType("target")
exec("def wanted(): pass", target.__dict__)
hidden = [target.wanted]  # reached by the walk behind frozen objects alone
sys.modules["target"] = target

async def main():
    for _ in range(3):  # leaves freed iterators on the free list of `_asyncio`
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(20)))
    gc.freeze()
    found = inventory.take(target, heap=True)
    assert [one.function for one in found.functions["wanted"]] == hidden
    await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(20)))

asyncio.run(main())
print("went on", flush=True)
# Nothing awaits any more: an iterator that is found now was freed before.
kinds = [type(one).__name__ for one in with_hidden(gc.get_objects())]
print(kinds.count("FutureIter"), flush=True)
os._exit(0)
"""


def test_a_frozen_heap_is_looked_at_under_a_running_loop() -> None:
    """No freed object of the interpreter is touched: asyncio's free list stays as it was."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "went on\n0\n"), done.stderr
