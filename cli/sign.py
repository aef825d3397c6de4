"""`sign` adds signatures to a bundle and changes nothing else in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zdpatch.cli.bundlefile import contents, read_bundle, write_atomically
from zdpatch.cli.keyfile import Passphrases, SigningKey, load_private
from zdpatch.cli.output import Command, Output, clean, count, pass_output
from zdpatch.patcher import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Sequence


def load_keys(paths: Sequence[Path], passphrase_file: Path | None) -> list[SigningKey]:
    """The private keys at `paths`. Raises OperatorError ZDP-001 or ZDP-006."""
    passphrases = Passphrases(passphrase_file)
    return [load_private(path, passphrases) for path in paths]


def add_signatures(raw: bytes, keys: Sequence[SigningKey]) -> bytes:
    """The bundle with a signature of each key; those that were there are kept."""
    message = bundles.parse_envelope(bundles.unpack(raw).envelope).message
    for key in keys:
        raw = bundles.add_signature(raw, key.keyid, key.private.sign(message))
    return raw


@click.command(
    "sign",
    cls=Command,
    short_help="Add signatures to a bundle.",
    examples=[
        "zdpatch inspect fix.zdp",
        "zdpatch sign fix.zdp --key alice.key",
        "zdpatch sign fix.zdp --key ci.key --key alice.key -o signed.zdp",
    ],
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    "key_paths",
    metavar="KEY",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    required=True,
    help="A private key from `zdpatch keygen`; may be given several times.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the passphrase from the first line of this file.",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write here, not into BUNDLE.",
)
@pass_output
def sign(
    output: Output,
    /,
    *,
    bundle: Path,
    key_paths: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path | None,
) -> None:
    """Add a signature of each KEY to BUNDLE; signatures that are there are kept.

    Signing again with the same key changes nothing. The passphrase is asked for, or taken from
    --passphrase-file or ZDPATCH_PASSPHRASE.
    """
    file = read_bundle(bundle)
    keys = load_keys(key_paths, passphrase_file)
    raw = add_signatures(file.raw, keys)
    where = out or bundle
    if out is not None or raw != file.raw:
        write_atomically(where, raw)
    claim = file.manifest
    total = len(bundles.parse_envelope(bundles.unpack(raw).envelope).signatures)
    data: dict[str, object] = {
        "file": str(where),
        "id": claim.id,
        "digest": file.digest,
        "safety": claim.safety,
        "signed_by": [{"key": str(key.path), "keyid": key.keyid} for key in keys],
        "signatures": total,
    }
    lines = [
        f"{claim.id}  {claim.safety}  for {claim.target.app}, {contents(claim)}"
        f"  digest {file.digest}",
        *(f"signed  {clean(key.path)}  key id {key.keyid}" for key in keys),
        f"{clean(where)} has {count(total, 'signature')}.",
    ]
    output.result("zdpatch.sign/v1", data, lines)
