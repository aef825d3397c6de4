"""`test` runs a suite in hot-patched processes, and in one that had the new code from the start.
Where they disagree, the patch is not what a restart would be.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zdpatch.cli import errors
from zdpatch.cli.agreement import Comparison, differences, report
from zdpatch.cli.build import PYTHONS, compare
from zdpatch.cli.bundlefile import read_bundle, write_atomically
from zdpatch.cli.output import Command, Output, count, pass_output
from zdpatch.cli.sources import SOURCE_KINDS, narrowed, read_source
from zdpatch.cli.suites import Suite
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher.errors import Refused, Verdict
from zdpatch.patcher.manifest import LAST_SECOND, Manifest, Origin, Target, describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zdpatch.cli.import_root import Source
    from zdpatch.cli.suites import Report

_SEEDS: Final = 2**32  # of PYTHONHASHSEED


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
    type=click.Choice(["both", "start", "collected"]),
    default="both",
    show_default=True,
    help="Patch before test modules are imported, or after, when they hold what the base made.",
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
    """Run your suite in processes patched from base to new, and in a fresh process of the new.

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
        whens = ("start", "collected") if when == "both" else (when,)
        suite = Suite(python, arguments, limit, Path(folder), secrets.randbelow(_SEEDS))
        report(output, _compared(output, suite, bundle.absolute(), whens))


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


def _live(
    output: Output, suite: Suite, bundle: Path, whens: Sequence[str]
) -> tuple[dict[str, Report], dict[str, Report]]:
    """Reports by when the patch came; and why it was not let in, where it was not."""
    runs: dict[str, Report] = {}
    refused: dict[str, Report] = {}
    for when in whens:
        words = {"start": "before", "collected": "after"}[when]
        output.progress(f"live: the base is running, and is patched {words} tests are collected")
        told = suite.run(bundle, "live", when)
        if "refused" in told:
            refused[when] = told["refused"]
        else:
            runs[when] = told
    return runs, refused


def _compared(output: Output, suite: Suite, bundle: Path, whens: Sequence[str]) -> Comparison:
    """Run all, and all that differs again. Raises Refused when the patch cannot go in."""
    live, refused = _live(output, suite, bundle, whens)
    if whens[0] in refused:
        raise _refusal(refused[whens[0]])
    output.progress("fresh: the new code from the start")
    fresh = suite.run(bundle, "fresh")
    differ = differences(live, fresh)
    again: Mapping[str, object] = {}
    if differ:
        output.progress(f"{count(len(differ), 'test')} differ; all again, to be sure")
        second, _ = _live(output, suite, bundle, [*live])
        again = differences(second, suite.run(bundle, "fresh"))
    steady = {name: ends for name, ends in differ.items() if name in again}
    unsteady = sorted(set(differ) - set(steady))
    return Comparison(live, fresh, steady, unsteady, refused.get("collected", {}))


def _refusal(told: Report) -> Refused:
    verdicts = (
        Verdict(each["path"], each["line"], "edit", each["row"], each["reason"])
        for each in told["verdicts"]
    )
    return Refused(told["code"], told["cause"], tuple(verdicts))
