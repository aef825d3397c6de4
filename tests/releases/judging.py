"""A row says what was measured of one release, and whether that is as `releases.toml` expects."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tests.releases.fetching import add_jurigged, prepare
from tests.releases.running import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.releases.pairs import Pair

Report = dict[str, Any]
Row = dict[str, Any]
_MEASURED = ("patch ms", "plan ms", "apply ms", "flip us", "functions held", "functions", "notices")


def judge(pair: Pair, say: Callable[[str], None]) -> Row:
    """Run one pair with zdpatch. `wrong` of the row holds what is not as expected.

    Raises subprocess.CalledProcessError when it cannot be fetched.
    """
    say("fetch")
    prepare(pair)
    say("zdpatch")
    live = run(pair, "zdpatch")
    row: Row = {
        "release": f"{pair.old} -> {pair.new.partition('==')[2]}",
        "fixes": pair.fixes,
        "hard": pair.hard,
        "not imported": live.get("not imported", []),
        "wrong": [],
    }
    say("fresh")
    fresh = run(pair, "new")
    row["fresh"] = len(passing(fresh))
    if not row["fresh"]:
        row["wrong"].append(f"no test passes fresh: {fresh.get('died') or fresh.get('exit')}")
    if "refused" in live:
        _judge_refusal(pair, live, row, say)
    else:
        _judge_live(pair, live, fresh, row)
    return row


def judge_others(pair: Pair, say: Callable[[str], None]) -> Row:
    """The same release brought in by other ways: more cells of its row, which are only told."""
    fresh = run(pair, "new")
    say("reload")
    cells: Row = {"reload": _beside(run(pair, "reload"), fresh)}
    say("jurigged")
    missing = add_jurigged(pair.folder)
    return cells | {"jurigged": missing or _beside(run(pair, "jurigged"), fresh)}


def passing(report: Report) -> set[str]:
    """The tests of `report` that passed."""
    return {name for name, outcome in report.get("tests", {}).items() if outcome == "passed"}


def _judge_live(pair: Pair, live: Report, fresh: Report, row: Row) -> None:
    """In place: all that passes fresh passes live, nothing is stale, the fix shows."""
    lost = passing(fresh) - passing(live)
    row |= {key: live[key] for key in _MEASURED if key in live}
    row |= {"outcome": "in place", "live": len(passing(live)), "fix shows": live.get("check")}
    row |= {"changed": live.get("held and changed"), "stale": live.get("stale", [])}
    if lost:
        # Tests of sockets and time-outs fail now and then: lost is what fails live twice, and
        # passes fresh twice.
        again = passing(run(pair, "zdpatch", again=True))
        unsteady = {name for name in lost if name in again}
        if lost - unsteady:
            unsteady |= lost - passing(run(pair, "new", again=True))
        row["unsteady"] = sorted(unsteady)
        lost -= unsteady
    unlike = {name for name in lost if any(fnmatchcase(name, one) for one in pair.unlike_fresh)}
    row["unlike fresh"] = sorted(unlike)
    row["lost"] = sorted(lost - unlike)
    wrong = {
        f"expected a refusal: {pair.expect}": pair.expect != "applied",
        f"died: {live['died']}": bool(live["died"]),
        "the check was true before the patch": bool(live.get("check before")),
        "the fix does not show in what was made before the patch": not live.get("check"),
        f"stale: {row['stale']}": bool(row["stale"]),
        f"tests lost: {row['lost']}": bool(row["lost"]),
    }
    row["wrong"] += [words for words, so in wrong.items() if so]


def _judge_refusal(pair: Pair, live: Report, row: Row, say: Callable[[str], None]) -> None:
    """Refused: a control for each edit refused, which shows what breaks when it is made."""
    row |= {"outcome": "refused", "refused": live["refused"], "verdicts": live["verdicts"]}
    if pair.expect == "applied":
        row["wrong"].append(f"refused: {live['refused']}")
        return
    say("control")
    told = run(pair, "control")
    outcomes = told.get("controls") or [told["died"]] * len(pair.controls)
    row["controls"] = [
        {"edits": one.edits, "shows": one.shows, "outcome": outcome}
        for one, outcome in zip(pair.controls, outcomes, strict=True)
    ]
    paths = {one["path"] for one in live["verdicts"]} or {live["refused"].partition(":")[0]}
    covered = [pattern for one in pair.controls for pattern in one.edits]
    bare = {path for path in paths if not any(fnmatchcase(path, one) for one in covered)}
    row["wrong"] += [f"refused without a control: {path}" for path in sorted(bare)]
    row["wrong"] += [
        f"the control of {one['edits']} shows nothing: {one['outcome']}"
        for one in row["controls"]
        if one["outcome"] != "broken"
    ]
    if not any(fnmatchcase(path, pair.expect) for path in paths):
        row["wrong"].append(f"not refused for {pair.expect}")


def _beside(report: Report, fresh: Report) -> Report:
    """The same of another way, which is only told."""
    return {
        "died": report["died"],
        "trouble": report.get("trouble", []),
        "live": len(passing(report)),
        "lost": len(passing(fresh) - passing(report)),
        "stale": len(report.get("stale", [])),
        "changed": report.get("held and changed", 0),
        "fix shows": report.get("check", False),
    }
