"""`test` runs a suite twice: in a hot-patched process, and in one that had the new code from the
start. Where the two disagree, the patch is not what a restart would be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zdpatch.cli import errors
from zdpatch.cli.build import PYTHONS, compare
from zdpatch.cli.bundlefile import read_bundle, write_atomically
from zdpatch.cli.output import Command, Output, clean, count, pass_output, table
from zdpatch.cli.sources import SOURCE_KINDS, narrowed, read_source
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher.errors import OperatorError, Refused, Verdict
from zdpatch.patcher.manifest import LAST_SECOND, Manifest, Origin, Target, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.cli.import_root import Source

SCHEMA: Final = "zdpatch.test/v1"
SHOWN: Final = 20
_STDERR: Final = 2  # the descriptor, which a child inherits
_GOOD: Final = frozenset({"passed", "skipped"})
_RAN: Final = frozenset({0, 1, 2, 5})  # pytest's codes of a run that came to an end by itself


@dataclass(frozen=True, slots=True)
class Suite:
    """How to run pytest: with which interpreter, which arguments, and how long at most."""

    python: str
    arguments: tuple[str, ...]
    when: str
    limit_s: float
    folder: Path

    def run(self, bundle: Path, mode: str) -> dict[str, Any]:
        """Run the suite once; what the plugin wrote. Raises ZDP-001 when pytest did not run."""
        report = self.folder / f"{mode}.json"
        report.unlink(missing_ok=True)
        command = [self.python, "-m", "pytest", "-p", "zdpatch.agent.pytest_plugin"]
        # with "=": pytest looks for its root directory around every word that is a path
        command += ["--continue-on-collection-errors", f"--zdpatch={bundle}"]
        command += [f"--zdpatch-mode={mode}", f"--zdpatch-when={self.when}"]
        command += [f"--zdpatch-report={report}", *self.arguments]
        code = self._wait(command)
        told: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
        if "refused" not in told and (code not in _RAN or not told):
            raise errors.usage(
                f"pytest ended with {code} in the {mode} run, without a result; see above",
                next=f"{self.python} -m pytest {' '.join(self.arguments)}",
            )
        return told

    def _wait(self, command: list[str]) -> int:
        # stdout is for the result: what pytest prints is progress
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=_STDERR, start_new_session=True
        )
        try:
            return child.wait(self.limit_s)
        except subprocess.TimeoutExpired:
            raise OperatorError(
                "ZDP-001",
                f"the suite did not end within {self.limit_s:g} s",
                next="zdpatch test ... --limit S",
            ) from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reports of both runs. `steady`: (live, fresh) outcome of each test that ended well in
    only one of them, twice; `unsteady`: those that did so once.
    """

    live: dict[str, Any]
    fresh: dict[str, Any]
    steady: dict[str, tuple[str, str]]
    unsteady: list[str]

    @property
    def agree(self) -> bool:
        """Whether the patched process is what a restart would be."""
        return not self.steady and not self.live["stale"]


@click.command(
    "test",
    cls=Command,
    short_help="Run a suite in a hot-patched process and in a fresh one.",
    examples=[
        "zdpatch test fix.zdp",
        "zdpatch test fix.zdp -- tests/unit -k cart",
        "zdpatch test --from git:origin/main --to git:HEAD",
        "zdpatch test --from jinja2==3.1.5 --to jinja2==3.1.6 -- tests/test_mails.py",
    ],
)
@click.argument("arguments", nargs=-1, metavar="[BUNDLE] [-- PYTEST ARGUMENTS]")
@click.option("--from", "base_spec", metavar="X", help=f"Instead of a bundle: {SOURCE_KINDS}.")
@click.option("--to", "new_spec", metavar="Y", help="The new one: as above.")
@click.option("--root", metavar="DIR", help="The import root in a git tree or a directory.")
@click.option("--only", multiple=True, metavar="PATH", help="Only this package or module.")
@click.option(
    "--when",
    type=click.Choice(["start", "collected"]),
    default="start",
    show_default=True,
    help="Patch before test modules are imported, or after: then they hold old names.",
)
@click.option("--python", default=sys.executable, metavar="EXE", help="The interpreter of the app.")
@click.option(
    "--limit", default=3600.0, show_default=True, metavar="S", help="Seconds for one run."
)
@pass_output
def test(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    arguments: tuple[str, ...],
    base_spec: str | None,
    new_spec: str | None,
    root: str | None,
    only: tuple[str, ...],
    when: str,
    python: str,
    limit: float,
) -> None:
    """Run your suite in a process patched from base to new, and in a fresh process of the new.

    What the patch changes is imported from the bundle; all else from where your suite finds it. A
    test that ends differently in the two runs, twice, fails the command (exit 4), and so does a
    patch that is refused or leaves a function on old code. Tests which fail in both do not.
    """
    with tempfile.TemporaryDirectory(prefix="zdpatch-test-") as folder:
        if base_spec is not None and new_spec is not None:
            cache = output.home / "cache"
            base, new = (
                narrowed(read_source(spec, root=root, cache=cache, here=Path.cwd()), only)
                for spec in (base_spec, new_spec)
            )
            bundle = _bundle_of(base, new, Path(folder))
        elif base_spec or new_spec or root or only or not arguments:
            raise errors.usage("give a bundle, or --from and --to", next="zdpatch test --help")
        else:
            bundle, arguments = Path(arguments[0]), arguments[1:]
            read_bundle(bundle)
        suite = Suite(python, arguments, when, limit, Path(folder))
        live, fresh = _both(output, suite, bundle.absolute())
        differ = _differences(live, fresh)
        again: Mapping[str, object] = {}
        if differ:
            output.progress(f"{count(len(differ), 'test')} differ; both again, to be sure")
            again = _differences(*_both(output, suite, bundle.absolute()))
        steady = {name: ends for name, ends in differ.items() if name in again}
    _report(output, Comparison(live, fresh, steady, sorted(set(differ) - set(steady))))


def _bundle_of(base: Source, new: Source, folder: Path) -> Path:
    """An unsigned bundle of two sources, for this run only."""
    patch = compare(base, new, app="test")
    entries, data, blobs = describe(patch.changes, patch.data)
    manifest = Manifest(
        id=patch.id,
        seq=1,
        target=Target(app="test"),
        python=[*PYTHONS.split(",")],
        created=0,
        not_after=LAST_SECOND,
        safety="normal",
        modules=entries,
        data=data,
        origin=Origin(base=base.origin, new=new.origin),
    )
    path = folder / "test.zdp"
    write_atomically(path, bundles.assemble(manifest, blobs))
    return path


def _both(output: Output, suite: Suite, bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reports of a live and a fresh run. Raises Refused when the patch cannot go in."""
    output.progress("live: the base is running and is patched")
    live = suite.run(bundle, "live")
    if "refused" in live:
        told = live["refused"]
        raise Refused(
            told["code"],
            told["cause"],
            tuple(
                Verdict(each["path"], each["line"], "edit", each["row"], each["reason"])
                for each in told["verdicts"]
            ),
        )
    output.progress("fresh: the new code from the start")
    return live, suite.run(bundle, "fresh")


def _differences(live: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(live, fresh) outcome of each test that ended well in only one of them."""
    ends = {
        name: (live["outcomes"].get(name, "missing"), fresh["outcomes"].get(name, "missing"))
        for name in {*live["outcomes"], *fresh["outcomes"]}
    }
    return {name: each for name, each in ends.items() if (each[0] in _GOOD) != (each[1] in _GOOD)}


def _report(output: Output, compared: Comparison) -> None:
    """Print the result; raise when the two processes disagree, or when nothing was compared."""
    live, fresh = compared.live, compared.fresh
    passed = sum(end == "passed" for end in fresh["outcomes"].values())
    if not passed:
        raise errors.usage(
            "no test passed in the fresh process: nothing was compared",
            next="zdpatch test ... -- PYTEST ARGUMENTS",
        )
    data: dict[str, object] = {
        "agree": compared.agree,
        "tests": len(fresh["outcomes"]),
        "passed": passed,
        "failed_in_both": _failed_in_both(compared),
        "differ": {n: {"live": a, "fresh": b} for n, (a, b) in sorted(compared.steady.items())},
        "unsteady": compared.unsteady,
        "stale": live["stale"],
        "not_imported": live["not_imported"],
        "applied": live["applied"],
    }
    output.result(SCHEMA, data, _lines(output, compared))
    output.exit(errors.DONE if compared.agree else errors.UNSAFE)


def _lines(output: Output, compared: Comparison) -> list[str]:
    live, steady = compared.live, compared.steady
    lines = table([("live", _counts(live)), ("fresh", _counts(compared.fresh))])
    lines += [f"not imported here: {clean(name)}" for name in sorted(live["not_imported"])]
    lines += [f"unsteady: {clean(name)}" for name in compared.unsteady]
    lines += _shown([f"fails in both: {clean(name)}" for name in _failed_in_both(compared)])
    shown = sorted(steady.items())[:SHOWN]
    lines += [
        output.paint(f"differs: {clean(n)}: live {a}, fresh {b}", "red") for n, (a, b) in shown
    ]
    if len(steady) > SHOWN:
        lines.append(f"and {len(steady) - SHOWN} more")
    lines += [
        output.paint(f"stale: {clean(path)}: {count(number, 'function')} on old code", "red")
        for path, number in sorted(live["stale"].items())
    ]
    same, other = "the two processes agree", "the patched process is not what a restart is"
    word, colour = (same, "green") if compared.agree else (other, "red")
    return [*lines, output.paint(word, colour, bold=True)]


def _failed_in_both(compared: Comparison) -> list[str]:
    ends = compared.live["outcomes"].items()
    return sorted(n for n, end in ends if end not in _GOOD and n not in compared.steady)


def _shown(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]


def _counts(run: Mapping[str, Any]) -> str:
    ends = list(run["outcomes"].values())
    return ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends))) or "no tests"
