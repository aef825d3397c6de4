"""`trust rotate`, `trust sign` and `trust accept`: who is trusted changes with m of n signatures.

A document goes from hand to hand until the roots before it and its own have signed; it is no secret
and needs no protected way. `trust accept` puts it into a trust file when it is complete.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from zdpatch.agent.trustfile import parse_trust, read_trust
from zdpatch.cli import trustedit
from zdpatch.cli.bundlefile import write_atomically
from zdpatch.cli.errors import usage
from zdpatch.cli.options import Duration
from zdpatch.cli.output import Output, clean, pass_output
from zdpatch.cli.signers import KEY_HELP, PUBLIC_HELP, load_signers, sign_with
from zdpatch.cli.trust import file_option, find_revoked, read_keys, report, trust, with_keys
from zdpatch.patcher import keyring, roots, signing
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.keyring import MAX_TRUST, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zdpatch.cli.signers import Signer
    from zdpatch.patcher.keyring import TrustPolicy
    from zdpatch.patcher.roots import Document, Rooted

__all__ = ["trust"]

SCHEMA: Final = "zdpatch.root/v1"
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


def signing_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--key KEY ...`, `--public KEY.pub ...` and `--passphrase-file FILE`."""
    key = click.option("--key", "key_names", metavar="KEY", multiple=True, help=KEY_HELP)
    public = click.option(
        "--public", "publics", metavar="KEY.pub", type=_FILE, multiple=True, help=PUBLIC_HELP
    )
    secret = click.option(
        "--passphrase-file",
        type=_FILE,
        help="Take the passphrase from the first line of this file.",
    )
    return key(public(secret(command)))


@trust.command(
    "rotate",
    examples=[
        "zdpatch trust rotate --root anna.pub --root bob.pub --root carl.pub --threshold 2",
        "zdpatch trust rotate --add ci=new-ci.pub --drop ci=ci.pub --key anna.key",
    ],
)
@click.option(
    "--root", "new_roots", metavar="KEY.pub", type=_FILE, multiple=True, help="All roots."
)
@click.option("--threshold", type=click.IntRange(1, 64), help="How many of them must sign.")
@click.option("--add", "added", metavar="ROLE=KEY.pub", multiple=True, help="Give a role to a key.")
@click.option("--drop", "dropped", metavar="ROLE=KEY", multiple=True, help="Take it from a key.")
@click.option(
    "--not-after",
    "lifetime_s",
    type=Duration(),
    default=90.0 * 86400,
    show_default="90d",
    help="How long the keys of --add count.",
)
@click.option(
    "--expires",
    "expires_s",
    type=Duration(),
    default=365.0 * 86400,
    show_default="365d",
    help="When the document lets nothing new in.",
)
@click.option(
    "-o", "--output", "out", type=_FILE, help="The document (default: root-VERSION.json)."
)
@signing_options
@file_option
@pass_output
def rotate(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    new_roots: tuple[Path, ...],
    threshold: int | None,
    added: tuple[str, ...],
    dropped: tuple[str, ...],
    lifetime_s: float,
    expires_s: float,
    out: Path | None,
    key_names: tuple[str, ...],
    publics: tuple[Path, ...],
    passphrase_file: Path | None,
    path: Path | None,
) -> None:
    """Write the next root document: who is trusted from then on, to be signed by the roots.

    It holds what the trust file says now with the changes given here. --root names all roots when
    they change, or when there were none. The trust file itself is not changed: `trust accept` does.
    """
    signers = load_signers(key_names, publics, passphrase_file)
    where = path or trustedit.default_trust(output.home)
    policy, rooted = _read(where)
    end = int(time.time() + expires_s)
    wanted = policy
    for role, text in map(_pair, added):
        wanted = with_keys(wanted, role, read_keys([Path(text)], lifetime_s))
    for role, text in map(_pair, dropped):
        wanted = _without(wanted, role, text)
    wanted = _with_roots(wanted, read_keys(new_roots, expires_s), threshold)
    document = roots.make(msgspec.structs.replace(wanted, version=policy.version + 1), end)
    place = out or Path(f"root-{policy.version + 1}.json")
    _save(output, place, _signed(document, signers), rooted)


@trust.command("sign", examples=["zdpatch trust sign root-5.json --key bob.key"])
@click.argument("document", metavar="DOCUMENT", type=_FILE)
@signing_options
@file_option
@pass_output
def sign(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    document: Path,
    key_names: tuple[str, ...],
    publics: tuple[Path, ...],
    passphrase_file: Path | None,
    path: Path | None,
) -> None:
    """Add signatures to a root document, and say how many are missing.

    Compare what it shows with what you agreed on: a signature says that you want all of it.
    """
    if not key_names:
        raise usage("name a key with --key", next="zdpatch trust sign --help")
    made = _signed(_load(document), load_signers(key_names, publics, passphrase_file))
    where = path or trustedit.default_trust(output.home)
    _save(output, document, made, _read(where)[1] if where.exists() else None)


@trust.command("accept", examples=["zdpatch trust accept root-5.json"])
@click.argument("document", metavar="DOCUMENT", type=_FILE)
@file_option
@pass_output
def accept(output: Output, /, *, document: Path, path: Path | None) -> None:
    """Put a complete root document into the trust file: what it says counts from then on.

    It must be the very next version, signed by enough of the roots before it and of its own.
    """
    where = path or trustedit.default_trust(output.home)
    after = trustedit.add_root(where, _load(document))
    report(output, where, after, [f"{clean(where)} stands on root document {after.version}."])


def _read(where: Path) -> tuple[TrustPolicy, Rooted | None]:
    return parse_trust(where, read_trust(where, trustedit.reader_of(where)))


def _load(path: Path) -> Document:
    """The document in a file. Raises OperatorError ZDP-117."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRUST + 1)
        if len(raw) > MAX_TRUST:
            raise roots.broken(f"{path} is too large for a root document")
        document = msgspec.json.decode(raw, type=roots.Document)
    except OSError as error:
        raise OperatorError("ZDP-117", f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise roots.broken(f"{path} is no root document: {error}") from None
    roots.content_of(document)
    return document


def _signed(document: Document, signers: Sequence[Signer]) -> Document:
    for signer in signers:
        signature = sign_with(signer, roots.message(document))
        document = roots.signed(document, signer.keyid, signature)
    return document


def _with_roots(
    policy: TrustPolicy, keys: Sequence[keyring.Key], threshold: int | None
) -> TrustPolicy:
    """`policy` with these roots, or those it has; without keys that nobody needs any more."""
    before = policy.roles.get(roots.ROLE)
    if before is None and not keys:
        raise usage("there are no roots yet: name them with --root KEY.pub", next="")
    keyids = sorted({signing.keyid(key.public) for key in keys}) if keys else []
    if before is not None and not keys:
        keyids = before.keyids
    needed = threshold or (before.threshold if before is not None else len(keyids) // 2 + 1)
    given = {signing.keyid(key.public): key for key in keys}
    role = Role(keyids=keyids, threshold=needed)
    roles = {**policy.roles, roots.ROLE: role}
    used = {keyid for one in roles.values() for keyid in one.keyids}
    held = {keyid: key for keyid, key in {**policy.keys, **given}.items() if keyid in used}
    return msgspec.structs.replace(policy, roles=roles, keys=held)


def _without(policy: TrustPolicy, name: str, text: str) -> TrustPolicy:
    role = policy.roles.get(name)
    kind, keyid = find_revoked(text, policy)
    if role is None or kind != "key" or keyid not in role.keyids:
        raise usage(f"--drop {name}={text}: that key does not have that role")
    left = [one for one in role.keyids if one != keyid]
    roles = {**policy.roles, name: msgspec.structs.replace(role, keyids=left)}
    return msgspec.structs.replace(policy, roles=roles)


def _pair(text: str) -> tuple[str, str]:
    role, equals, key = text.partition("=")
    if not equals or not key:
        raise usage(f"{text!r} is not ROLE=KEY")
    if role == roots.ROLE:
        raise usage("roots are named all together, with --root")
    return role, key


def _save(output: Output, place: Path, document: Document, before: Rooted | None) -> None:
    """Write the document, and say what it needs still."""
    content = roots.content_of(document)
    sides = {"its own roots": content.trust}
    if before is not None:
        last = roots.content_of(before.file.chain[-1]).trust
        if last.version + 1 == content.trust.version:
            sides = {f"the roots of version {last.version}": last, **sides}
    counts = {whose: roots.count(document, who) for whose, who in sides.items()}
    write_atomically(place, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    complete = all(got >= needed for got, needed in counts.values())
    data: dict[str, object] = {
        "file": str(place),
        "version": content.trust.version,
        "expires": content.expires,
        "digest": document.digest,
        "signed": {whose: {"by": got, "of": needed} for whose, (got, needed) in counts.items()},
        "complete": complete,
        "policy": msgspec.to_builtins(content.trust),
    }
    then = "accept" if complete else "sign"
    tail = "" if complete else " --key KEY"
    lines = [
        f"{clean(place)}  root document {content.trust.version}  sha256:{document.digest[:12]}"
        f"  until {keyring.day(content.expires)}",
        *(f"signed by {got} of {needed} of {whose}" for whose, (got, needed) in counts.items()),
        f"Next:  zdpatch trust {then} {clean(place)}{tail}",
    ]
    output.result(SCHEMA, data, lines)
