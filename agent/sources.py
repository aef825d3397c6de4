"""What is given out as the source of a module was compared with what runs; nothing is changed."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from zdpatch.agent.audit import Actor
    from zdpatch.agent.here import Here
    from zdpatch.agent.protocol import Source
    from zdpatch.patcher.running import Running

_BEGAN: Final = time.time()  # when the agent was imported, in this process or in a parent
_OTHERS: Final = 200  # named at most
_ROOT: Final = 0


class SourceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module. `digest` is of the source that runs; `source` is None when the asker has it.

    `state`: "verified", "drifted" (`path`, `line` and `what` of the first difference), "no source",
    "absent", or "later": ask again.
    """

    name: str
    state: str
    package: bool = False
    loaded: bool = False
    digest: str = ""
    source: bytes | None = None
    path: str = ""
    line: int = 0
    what: str = ""


class SourceResult(msgspec.Struct, frozen=True):
    """One row for each module asked for, and loaded modules of `below` that were not."""

    modules: list[SourceRow]
    others: list[str]


def source(here: Here, header: Source, by: Actor, blob: bytes | None) -> SourceResult:
    """The sources of the modules asked for, as many as fit. Raises OperatorError ZDP-403, ZDP-404.

    A source that is offered (`blob`) is compiled to be compared. So it is taken from those alone
    who could do anything to this process: root and its own user.
    """
    if blob is not None:
        if by.uid not in (_ROOT, os.geteuid()):
            raise OperatorError("ZDP-403", f"{by} may not offer sources to this process")
        if len(header.modules) != 1:
            raise OperatorError("ZDP-404", "a source is offered for one module")
    rows: list[SourceRow] = []
    budget, end = here.settings.source_bytes, here.clock.steady() + here.settings.source_s
    for name, had in header.modules.items():
        if rows and (budget <= 0 or here.clock.steady() >= end):
            rows.append(SourceRow(name, "later"))
            continue
        row = _row(here.engine.running(name, blob, _BEGAN), had)
        sent = len(row.source or b"")
        if rows and sent > budget:
            row = SourceRow(name, "later")
        budget -= sent
        rows.append(row)
    return SourceResult(rows, _others(header))


def _row(found: Running, had: str) -> SourceRow:
    if found.source is not None:
        digest = hashlib.sha256(found.source).hexdigest()
        sent = None if digest == had else found.source
        return SourceRow(found.name, found.state, found.package, found.loaded, digest, sent)
    row = SourceRow(found.name, found.state, found.package, found.loaded)
    if found.first is not None:
        first = found.first
        return SourceRow(
            *(row.name, row.state, row.package, row.loaded),
            path=first.path,
            line=first.line,
            what=first.what,
        )
    return row


def _others(header: Source) -> list[str]:
    """Loaded modules of the packages in `below` that were not asked for."""
    packages = tuple(f"{name}." for name in header.below)
    loaded = [name for name in list(sys.modules) if name.startswith(packages)]
    return sorted(set(loaded) - set(header.modules))[:_OTHERS]
