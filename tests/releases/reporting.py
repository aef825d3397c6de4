"""The report: one line a release on the terminal, `report.md` for people, `report.json` for
programs.
"""

from __future__ import annotations

import json
import platform
import subprocess
from typing import TYPE_CHECKING, Any

from tests.releases.pairs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]
HEAD = (
    "release", "fixes", "outcome", "fresh", "live", "stale", "fix", "plan ms", "apply ms",
    "flip us", "reload", "jurigged",
)  # fmt: skip


def line(name: str, row: Row) -> str:
    """One release in one line."""
    kind = "WRONG" if row["wrong"] else "ok"
    return f"{kind} {name}: {' | '.join(_cells(row)[2:])} {'; '.join(row['wrong'])[:600]}"


def write(folder: Path, rows: dict[str, Row]) -> None:
    """`report.json` and `report.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    text = [f"Python {platform.python_version()}, zdpatch {_commit()}.", "", *_summary(rows), ""]
    text += [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    text += [f"| {' | '.join(_cells(row))} |" for row in rows.values()]
    for name, row in rows.items():
        if details := _details(row):
            text += ["", f"## {name}", "", *details]
    (folder / "report.md").write_text("\n".join(text) + "\n")


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        told = subprocess.run(command, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "(commit not known)"
    return told.stdout.strip()


def _summary(rows: dict[str, Row]) -> list[str]:
    """The sums that matter, for each way."""
    some = [row for row in rows.values() if row["outcome"] != "not fetched"]
    inside = [row for row in some if row["outcome"] == "in place"]
    right = [row for row in inside if not row["wrong"]]
    refused = [row for row in some if row["outcome"] == "refused"]
    said = [
        f"- zdpatch: {len(right)} of {len(some)} releases in place and right; {len(refused)} "
        f"refused, {sum(not row['wrong'] for row in refused)} of them with a control for every "
        f"edit refused; {sum(len(row['stale']) for row in inside)} stale functions of "
        f"{sum(row['changed'] or 0 for row in inside)} that were held and changed."
    ]
    for way in ("reload", "jurigged"):
        done = [row[way] for row in some if isinstance(row.get(way), dict)]
        fully = [one for one in done if _fully(one)]
        said.append(
            f"- {way}: {len(fully)} of {len(done)} releases in place and right; "
            f"{sum(one['stale'] for one in done)} stale functions of "
            f"{sum(one['changed'] for one in done)}; {sum(bool(one['died']) for one in done)} "
            "processes died or hung."
        )
    return said


def _fully(one: Row) -> bool:
    return not (one["died"] or one["lost"] or one["stale"]) and bool(one["fix shows"])


def _cells(row: Row) -> list[str]:
    """The cells of a row, in the order of HEAD."""
    inside = row["outcome"] == "in place"
    cells = [row["release"], ", ".join(row.get("fixes", [])), _outcome(row)]
    cells += [str(row.get("fresh", "")), _live(row) if inside else ""]
    cells += [f"{len(row['stale'])} of {row['changed']}" if inside else ""]
    cells += [("shows" if row["fix shows"] else "MISSING") if inside else ""]
    times = (row.get("patch ms", 0) + row.get("plan ms", 0), row.get("apply ms", 0))
    cells += [f"{spent:,.0f}" if inside else "" for spent in times]
    cells += [f"{row.get('flip us', 0):,.0f}" if inside else ""]
    return [*cells, _other(row.get("reload", "")), _other(row.get("jurigged", ""))]


def _outcome(row: Row) -> str:
    if row["outcome"] != "refused":
        return str(row["outcome"])
    edits = sorted({f"{one['path']}" for one in row["verdicts"]})
    more = f" and {len(edits) - 3} more" if len(edits) > 3 else ""
    return f"refused: {', '.join(edits[:3])}{more}" if edits else f"refused: {row['refused']}"


def _live(row: Row) -> str:
    unusual = [key for key in ("unsteady", "unlike fresh", "lost") if row.get(key)]
    return ", ".join([str(row["live"]), *(f"{len(row[key])} {key}" for key in unusual)])


def _other(one: Row | str) -> str:
    """Another way in one cell."""
    if isinstance(one, str):
        return one
    said = [f"lost {one['lost']}"] if one["lost"] else []
    said += [f"stale {one['stale']}"] if one["stale"] else []
    said += [] if one["fix shows"] else ["no fix"]
    said += [f"{len(one['trouble'])} errors"] if one["trouble"] else []
    said += ["died or hung"] if one["died"] else []
    return ", ".join(said) or "right"


def _details(row: Row) -> list[str]:
    """What a row has to say that does not fit in its cells."""
    said = [f"- **not as expected**: {words}" for words in row["wrong"]]
    said += [
        f"- `{one['path']}` ({one['edit']}, row {one['row']}): {one['reason']}"
        for one in row.get("verdicts", [])
    ]
    said += [
        f"- control of {', '.join(one['edits'])}: {one['shows']}: {one['outcome']}"
        for one in row.get("controls", [])
    ]
    said += [f"- unsteady: {name}" for name in row.get("unsteady", [])]
    said += [f"- unlike fresh: {name}" for name in row.get("unlike fresh", [])]
    said += [f"- told: {words}" for words in row.get("notices", [])]
    return said
