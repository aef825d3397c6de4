"""`keygen` makes a key pair and never touches one that is there."""

from __future__ import annotations

from pathlib import Path

import click

from zdpatch.cli import keyfile
from zdpatch.cli.errors import usage
from zdpatch.cli.keyfile import Passphrases, public_path
from zdpatch.cli.output import Command, Output, clean, pass_output


@click.command(
    "keygen",
    cls=Command,
    short_help="Make a signing key.",
    examples=[
        "zdpatch keygen ci.key",
        "zdpatch keygen ci.key --passphrase-file /run/secrets/ci-passphrase",
        "zdpatch keygen try.key --no-passphrase",
    ],
)
@click.argument("path", metavar="KEY", type=click.Path(path_type=Path))
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the passphrase from the first line of this file.",
)
@click.option("--no-passphrase", is_flag=True, help="Do not encrypt; then only you may read it.")
@pass_output
def keygen(
    output: Output, /, *, path: Path, passphrase_file: Path | None, no_passphrase: bool
) -> None:
    """Make an Ed25519 key: the private half in KEY, the public half in KEY.pub.

    (`ci.key` has `ci.pub`.) The private half is encrypted under a passphrase, which is asked for,
    or taken from --passphrase-file or ZDPATCH_PASSPHRASE.
    """
    if no_passphrase and passphrase_file is not None:
        raise usage("--no-passphrase and --passphrase-file cannot both be meant")
    passphrase = None
    if not no_passphrase:
        passphrase = Passphrases(passphrase_file).for_key(path, new=True)
    key = keyfile.create(path, passphrase)
    public = public_path(path)
    data: dict[str, object] = {
        "private": str(path),
        "public": str(public),
        "keyid": key.keyid,
        "encrypted": passphrase is not None,
    }
    how = "encrypted" if passphrase is not None else "not encrypted, mode 600: keep it to yourself"
    lines = [
        f"private  {clean(path)}  {how}",
        f"public   {clean(public)}",
        f"key id   {key.keyid}",
        "",
        f"Trust it where the service runs:  zdpatch trust init --key {clean(public)}",
        f"                             or:  zdpatch trust add --role ci --key {clean(public)}",
    ]
    output.result("zdpatch.keygen/v1", data, lines)
