"""A service under load from threads, tasks and executors; counts requests that saw both versions.

A program: `under_load.py SHOP`, where SHOP has `shop.py` and `frame.py` (see
`tests/engine/consistent_child.py`). It says "up", and at the end of its input what it counted.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.engine.consistent_child import Load
from zdpatch import agent


def main() -> None:
    """Run until the input ends."""
    sys.path.insert(0, sys.argv[1])
    agent.start(app="shop", now=True)
    load = Load(importlib.import_module("shop"), importlib.import_module("frame"), 0.0)
    pool = ThreadPoolExecutor(2)
    works = [load.guarded(load.requests, pool), load.guarded(load.tasks), load.guarded(load.calls)]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(1e-3)
    print("up", flush=True)
    sys.stdin.read()
    load.stop = True
    for thread in threads:
        thread.join()
    pool.shutdown()
    told = {"done": load.done, "mixed": load.mixed, "failed": load.failed}
    print(json.dumps({**told, "both": sorted(load.both)}))


main()
