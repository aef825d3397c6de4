"""`export` writes a patch as git has it, so that what was pushed gets into the next release."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zdpatch.agent.protocol import Status, StatusResult
from zdpatch.cli.bundlefile import is_kept, kept_path, read_bundle, write_atomically
from zdpatch.cli.client import Client
from zdpatch.cli.errors import usage
from zdpatch.cli.fleet import IN_PLACE
from zdpatch.cli.gitpatch import Change, mail
from zdpatch.cli.options import to_option
from zdpatch.cli.output import Command, Output, clean, count, pass_output
from zdpatch.cli.select import chosen, discover, parse_selector
from zdpatch.patcher.errors import OperatorError, ProcessError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Collection

    from zdpatch.cli.bundlefile import BundleFile

SCHEMA: Final = "zdpatch.export/v1"
_DIGITS: Final = 8  # of a digest, at least


@click.command(
    "export",
    cls=Command,
    short_help="Write a patch as a git patch, for the next release.",
    examples=[
        "zdpatch export JINJA2-3-1-5-TO-3-1-6 -o fix.patch",
        "zdpatch export FIX-7 --prefix services/shop/src | git apply --3way",
        "zdpatch export fix.zdp | git am",
    ],
)
@click.argument("patch", metavar="P|BUNDLE")
@click.option(
    "--prefix",
    metavar="DIR",
    help="Where the import root lies in the repository (default: found in the one around here).",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write here, not to stdout.",
)
@to_option
@pass_output
def export(
    output: Output, /, *, patch: str, prefix: str | None, out: Path | None, selector: str
) -> None:
    """Write a patch that is in place, or a BUNDLE, as a git patch.

    P is an id, or 8 or more digits of a digest. The bundle must have been pushed from this home, or
    this user must be able to read what the agents keep.
    """
    path = Path(patch)
    file = read_bundle(path) if path.is_file() else _in_place(output, patch, selector)
    made = file.patch()
    changes = [Change(one.path, one.base, one.new) for one in made.changes]
    changes += [Change(one.path, one.base, one.new) for one in made.data]
    changes = [one for one in changes if one.base != one.new]
    where = prefix_for(changes, prefix)
    text = _text(file, [Change(f"{where}{one.path}", one.base, one.new) for one in changes])
    if out is not None:
        write_atomically(out, text)
    data: dict[str, object] = {
        "id": file.manifest.id,
        "digest": file.digest,
        "prefix": where,
        "files": [f"{where}{one.path}" for one in changes],
        "path": None if out is None else str(out),
        "patch": text.decode("utf-8", "replace") if out is None else None,
    }
    if out is None and not output.json:
        click.echo(text, nl=False)
        return
    output.result(SCHEMA, data, [f"{clean(out)} has {count(len(changes), 'file')}."])


def prefix_for(changes: Collection[Change], given: str | None) -> str:
    """What stands before the paths, "" or with a slash at its end.

    Raises OperatorError ZDP-001 when the repository has several places, or the path leaves it.
    """
    if given is not None:
        parts = [part for part in given.split("/") if part not in ("", ".")]
        if given.startswith("/") or ".." in parts:
            raise usage(f"--prefix {given} is not a directory inside a repository")
        return "".join(f"{part}/" for part in parts)
    paths = [one.path for one in changes if one.base is not None]
    tracked = _tracked()
    if not paths or not tracked:
        return ""
    places = {name.removesuffix(paths[0]) for name in tracked if _ends(name, paths[0])}
    places = {place for place in places if all(f"{place}{path}" in tracked for path in paths)}
    if len(places) > 1:
        shown = ", ".join(sorted(place or "." for place in places)[:5])
        raise usage(
            f"these files are in several places of the repository: {shown}",
            next="the same command with --prefix DIR",
        )
    return next(iter(places), "")


def _ends(name: str, path: str) -> bool:
    return name == path or name.endswith(f"/{path}")


def _tracked() -> frozenset[str]:
    """The files of the repository around the current directory, from its top; none without one."""
    command = ["git", "ls-files", "-z", "--full-name", ":/"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return frozenset()
    if done.returncode:
        return frozenset()
    return frozenset(done.stdout.decode("utf-8", "surrogateescape").split("\0")) - {""}


def _text(file: BundleFile, changes: Collection[Change]) -> bytes:
    claim = file.manifest
    fixes = f": {', '.join(claim.fixes)}" if claim.fixes else ""
    body = [
        line for line in (claim.notes, f"From {claim.origin.base} to {claim.origin.new}") if line
    ]
    body += ["", f"zdpatch-patch: {claim.id}", f"zdpatch-digest: sha256:{file.digest}"]
    return mail(f"{claim.id}{fixes}", body, file.digest, claim.created, changes)


def _in_place(output: Output, wish: str, selector: str) -> BundleFile:
    """The bundle of the patch called so. Raises OperatorError ZDP-401, ProcessError ZDP-212."""
    agents = chosen(discover(output.home), parse_selector(selector))
    if not agents:
        raise OperatorError(
            "ZDP-401", f"{wish} is no file, and no agent is in {output.home}", next="zdpatch status"
        )
    with Client() as client:
        rows = client.ask(agents, Status(), StatusResult)
    found = {
        patch.digest: row.ref.app
        for row in rows
        for patch in (() if row.result is None else row.result.patches)
        if patch.state in IN_PLACE
        and (patch.id == wish.upper() or (len(wish) >= _DIGITS and patch.digest.startswith(wish)))
    }
    if len(found) != 1:
        cause = (
            f"{len(found)} patches are called {wish}" if found else f"no patch {wish} is in place"
        )
        raise ProcessError("ZDP-212", cause, next="zdpatch status --detail")
    ((digest, app),) = found.items()
    return _kept(output.home, app, digest)


def _kept(home: Path, app: str, digest: str) -> BundleFile:
    """From what was pushed here, else from what the agents of the application keep."""
    if is_kept(home, digest):
        return read_bundle(kept_path(home, digest))
    with contextlib.suppress(OSError):
        for path in sorted((home / "apps" / app / "blobs").iterdir()):
            with contextlib.suppress(ZdpatchError):
                file = read_bundle(path)
                if file.digest == digest:
                    return file
    raise ProcessError(
        "ZDP-212",
        f"sha256:{digest[:12]} was not pushed from {home}, and what its agents keep is not to be"
        " read by this user",
        next="zdpatch export BUNDLE, or the same as the service's user",
    )
