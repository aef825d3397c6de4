"""Runs edits twice, each in a fork of this process: the new source fresh, and the base patched.

A program, not a module: reads a JSON list of cases on stdin, answers a JSON list of outcomes:
"same" (every expression gives what it gives in the fresh process, and after the revert what it gave
before), "refused" (and nothing changed), or a sentence that says what differs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable

Case = dict[str, Any]


def forked(run: Callable[[], Any]) -> Any:  # noqa: ANN401 - what JSON carries
    """The result of `run` in a child process; an "ended" text when it did not come."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(run()))
            out.flush()
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "the process ended"


def load(case: Case, files: dict[str, str]) -> dict[str, Any]:
    """Write and import modules; the names that the case's expressions see."""
    root = tempfile.mkdtemp()
    for path, text in {**files, **case["outside"]}.items():
        target = Path(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    sys.path.insert(0, root)
    importlib.invalidate_caches()
    space: dict[str, Any] = {"sys": sys}
    for path in [*files, *case["outside"]]:
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        importlib.import_module(name)
        space[name.partition(".")[0]] = sys.modules[name.partition(".")[0]]
    exec(case["live"], space)
    return space


def values(case: Case, space: dict[str, Any]) -> list[str]:
    """What each expression gives, or raises."""
    found: list[str] = []
    for expression in case["now"]:
        try:
            found.append(repr(eval(expression, space)))
        except Exception as error:  # noqa: BLE001 - an expression may raise anything
            found.append(f"{type(error).__name__}: {error}")
    return found


def fresh(case: Case) -> list[str]:
    """The expressions in a process that imported the new source."""
    return values(case, load(case, {**case["base"], **case["new"]}))


def patched(case: Case) -> dict[str, Any]:
    """The expressions before the patch, with it, and after its revert."""
    space = load(case, case["base"])
    before = values(case, space)
    try:
        patch = local.make_patch(case["base"], {**case["base"], **case["new"]})
        local.apply(local.plan(patch, drain_s=0.2))
    except ZdpatchError as error:
        return {"refused": error.code, "changed": values(case, space) != before}
    now = values(case, space)
    local.revert(patch.id)
    return {"now": now, "back": values(case, space) == before}


def outcome(case: Case) -> str:
    """One of the texts that the first lines of this program list."""
    wanted, got = forked(lambda: fresh(case)), forked(lambda: patched(case))
    if isinstance(got, str):
        return got
    if "refused" in got:
        return "refused, but something changed" if got["changed"] else "refused"
    if got["now"] != wanted:
        return f"{got['now']} against {wanted}"
    return "same" if got["back"] else "the revert did not bring back what was there"


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    print(json.dumps([outcome(case) for case in json.load(sys.stdin)]))
