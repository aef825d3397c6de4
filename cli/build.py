"""`build` turns two versions of a source into a bundle: the same inputs give the same bytes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import click

import zdpatch
from zdpatch.agent.config import is_app
from zdpatch.cli import builder, errors, livebase, verdicts
from zdpatch.cli.attach import PROBE_S, read_hooks, read_probes
from zdpatch.cli.bundlefile import contents, read_bundle, write_atomically
from zdpatch.cli.options import consistent_options, consistently, on_limit_option
from zdpatch.cli.output import Command, Output, clean, pass_output
from zdpatch.cli.sign import add_signatures
from zdpatch.cli.signers import KEY_HELP, PUBLIC_HELP, load_signers
from zdpatch.cli.sources import SOURCE_KINDS, narrowed, narrowed_both, read_source
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher import check as offline
from zdpatch.patcher.attached import MAX_HOOK_S, MAX_PROBE_S
from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.manifest import (
    Consistency,
    Manifest,
    Origin,
    Target,
    describe,
    hooks_of,
)
from zdpatch.patcher.tree import make_patch, tree_from_files

if TYPE_CHECKING:
    from zdpatch.agent.protocol import Consistently, OnLimit
    from zdpatch.cli.import_root import Source
    from zdpatch.patcher.errors import Verdict
    from zdpatch.patcher.source import Patch

SCHEMA: Final = "zdpatch.build/v1"
PYTHONS: Final = "cp311,cp312,cp313"
Safety = Literal["low", "normal", "high", "stateful"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line said about the manifest."""

    app: str
    id: str | None
    seq: int | None
    labels: dict[str, str]
    release: str | None
    fixes: list[str]
    requires: list[str]
    conflicts: list[str]
    safety: Safety
    not_after: str
    python: list[str]
    notes: str
    provenance: dict[str, str]
    probes: tuple[str, ...] = ()
    probe_s: int = PROBE_S
    consistent: Consistently | None = None
    hooks: str | None = None
    hook_s: int = PROBE_S


@click.command(
    "build",
    cls=Command,
    short_help="Make a bundle from two versions of a source.",
    examples=[
        "zdpatch build --from jinja2==3.1.5 --to jinja2==3.1.6 --app shop -o fix.zdp",
        "zdpatch build --from git:v1.4.2 --to git:HEAD --app shop --sign ci.key",
        "zdpatch build --from old/src --to new/src --app shop --fixes CVE-2025-27516",
        "zdpatch build --from agent:app=shop --to git:HEAD --app shop",
        "zdpatch build --from old/src --to new/src --app shop --probe tests/checks.py",
        "zdpatch build --from old/src --to new/src --app shop --hooks carry.py",
    ],
)
@click.option(
    "--from",
    "base_spec",
    required=True,
    metavar="X",
    help=f"The base: {SOURCE_KINDS}, or agent:SELECTOR.",
)
@click.option("--to", "new_spec", required=True, metavar="Y", help="The new one: as above.")
@click.option(
    "--base-source", metavar="DIR", help="With agent: sources that the processes do not have."
)
@click.option("--app", required=True, help="The application whose processes it is for.")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), help="The file."
)
@click.option("--id", "patch_id", help="Its id: letters, digits, '-' (default: from the names).")
@click.option("--seq", type=click.IntRange(min=1), help="Its number (default: one more per app).")
@click.option("--root", metavar="DIR", help="The import root in a git tree or a directory.")
@click.option("--only", multiple=True, metavar="PATH", help="Only this package or module.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label processes have.")
@click.option("--release", help="Only for this release of the application.")
@click.option("--fixes", multiple=True, metavar="ID", help="A CVE or GHSA id which it fixes.")
@click.option("--requires", multiple=True, metavar="ID", help="A patch that must be active.")
@click.option("--conflicts", multiple=True, metavar="ID", help="A patch that must not be.")
@click.option(
    "--safety",
    "safety_class",
    type=click.Choice(["low", "normal", "high", "stateful"]),
    default="normal",
    show_default=True,
    help="Selects whose signatures it needs.",
)
@click.option(
    "--not-after", default="30d", show_default=True, metavar="TIME", help="30d, or a date."
)
@consistent_options
@on_limit_option
@click.option("--python", default=PYTHONS, show_default=True, metavar="TAGS", help="For these.")
@click.option("--notes", default="", metavar="TEXT", help="A line for people.")
@click.option(
    "--provenance", multiple=True, metavar="K=V", help="repo, commit, ci_run, builder, workflow."
)
@click.option(
    "--probe", "probes", multiple=True, metavar="FILE", help="Checks that new code must pass first."
)
@click.option(
    "--probe-limit",
    "probe_s",
    type=click.IntRange(1, MAX_PROBE_S),
    default=PROBE_S,
    show_default=True,
    metavar="S",
    help="Seconds for each probe.",
)
@click.option("--hooks", metavar="FILE", help="Functions that carry live state over, and back.")
@click.option(
    "--hook-limit",
    "hook_s",
    type=click.IntRange(1, MAX_HOOK_S),
    default=PROBE_S,
    show_default=True,
    metavar="S",
    help="Seconds for each of them.",
)
@click.option("--sign", "key_names", multiple=True, metavar="KEY", help=f"Sign it. {KEY_HELP}")
@click.option("--public", "publics", multiple=True, metavar="KEY.pub", help=PUBLIC_HELP)
@click.option("--passphrase-file", metavar="FILE", help="Holds the passphrase of the keys.")
@click.option("--allow-unsafe", is_flag=True, help="Write it even if edits cannot go in place.")
@pass_output
def build(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    base_spec: str,
    new_spec: str,
    base_source: str | None,
    app: str,
    path: Path | None,
    patch_id: str | None,
    seq: int | None,
    root: str | None,
    only: tuple[str, ...],
    labels: tuple[str, ...],
    release: str | None,
    fixes: tuple[str, ...],
    requires: tuple[str, ...],
    conflicts: tuple[str, ...],
    safety_class: str,
    not_after: str,
    python: str,
    notes: str,
    provenance: tuple[str, ...],
    probes: tuple[str, ...],
    probe_s: int,
    hooks: str | None,
    hook_s: int,
    key_names: tuple[str, ...],
    publics: tuple[str, ...],
    passphrase_file: str | None,
    allow_unsafe: bool,
    consistent: bool,
    limit_s: float | None,
    on_limit: OnLimit | None,
) -> None:
    """Make a bundle from two versions of a source, without executing either.

    X and Y are each a directory (an import root), git:REV of the repository here, a wheel or sdist
    file, or name==version (its wheel, else its sdist, fetched by pip). X may be agent:SELECTOR:
    what these processes run, as they have compared it themselves. Each edit is shown with its
    verdict; what cannot go in place makes no bundle (exit 4) unless --allow-unsafe.
    """
    if not is_app(app):
        raise errors.usage(
            f"--app {app!r}: an application is 1 to 64 letters, digits, '.', '_' or '-'"
        )
    wish = Wish(
        app=app,
        id=None if patch_id is None else patch_id.upper(),
        seq=seq,
        labels=_pairs("--label", labels),
        release=release,
        fixes=_words(fixes),
        requires=[one.upper() for one in _words(requires)],
        conflicts=[one.upper() for one in _words(conflicts)],
        safety=cast("Safety", safety_class),
        not_after=not_after,
        python=_words((python,)),
        notes=" ".join(notes.split()),
        provenance=_pairs("--provenance", provenance),
        probes=probes,
        probe_s=probe_s,
        consistent=consistently(limit_s, on_limit, wanted=consistent),
        hooks=hooks,
        hook_s=hook_s,
    )
    secret = None if passphrase_file is None else Path(passphrase_file)
    keys = load_signers(key_names, [Path(one) for one in publics], secret)
    base, new = read_ends(output, base_spec, new_spec, base_source, root=root, only=only)
    patch = compare(base, new, app=wish.app, id=wish.id)
    if wish.hooks is not None:
        claim, source = read_hooks(wish.hooks, wish.hook_s)
        patch = replace(patch, hooks=hooks_of(claim, source))
    found = offline.check(patch)
    for line in verdicts.verdict_lines(output, found):
        output.progress(line)
    if verdicts.unsafe(found) and not allow_unsafe:
        raise verdicts.refusal(
            found, next="zdpatch build ... --allow-unsafe   to look at it anyway"
        )
    manifest, blobs = describe_patch(output, wish, patch, base, new)
    place = path or Path(f"{patch.id.lower()}.zdp")
    write_atomically(place, add_signatures(bundles.assemble(manifest, blobs), keys))
    _report(output, place, found, signed=bool(keys))


def read_ends(  # noqa: PLR0913 - two sources, and how to read them
    output: Output,
    base_spec: str,
    new_spec: str,
    base_source: str | None,
    *,
    root: str | None,
    only: tuple[str, ...],
) -> tuple[Source, Source]:
    """Base and new source. Raises what reading them raises."""
    cache = output.home / "cache"

    def read(spec: str) -> Source:
        return read_source(spec, root=root, cache=cache, here=Path.cwd())

    new = read(new_spec)
    if not base_spec.startswith(livebase.PREFIX):
        if base_source is not None:
            raise errors.usage("--base-source is for --from agent:SELECTOR")
        base, new, left = narrowed_both(read(base_spec), new, only)
        if left:
            shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
            output.progress(f"left out  {clean(shown)}")
        return base, new
    new = narrowed(new, only)
    spare = None if base_source is None else narrowed(read(base_source), only)
    found = livebase.read_agents(base_spec, new, home=output.home, spare=spare, whole=not only)
    for line in found.told:
        output.progress(line)
    return found.source, new


def compare(base: Source, new: Source, *, app: str, id: str | None = None) -> Patch:
    """The patch between two sources. Raises ZDP-003 (no difference), ZDP-101 (more than a bundle
    takes), ZDP-211 (other files).
    """
    old_tree, new_tree = tree_from_files(base.files), tree_from_files(new.files)
    if old_tree == new_tree:
        cause = f"nothing differs between {base.origin} and {new.origin}"
        if not old_tree.modules and not new_tree.modules:
            cause = f"neither {base.origin} nor {new.origin} has a module of what is asked for"
        raise AuthorError("ZDP-003", cause)
    first = make_patch("NEW", old_tree, new_tree)
    *_, blobs = describe(first.changes, first.data)
    builder.check_limits(first, blobs)
    content = hashlib.sha256("".join(sorted(blobs)).encode()).hexdigest()
    name = id or builder.default_id(app, base.origin, new.origin, content)
    return replace(first, id=name)


def describe_patch(
    output: Output, wish: Wish, patch: Patch, base: Source, new: Source
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest of a patch, and its blobs by sha256."""
    created = builder.build_time(os.environ)
    not_after = builder.last_second(wish.not_after, created)
    where = builder.provenance(os.environ, wish.provenance)
    entries, data, blobs = describe(patch.changes, patch.data)
    probes, more = read_probes(wish.probes, wish.probe_s)
    blobs |= more
    asked = wish.consistent
    hooks = None
    if wish.hooks is not None:
        hooks, source = read_hooks(wish.hooks, wish.hook_s)
        blobs |= source
    manifest = Manifest(
        id=patch.id,
        seq=builder.take_seq(output.home, wish.app, wish.seq),
        target=Target(app=wish.app, labels=wish.labels, release=wish.release),
        python=wish.python,
        created=created,
        not_after=not_after,
        safety=wish.safety,
        modules=entries,
        data=data,
        requires=wish.requires,
        conflicts=wish.conflicts,
        probes=probes,
        hooks=hooks,
        tools={"zdpatch": zdpatch.__version__},
        provenance=where,
        origin=Origin(base=base.origin, new=new.origin),
        fixes=wish.fixes,
        notes=wish.notes,
        consistent=None
        if asked is None
        else Consistency(limit_s=asked.limit_s, on_limit=asked.on_limit),
    )
    return manifest, blobs


def _report(output: Output, path: Path, found: list[Verdict], *, signed: bool) -> None:
    """Say what was written, from the file itself."""
    file = read_bundle(path)
    manifest = file.manifest
    facts = [
        str(path),
        manifest.id,
        f"seq {manifest.seq}",
        contents(manifest),
        f"{len(file.raw)} bytes",
        f"sha256:{file.digest[:12]}",
    ]
    lines = [verdicts.summary(found), f"wrote     {clean('  '.join(facts))}"]
    if not signed:
        lines += ["", f"Sign it:  zdpatch sign {path} --key KEY"]
    data: dict[str, object] = {
        "path": str(path),
        "id": manifest.id,
        "digest": file.digest,
        "seq": manifest.seq,
        "size": len(file.raw),
        "signatures": file.signatures,
        "in_place": not verdicts.unsafe(found),
        "modules": [entry.name for entry in manifest.modules],
        "data": [entry.path for entry in manifest.data],
        "origin": {"base": manifest.origin.base, "new": manifest.origin.new},
        "created": manifest.created,
        "not_after": manifest.not_after,
        "verdicts": [errors.verdict_json(verdict) for verdict in found],
    }
    output.result(SCHEMA, data, lines)


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise errors.usage(f"{option} {text!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs


def _words(texts: tuple[str, ...]) -> list[str]:
    """Repeated or comma separated, without doubles, sorted."""
    words = {word.strip() for text in texts for word in text.split(",")}
    return sorted(words - {""})
