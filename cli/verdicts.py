"""Verdicts read the same in a terminal, in JSON, in SARIF and in a CI's annotations."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import zdpatch
from zdpatch.cli.output import Output, clean, count, table
from zdpatch.patcher.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zdpatch.patcher.errors import Verdict

IN_PLACE: Final = "A"
ROWS: Final = {
    "A": "in place",
    "Q": "needs a consistent flip",
    "M": "needs a migration",
    "R": "needs new workers",
    "X": "cannot be done",
}
_COLOUR: Final = {"A": "green", "Q": "yellow", "M": "yellow", "R": "red", "X": "red"}
_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def unsafe(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The edits that cannot go in place."""
    return [verdict for verdict in verdicts if verdict.row != IN_PLACE]


def refusal(verdicts: Sequence[Verdict], *, next: str = "") -> Refused:
    """ZDP-202 for these verdicts."""
    bad = unsafe(verdicts)
    cause = f"{len(bad)} of {count(len(verdicts), 'edit')} cannot go in place"
    return Refused("ZDP-202", cause, tuple(bad), next=next)


def verdict_lines(output: Output, verdicts: Sequence[Verdict]) -> list[str]:
    """A table: what happens, where, which edit; reason and remedy below what is not in place."""
    rows = table(
        [(ROWS.get(v.row, v.row), f"{v.path}:{v.line}", v.edit) for v in verdicts],
    )
    lines: list[str] = []
    for verdict, row in zip(verdicts, rows, strict=True):
        lines.append(output.paint(row, _COLOUR.get(verdict.row, "red")))
        if verdict.row != IN_PLACE:
            lines += [f"    {clean(text)}" for text in (verdict.reason, verdict.remedy) if text]
    return lines


def summary(verdicts: Sequence[Verdict]) -> str:
    """`5 edits: 4 in place, 1 needs new workers`."""
    numbers = {row: sum(v.row == row for v in verdicts) for row in ROWS}
    parts = [f"{number} {ROWS[row]}" for row, number in numbers.items() if number]
    return f"{count(len(verdicts), 'edit')}: {', '.join(parts)}" if parts else "no edits"


def sarif(verdicts: Sequence[Verdict], paths: Mapping[str, str]) -> dict[str, object]:
    """A SARIF 2.1.0 log of what cannot go in place. `paths` maps module names to files."""
    rules = [
        {"id": _rule(row), "shortDescription": {"text": words}}
        for row, words in ROWS.items()
        if row != IN_PLACE
    ]
    results = [
        {
            "ruleId": _rule(verdict.row),
            "level": "error",
            "message": {"text": _message(verdict)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _file(verdict, paths)},
                        "region": {"startLine": max(1, verdict.line)},
                    },
                    "logicalLocations": [{"fullyQualifiedName": verdict.path}],
                }
            ],
            "partialFingerprints": {"zdpatch/v1": _fingerprint(verdict)},
        }
        for verdict in unsafe(verdicts)
    ]
    driver = {
        "name": "zdpatch",
        "version": zdpatch.__version__,
        "rules": rules,
    }
    return {
        "$schema": _SARIF,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def github(verdicts: Sequence[Verdict], paths: Mapping[str, str]) -> list[str]:
    """Workflow commands that annotate the lines in a pull request."""
    lines: list[str] = []
    for verdict in unsafe(verdicts):
        where = {
            "file": _file(verdict, paths),
            "line": str(max(1, verdict.line)),
            "title": f"ZDP-202 {verdict.path} {ROWS.get(verdict.row, verdict.row)}",
        }
        properties = ",".join(f"{key}={_escaped(text, ':,')}" for key, text in where.items())
        lines.append(f"::error {properties}::{_escaped(_message(verdict))}")
    return lines


def gitlab(verdicts: Sequence[Verdict], paths: Mapping[str, str]) -> list[dict[str, object]]:
    """A Code Quality report."""
    return [
        {
            "description": _message(verdict),
            "check_name": _rule(verdict.row),
            "fingerprint": _fingerprint(verdict),
            "severity": "major",
            "location": {
                "path": _file(verdict, paths),
                "lines": {"begin": max(1, verdict.line)},
            },
        }
        for verdict in unsafe(verdicts)
    ]


def _rule(row: str) -> str:
    return f"ZDP-202/{row}"


def _message(verdict: Verdict) -> str:
    text = f"{verdict.path}: {verdict.edit}: {verdict.reason}"
    return f"{text}. {verdict.remedy}" if verdict.remedy else text


def _file(verdict: Verdict, paths: Mapping[str, str]) -> str:
    module = verdict.path.partition(":")[0]
    return paths.get(module, module.replace(".", "/") + ".py")


def _fingerprint(verdict: Verdict) -> str:
    """The same while lines move: definition, edit and row."""
    text = "\0".join((verdict.path, verdict.edit, verdict.row))
    return hashlib.sha256(text.encode()).hexdigest()


def _escaped(text: str, more: str = "") -> str:
    """A workflow command's own escapes; `more` are the characters that end a property."""
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
