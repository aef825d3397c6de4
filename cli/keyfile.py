"""A private key is on disk for its owner alone, and is refused once it is not.

Ed25519 as PKCS#8 PEM, encrypted under a passphrase unless its maker said otherwise; the public half
as PEM beside it. Both through `cryptography`, which the agent verifies with anyway:
securesystemslib would add 56 ms of import and read the same files.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zdpatch.cli.errors import usage
from zdpatch.cli.output import is_terminal
from zdpatch.patcher import signing
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

MAX_KEY_FILE: Final = 64 << 10  # bytes
VARIABLE: Final = "ZDPATCH_PASSPHRASE"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Passphrases:
    """Where a passphrase comes from: a file, else the environment, else a question."""

    file: Path | None = None

    def fixed(self) -> bytes | None:
        """The one that was given beforehand. Raises ZDP-006 when its file is not private."""
        if self.file is not None:
            data, open_to_others = _read(self.file)
            if open_to_others:
                raise _open_to_others(self.file)
            first = data.split(b"\n", 1)[0].removesuffix(b"\r")
            if not first:
                raise _unusable(f"{self.file} holds no passphrase in its first line", "")
            return first
        given = os.environ.get(VARIABLE)
        return given.encode("utf-8", "surrogateescape") if given else None

    def for_key(self, path: Path, *, new: bool = False) -> bytes:
        """The passphrase of the key at `path`; asked for twice when the key is new."""
        without = f"zdpatch keygen {path} --no-passphrase" if new else ""
        return self._ask(f"Passphrase of {path}", twice=new, otherwise=without)

    def word(self, what: str) -> str:
        """A secret that a key service asks for: a PIN, a passphrase."""
        return self._ask(what, twice=False).decode("utf-8", "surrogateescape")

    def _ask(self, what: str, *, twice: bool, otherwise: str = "") -> bytes:
        fixed = self.fixed()
        if fixed is not None:
            return fixed
        if not is_terminal(sys.stdin):
            raise usage(
                f"{what} is needed, and there is no terminal to ask on: "
                f"give --passphrase-file or {VARIABLE}",
                next=otherwise or "the same command with --passphrase-file FILE",
            )
        asked: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
        return asked.encode()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key in memory, with its id."""

    path: Path
    private: Ed25519PrivateKey

    @property
    def name(self) -> str:
        """For people."""
        return str(self.path)

    @property
    def public(self) -> str:
        """The public key, in hexadecimal."""
        return self.private.public_key().public_bytes_raw().hex()

    @property
    def keyid(self) -> str:
        """The id of the key."""
        return signing.keyid(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`."""
        return self.private.sign(message)


def public_path(path: Path) -> Path:
    """Where the public half of the key at `path` is: `ci.key` and `ci` both have `ci.pub`."""
    return path.with_suffix(".pub") if path.suffix == ".key" else path.with_name(path.name + ".pub")


def create(path: Path, passphrase: bytes | None) -> SigningKey:
    """Make a new key at `path` and its public half. Raises ZDP-006 when either is already there."""
    for file in (path, public_path(path)):
        if file.exists() or file.is_symlink():
            raise _unusable(f"{file} is already there; a key is never overwritten", "")
    private = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(path, pem, 0o600)
    try:
        _write_new(public_path(path), public, 0o644)
    except OperatorError:
        _drop(path)  # half a pair would be in the way of the next attempt
        raise
    return SigningKey(path, private)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write the whole of a file that is not there yet, or leave none."""
    try:
        # O_EXCL follows no link and replaces nothing, and no mode is ever wider than the last one.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(file, "wb") as stream:
            os.fchmod(file, mode)
            stream.write(data)
            stream.flush()
            os.fsync(file)
    except OSError as error:
        _drop(path)
        raise _unwritten(path, error) from error


def _drop(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _unwritten(path: Path, error: OSError) -> OperatorError:
    return _unusable(f"{path} cannot be written: {error.strerror}", "")


def load_private(path: Path, passphrases: Passphrases) -> SigningKey:
    """The private key at `path`. Raises OperatorError ZDP-006, saying what is wrong with it."""
    pem, open_to_others = _read(path)
    if b"PUBLIC KEY" in pem:
        raise _unusable(f"{path} is a public key; its private half signs", "zdpatch sign --help")
    encrypted = pem.lstrip().startswith(_ENCRYPTED)
    if open_to_others and not encrypted:
        raise _open_to_others(path)
    passphrase = passphrases.for_key(path) if encrypted else None
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        if encrypted:
            mend = "the same command with its passphrase"
            raise _unusable(f"the passphrase does not open {path}", mend) from None
        raise _unusable(f"{path} is not a private key: {error}", "zdpatch keygen KEY") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _unusable(f"{path} is not an Ed25519 key", "zdpatch keygen KEY")
    return SigningKey(path, private)


def load_public(path: Path) -> str:
    """The public key at `path` (PEM, or a line of OpenSSH's), in hexadecimal.

    Raises OperatorError ZDP-006.
    """
    pem, _ = _read(path)
    if b"PRIVATE KEY" in pem:
        raise _unusable(
            f"{path} is a private key; only its public half is to be handed on",
            f"use {public_path(path)}",
        )
    openssh = pem.startswith(b"ssh-")
    try:
        load = serialization.load_ssh_public_key if openssh else serialization.load_pem_public_key
        key = load(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(f"{path} is not a public key", "zdpatch keygen KEY") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable(f"{path} is not an Ed25519 key", "zdpatch keygen KEY")
    public = key.public_bytes_raw().hex()
    try:
        signing.check_public(public)
    except ValueError as error:
        raise _unusable(f"{path}: {error}", "zdpatch keygen KEY") from None
    return public


def _read(path: Path) -> tuple[bytes, bool]:
    """The bytes of a small file, and whether others than its owner may use it."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}", f"ls -l {path}") from error
    if len(data) > MAX_KEY_FILE:
        raise _unusable(f"{path} is too large for a key", "")
    # A pipe has no mode of its own: whoever made it decided who reads it.
    return data, stat.S_ISREG(mode) and bool(mode & _OTHERS)


def _open_to_others(path: Path) -> OperatorError:
    return _unusable(
        f"{path} is not encrypted, and its mode lets others use it", f"chmod 600 {path}"
    )


def _unusable(cause: str, mend: str) -> OperatorError:
    return OperatorError("ZDP-006", cause, next=mend)
