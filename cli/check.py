"""`check` reads a bundle's sources and says offline what each edit needs; nothing is executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zdpatch.cli import errors, verdicts
from zdpatch.cli.bundlefile import BundleFile, read_bundle, write_atomically
from zdpatch.cli.output import Command, Output, pass_output
from zdpatch.patcher import check as offline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.patcher.errors import Verdict

SCHEMA: Final = "zdpatch.check/v1"


@click.command(
    "check",
    cls=Command,
    short_help="Say offline what each edit of a bundle needs.",
    examples=[
        "zdpatch check fix.zdp",
        "zdpatch check fix.zdp --format github --sarif zdpatch.sarif",
        "zdpatch check fix.zdp --format gitlab > gl-code-quality-report.json",
    ],
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--sarif", "sarif_path", type=click.Path(path_type=Path), help="Write SARIF there.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "gitlab"]),
    default="text",
    show_default=True,
    help="What to print: for people, workflow annotations, or a Code Quality report.",
)
@click.option(
    "--prefix", default="", metavar="DIR", help="Where the import root lies in the repository."
)
@pass_output
def check(
    output: Output, /, *, bundle: Path, sarif_path: Path | None, style: str, prefix: str
) -> None:
    """Say offline what each edit of BUNDLE needs.

    Exit 0: all of it can go in place, as far as the sources tell; the process itself has the last
    word. Exit 4: some of it cannot.
    """
    file = read_bundle(bundle)
    found = offline.check(file.patch())
    paths = _paths(file, prefix)
    if sarif_path is not None:
        text = json.dumps(verdicts.sarif(found, paths), indent=2, ensure_ascii=False)
        write_atomically(sarif_path, text.encode() + b"\n")
    data: dict[str, object] = {
        "id": file.manifest.id,
        "digest": file.digest,
        "in_place": not verdicts.unsafe(found),
        "verdicts": [errors.verdict_json(verdict) for verdict in found],
    }
    output.result(SCHEMA, data, _lines(output, style, found, paths))
    output.exit(errors.UNSAFE if verdicts.unsafe(found) else errors.DONE)


def _paths(file: BundleFile, prefix: str) -> dict[str, str]:
    lead = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    data = {entry.path: lead + entry.path for entry in file.manifest.data}
    return {entry.name: lead + entry.path for entry in file.manifest.modules} | data


def _lines(
    output: Output, style: str, found: Sequence[Verdict], paths: dict[str, str]
) -> list[str]:
    if style == "github":
        return verdicts.github(found, paths)
    if style == "gitlab":
        return [json.dumps(verdicts.gitlab(found, paths), indent=2, ensure_ascii=False)]
    return [*verdicts.verdict_lines(output, found), verdicts.summary(found)]
