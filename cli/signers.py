"""Whatever holds a private key, it signs bytes here, and what it gave is checked before it is used.

A key is named by its file, by `ssh-agent:WHICH`, or by a URI that securesystemslib knows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from zdpatch.cli import sshagent
from zdpatch.cli.errors import usage
from zdpatch.cli.keyfile import Passphrases, load_private, load_public
from zdpatch.patcher import signing
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

_URI: Final = re.compile(r"([a-z][a-z0-9-]*):")
KEY_HELP: Final = (
    "A private key: a file from `zdpatch keygen`, ssh-agent:[COMMENT], or the URI of a KMS."
)
PUBLIC_HELP: Final = "The public half of a key that is given by URI; one for each, in order."


class Signer(Protocol):
    """A private key, wherever it is; `name` is how it was asked for."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def public(self) -> str:
        """The public key, in hexadecimal."""
        ...

    @property
    def keyid(self) -> str:
        """The id of the key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Raises OperatorError ZDP-006."""
        ...


def load_signers(
    names: Sequence[str], publics: Sequence[Path], passphrase_file: Path | None
) -> list[Signer]:
    """The keys that the command line names. Raises OperatorError ZDP-001 or ZDP-006."""
    passphrases = Passphrases(passphrase_file)
    remote = [name for name in names if _is_remote(name)]
    if len(remote) != len(publics):
        raise usage(
            f"{len(remote)} keys are given by URI, and {len(publics)} times --public KEY.pub:"
            " each needs its own",
            next="the same command with --public KEY.pub",
        )
    halves = dict(zip(remote, publics, strict=True))
    return [_load(name, halves.get(name), passphrases) for name in names]


def _load(name: str, public: Path | None, passphrases: Passphrases) -> Signer:
    if public is not None:
        from zdpatch.cli import kms  # noqa: PLC0415 - for those who have a KMS

        return kms.find(
            name, load_public(public), lambda what: passphrases.word(f"{what} of {name}")
        )
    if _scheme(name) == sshagent.SCHEME:
        return sshagent.find(name)
    return load_private(Path(name), passphrases)


def _scheme(name: str) -> str:
    """What stands before the colon, unless there is such a file."""
    found = _URI.match(name)
    return "" if found is None or Path(name).exists() else found[1]


def _is_remote(name: str) -> bool:
    scheme = _scheme(name)
    if scheme in ("", sshagent.SCHEME):
        return False
    from zdpatch.cli import kms  # noqa: PLC0415 - for those who have a KMS

    if scheme not in kms.schemes():
        known = ", ".join(f"{one}:" for one in [sshagent.SCHEME, *kms.schemes()])
        raise usage(f"--key {name}: neither a file nor a URI that is known ({known})")
    return True


def sign_with(signer: Signer, message: bytes) -> bytes:
    """A signature that counts under the key it is said to be by. Raises OperatorError ZDP-006."""
    signature = signer.sign(message)
    if not signing.verify_signature(signer.public, message, signature):
        raise OperatorError(
            "ZDP-006",
            f"{signer.name} gave a signature that is not one of the key {signer.keyid[:16]}",
            next="give the public half of that very key",
        )
    return signature
