"""`sign` adds signatures to a bundle and changes nothing else in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zdpatch.cli.bundlefile import contents, read_bundle, write_atomically
from zdpatch.cli.output import Command, Output, clean, count, pass_output
from zdpatch.cli.signers import KEY_HELP, PUBLIC_HELP, load_signers, sign_with
from zdpatch.patcher import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.cli.signers import Signer


def add_signatures(raw: bytes, keys: Sequence[Signer]) -> bytes:
    """The bundle with a signature of each key; those that were there are kept."""
    message = bundles.parse_envelope(bundles.unpack(raw).envelope).message
    for key in keys:
        raw = bundles.add_signature(raw, key.keyid, sign_with(key, message))
    return raw


@click.command(
    "sign",
    cls=Command,
    short_help="Add signatures to a bundle.",
    examples=[
        "zdpatch inspect fix.zdp",
        "zdpatch sign fix.zdp --key alice.key",
        "zdpatch sign fix.zdp --key ci.key --key alice.key -o signed.zdp",
        "zdpatch sign fix.zdp --key ssh-agent:",
        "zdpatch sign fix.zdp --key hv:release-key/1 --public release.pub",
    ],
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    "key_names",
    metavar="KEY",
    multiple=True,
    required=True,
    help=KEY_HELP,
)
@click.option(
    "--public",
    "publics",
    metavar="KEY.pub",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help=PUBLIC_HELP,
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
def sign(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    bundle: Path,
    key_names: tuple[str, ...],
    publics: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path | None,
) -> None:
    """Add a signature of each KEY to BUNDLE; signatures that are there are kept.

    KEY is a file from `zdpatch keygen`; ssh-agent: for the Ed25519 key in a running ssh-agent, or
    ssh-agent:WHICH for one of several (its comment, or the beginning of its fingerprint); or a URI
    of a KMS, a vault or a token (awskms:, azurekms:, gcpkms:, hv:, hsm:, ...), whose public half
    --public names. Signing again with the same key changes nothing. A passphrase or PIN is asked
    for, or taken from --passphrase-file or ZDPATCH_PASSPHRASE.
    """
    file = read_bundle(bundle)
    keys = load_signers(key_names, publics, passphrase_file)
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
        "signed_by": [{"key": key.name, "keyid": key.keyid} for key in keys],
        "signatures": total,
    }
    lines = [
        f"{claim.id}  {claim.safety}  for {claim.target.app}, {contents(claim)}"
        f"  digest {file.digest}",
        *(f"signed  {clean(key.name)}  key id {key.keyid}" for key in keys),
        f"{clean(where)} has {count(total, 'signature')}.",
    ]
    output.result("zdpatch.sign/v1", data, lines)
