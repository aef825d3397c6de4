"""Offline verdicts: what the text of a patch alone decides. The plan of a running agent is the
authority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zdpatch.patcher.attributes import unfit
from zdpatch.patcher.calls import Changed, stale_calls
from zdpatch.patcher.datafiles import data_edits
from zdpatch.patcher.diff import diff
from zdpatch.patcher.edits import read
from zdpatch.patcher.errors import Verdict
from zdpatch.patcher.promises import eased
from zdpatch.patcher.safety import decide
from zdpatch.patcher.served import Served
from zdpatch.patcher.source import NO_HOOKS
from zdpatch.patcher.spread import Name, stale_reads
from zdpatch.patcher.unstarred import with_known_stars

if TYPE_CHECKING:
    from zdpatch.patcher.source import Patch


def check(patch: Patch) -> list[Verdict]:
    """A verdict for every edit of the patch, refusals first.

    Names that change are taken to change their value; an import which only moved is not.
    Raises Refused (ZDP-206) for a source that does not compile.
    """
    versions = with_known_stars({c.name: read(c, patch.id) for c in patch.changes})
    edits = [edit for each in versions.values() for edit in diff(each)]
    edits += unfit(versions)
    edits += data_edits(patch.data, versions, edits)
    changed: dict[Name, str] = {}
    fresh = edits
    while fresh:
        changed |= {
            (edit.module, edit.qualname): edit.cause or edit.path
            for edit in fresh
            if edit.kind == "value" and not (edit.new[-1].kind == "import" and not edit.cause)
        }
        fresh = stale_reads(versions, changed, edits)
        edits = [*edits, *fresh]
    calls = stale_calls(versions, Changed.of(edits, versions, changed), lambda _module, _call: None)
    edits += calls
    migrates = (patch.hooks or NO_HOOKS).migrates
    decisions = [eased(decide(edit, versions), migrates) for edit in edits]
    decisions.sort(key=lambda each: each.row == "A")
    verdicts = [each.verdict for each in decisions]
    verdicts += Served(patch).verdicts()
    added = [v for v in versions.values() if v.base is None]
    removed = [v for v in versions.values() if v.new is None]
    verdicts += [Verdict(f"{v.name}:", 0, "added module", "A", "new module") for v in added]
    verdicts += [
        Verdict(
            f"{v.name}:",
            0,
            "removed module",
            "A",
            "module removed (checked in the process: nobody uses it)",
        )
        for v in removed
    ]
    return verdicts
