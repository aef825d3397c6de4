"""Where a hot-patched process and a fresh one end a suite differently, and what that says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from zdpatch.cli import errors
from zdpatch.cli.output import Output, clean, count, table
from zdpatch.cli.suites import THE_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.cli.suites import Report

SCHEMA: Final = "zdpatch.test/v1"
SHOWN: Final = 20
_GOOD: Final = frozenset({"passed", "skipped", "ended"})
_MISSING: Final = "missing"


@dataclass(frozen=True, slots=True)
class Difference:
    """How one test ended, live and fresh, when the live process was patched `when`."""

    when: str
    live: str
    fresh: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reports of all runs: `live` by when the patch came.

    `steady`: tests that ended differently twice; `unsteady`: those that did so once. `refused`:
    why a patch that goes in at the start does not once test modules hold names of the base.
    """

    live: dict[str, Report]
    fresh: Report
    steady: dict[str, Difference]
    unsteady: list[str]
    refused: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def stale(self) -> dict[str, int]:
        """How many functions still ran old code at the end, by path."""
        return {path: n for run in self.live.values() for path, n in run["stale"].items()}

    @property
    def agree(self) -> bool:
        """Whether the patched process is what a restart would be."""
        return not self.steady and not self.stale


def differences(live: Mapping[str, Report], fresh: Report) -> dict[str, Difference]:
    """The tests that ended otherwise in a live run than in the fresh one."""
    return {
        name: Difference(when, one, other)
        for when, run in live.items()
        for name, one, other in _ends(run, fresh)
        if _differ(name, one, other, when)
    }


def uncompared(live: Mapping[str, Report], fresh: Report) -> list[str]:
    """Tests that ran in no live process as they ran in the fresh one: their module was collected
    with names of the base, and is skipped, is another or cannot be imported with these.
    """
    ends = [[(name, one, other) for name, one, other in _ends(run, fresh)] for run in live.values()]
    compared = {name for run in ends for name, *both in run if not _apart(*both)}
    return sorted({name for run in ends for name, _, other in run if other != _MISSING} - compared)


def _ends(run: Report, fresh: Report) -> list[tuple[str, str, str]]:
    one, other = run["outcomes"], fresh["outcomes"]
    names = {*one, *other} if _finished(run) else {THE_RUN}
    return [(name, one.get(name, _MISSING), other.get(name, _MISSING)) for name in sorted(names)]


def _finished(run: Report) -> bool:
    return bool(run["outcomes"].get(THE_RUN) == "ended")


def _differ(name: str, one: str, other: str, when: str) -> bool:
    if when == "collected" and name != THE_RUN and _apart(one, other):
        return False  # the names that a module was collected with made it so, not the patch
    return (one in _GOOD) != (other in _GOOD) or {one, other} == {"passed", "skipped"}


def _apart(one: str, other: str) -> bool:
    """Whether a test ran in one process and not in the other."""
    return one != other and bool({one, other} & {_MISSING, "skipped", "error"})


def report(output: Output, compared: Comparison) -> None:
    """Print the result; raise when the two processes disagree, or when nothing was compared."""
    fresh = compared.fresh["outcomes"]
    left_out = uncompared(compared.live, compared.fresh)
    passed = sum(end == "passed" for name, end in fresh.items() if name not in left_out)
    if not passed and not compared.steady:
        raise errors.usage(
            "no test that passed in the fresh process ran in the patched one: nothing was compared",
            next="zdpatch test ... -- PYTEST ARGUMENTS",
        )
    data: dict[str, object] = {
        "agree": compared.agree,
        "tests": len(fresh) - 1,
        "passed": passed,
        "failed_in_both": _failed_in_both(compared),
        "differ": {
            name: {"live": each.live, "fresh": each.fresh, "when": each.when}
            for name, each in sorted(compared.steady.items())
        },
        "unsteady": compared.unsteady,
        "not_compared": left_out,
        "stale": compared.stale,
        "not_imported": _not_imported(compared),
        "applied": {when: run.get("applied") for when, run in compared.live.items()},
        "refused_when_collected": compared.refused,
    }
    output.result(SCHEMA, data, _lines(output, compared, left_out))
    output.exit(errors.DONE if compared.agree else errors.UNSAFE)


def _lines(output: Output, compared: Comparison, left_out: list[str]) -> list[str]:
    runs = [(f"live, patched at {_WHEN[when]}", run) for when, run in compared.live.items()]
    lines = table([(name, _counts(run)) for name, run in [*runs, ("fresh", compared.fresh)]])
    lines += [f"not imported here: {clean(name)}" for name in sorted(_not_imported(compared))]
    if compared.refused:
        cause = clean(compared.refused["cause"])
        lines.append(f"refused once test modules hold names of the base: {cause}")
        lines += _shown([f"    {each['path']}: {clean(each['reason'])}" for each in _why(compared)])
    lines += [f"unsteady: {clean(name)}" for name in compared.unsteady]
    lines += _shown([f"not compared: {clean(name)}" for name in left_out])
    lines += _shown([f"fails in both: {clean(name)}" for name in _failed_in_both(compared)])
    lines += _shown(
        [
            output.paint(
                f"differs: {clean(n)}: live {d.live}, fresh {d.fresh} (at {_WHEN[d.when]})", "red"
            )
            for n, d in sorted(compared.steady.items())
        ]
    )
    lines += [
        output.paint(f"stale: {clean(path)}: {count(number, 'function')} on old code", "red")
        for path, number in sorted(compared.stale.items())
    ]
    same, other = "the two processes agree", "the patched process is not what a restart is"
    word, colour = (same, "green") if compared.agree else (other, "red")
    return [*lines, output.paint(word, colour, bold=True)]


_WHEN: Final = {"start": "the start", "collected": "the end of collection"}


def _why(compared: Comparison) -> list[dict[str, str]]:
    return list(compared.refused["verdicts"])


def _not_imported(compared: Comparison) -> dict[str, str]:
    return {
        name: why for run in compared.live.values() for name, why in run["not_imported"].items()
    }


def _failed_in_both(compared: Comparison) -> list[str]:
    ends = [end for run in compared.live.values() for end in run["outcomes"].items()]
    bad = {n for n, end in ends if end not in _GOOD and n not in compared.steady}
    fresh = compared.fresh["outcomes"]
    return sorted(n for n in bad if fresh.get(n, _MISSING) not in {*_GOOD, _MISSING})


def _shown(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]


def _counts(run: Report) -> str:
    ends = [end for name, end in run["outcomes"].items() if name != THE_RUN or end != "ended"]
    return ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends))) or "no tests"
