"""What is asked of an interpreter that runs a probe, and what it answers; see `probing`.

Both sides load this, and an agent loads it at its start: it imports next to nothing.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.patcher.source import Patch  # noqa: TC001 - msgspec reads it at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORT_FD: Final = 4
BEGUN: Final = b"."  # the first byte of a report
# The interpreter's first program: where modules are it is told before anything else.
START: Final = """
import sys
with open(3, "rb", closefd=False) as spec:
    lines = [line[:-1] for line in iter(spec.readline, b"\\n")]
    rest = spec.read()
sys.path[:] = [line.decode("utf-8", "surrogateescape") for line in lines]
from zdpatch.agent import probing
probing.main(rest)
"""


class Task(msgspec.Struct, frozen=True):
    """A probe's name and source, what it is to find (one patch that stands for all), and how many
    seconds it has.
    """

    name: str
    source: bytes
    patch: Patch
    limit_s: int


class Case(msgspec.Struct, frozen=True):
    """One check; `failure` is what was seen, "" when it went well."""

    name: str
    failure: str = ""


class Found(msgspec.Struct, frozen=True):
    """What became of a probe: its checks, or why there are none."""

    cases: list[Case] = []
    failure: str = ""


def specification(task: Task, path: Sequence[str]) -> bytes:
    """What `START` reads: the places of modules, a line each, and the task."""
    lines = [place.encode("utf-8", "surrogateescape") for place in path if "\n" not in place]
    return b"".join(line + b"\n" for line in [*lines, b""]) + msgspec.msgpack.encode(task)


def imports_pytest(tree: ast.Module) -> bool:
    """Whether a probe is a module of pytest's."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == "pytest" for name in names):
            return True
    return False
