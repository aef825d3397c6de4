"""One process of the application "shop": runs the lines it reads, prints what they are.

A line is a Python expression (its value is printed as JSON) or a statement.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

SPEC: dict[str, Any] = json.loads(sys.argv[1])
sys.path.insert(0, SPEC["tree"])

from zdpatch.agent import later  # noqa: E402
from zdpatch.agent.config import configure  # noqa: E402
from zdpatch.agent.launch import launch  # noqa: E402

if TYPE_CHECKING:
    from zdpatch.agent.handle import Handle

cart: Any = importlib.import_module("shop.cart")  # the tree is known only now


def gate(step: str) -> None:
    """Die at the named step, as from outside; or find the disk full there."""
    if step == SPEC.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == SPEC.get("full"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def start() -> Handle:
    """The agent of this process."""
    config = configure(
        "shop", {"zone": "a"}, SPEC["release"], SPEC["home"], now=SPEC["now"], environ=os.environ
    )
    settings = dataclasses.replace(config.settings, **SPEC["settings"])
    return launch(dataclasses.replace(config, settings=settings), gate=gate)


def tell() -> None:
    """For ever write what this process sees where the test can read it."""
    out = Path(SPEC["tree"]) / f"sees-{os.getpid()}"
    while True:
        partial = out.with_suffix(".part")
        partial.write_text(str(cart.vat()))
        partial.rename(out)
        time.sleep(0.02)


def fork() -> int:
    """A child that tells what it sees; its pid."""
    pid = os.fork()
    if pid == 0:
        tell()
    return pid


def short() -> int:
    """A child that ends at once, by way of the interpreter's exit; its status."""
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    """Serve lines until there are no more."""
    if uid := SPEC.get("uid"):
        # the interpreter's own files may be out of reach from here on
        later.need(later.ENGINE)
        later.need(later.SIGNATURES)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    scope: dict[str, Any] = {**globals(), "old": cart.vat}
    scope["handle"] = start()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        try:
            value = eval(line, scope)
        except SyntaxError:
            value = None
            exec(line, scope)
        print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
