"""keygen and sign as an operator runs them, on real files."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from zdpatch.agent.trustfile import load_trust
from zdpatch.patcher.trust import Identity, verify

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Desk, Mint

HERE = Identity(app="shop", python="cp311")


def mode_of(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_keygen_writes_for_the_owner_alone(desk: Desk) -> None:
    """Whatever the umask, the private half is 0600 and the public half 0644."""
    before = os.umask(0)
    try:
        made = desk.json("keygen", "ci.key", "--no-passphrase")
    finally:
        os.umask(before)
    assert mode_of(desk.work / "ci.key") == 0o600
    assert mode_of(desk.work / "ci.pub") == 0o644
    assert made["public"] == "ci.pub"
    assert len(made["keyid"]) == 64
    assert b"PRIVATE" not in (desk.work / "ci.pub").read_bytes()


def test_keygen_never_overwrites(desk: Desk) -> None:
    """Neither half of a key that is there is touched, nor is a link followed."""
    desk.keys("ci")
    before = (desk.work / "ci.key").read_bytes()
    assert desk.error("keygen", "ci.key", "--no-passphrase")["code"] == "ZDP-006"
    assert (desk.work / "ci.key").read_bytes() == before
    (desk.work / "new.pub").symlink_to(desk.work / "elsewhere")
    assert desk.error("keygen", "new.key", "--no-passphrase")["code"] == "ZDP-006"
    assert not (desk.work / "new.key").exists()
    assert not (desk.work / "elsewhere").exists()


def test_keygen_into_a_missing_directory(desk: Desk) -> None:
    """A place that cannot be written is an error with the path, not a traceback."""
    error = desk.error("keygen", "none/ci.key", "--no-passphrase")
    assert error["code"] == "ZDP-006"
    assert "none/ci.key" in error["cause"]


def test_keygen_without_terminal_or_passphrase(desk: Desk) -> None:
    """An unencrypted key is made only when that is asked for."""
    error = desk.error("keygen", "ci.key")
    assert error["code"] == "ZDP-001"
    assert "--no-passphrase" in error["next"]
    assert not (desk.work / "ci.key").exists()
    assert desk.error("keygen", "x", "--no-passphrase", "--passphrase-file", "y")["exit"] == 2


def test_passphrase_from_file_and_environment(
    desk: Desk, mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passphrase comes from a private file or the environment; a wrong one is named as such."""
    secret = desk.work / "secret"
    secret.write_bytes(b"open sesame\nignored\n")
    secret.chmod(0o600)
    desk.run("keygen", "ci.key", "--passphrase-file", "secret")
    assert b"ENCRYPTED" in (desk.work / "ci.key").read_bytes()
    # Encrypted, it may lie where others read it.
    (desk.work / "ci.key").chmod(0o644)
    file = str(desk.bundle(mint))
    desk.run("sign", file, "--key", "ci.key", "--passphrase-file", "secret")
    monkeypatch.setenv("ZDPATCH_PASSPHRASE", "open sesame")
    desk.run("sign", file, "--key", "ci.key")
    monkeypatch.setenv("ZDPATCH_PASSPHRASE", "wrong")
    error = desk.error("sign", file, "--key", "ci.key")
    assert error["code"] == "ZDP-006"
    assert "passphrase does not open" in error["cause"]


@pytest.mark.parametrize("content", [b"", b"\nsecond line\n"])
def test_passphrase_file_that_is_empty(desk: Desk, content: bytes) -> None:
    """An empty first line is no passphrase."""
    secret = desk.work / "secret"
    secret.write_bytes(content)
    secret.chmod(0o600)
    error = desk.error("keygen", "ci.key", "--passphrase-file", "secret")
    assert error["code"] == "ZDP-006"


def test_passphrase_file_open_to_others(desk: Desk) -> None:
    """A passphrase that others can read protects nothing."""
    secret = desk.work / "secret"
    secret.write_bytes(b"open sesame\n")
    secret.chmod(0o644)
    error = desk.error("keygen", "ci.key", "--passphrase-file", "secret")
    assert error["next"] == "chmod 600 secret"


@pytest.mark.e2e
def test_passphrase_is_asked_on_a_terminal(desk: Desk) -> None:
    """On a terminal keygen asks twice, and shows nothing of the answer."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "zdpatch.cli.main", "keygen", "ci.key"]
    env = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=env
    ) as run:
        os.close(follower)
        seen = b""
        for _ in range(2):
            while not seen.endswith(b": "):
                seen += os.read(leader, 1024)
            os.write(leader, b"sesame\n")
            seen += os.read(leader, 1)
        while b"key id" not in seen:
            seen += os.read(leader, 1024)
        assert run.wait() == 0
    os.close(leader)
    assert b"sesame" not in seen
    assert b"ENCRYPTED" in (desk.work / "ci.key").read_bytes()


def test_private_key_open_to_others(desk: Desk, mint: Mint) -> None:
    """An unencrypted key that others can read is refused, with the command that mends it."""
    desk.keys("ci")
    (desk.work / "ci.key").chmod(0o640)
    error = desk.error("sign", str(desk.bundle(mint)), "--key", "ci.key")
    assert error["code"] == "ZDP-006"
    assert error["next"] == "chmod 600 ci.key"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not a private key"),
        (b"hello", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (bytes(70_000), "too large"),
    ],
)
def test_what_is_no_key(desk: Desk, mint: Mint, content: bytes, cause: str) -> None:
    """A file that is no private key is refused as such."""
    path = desk.work / "ci.key"
    path.write_bytes(content)
    path.chmod(0o600)
    error = desk.error("sign", str(desk.bundle(mint)), "--key", "ci.key")
    assert error["code"] == "ZDP-006"
    assert cause in error["cause"]


def test_the_public_half_signs_nothing(desk: Desk, mint: Mint) -> None:
    """It is said to be that, whatever its mode."""
    path = desk.bundle(mint)
    desk.keys("ci")
    error = desk.error("sign", str(path), "--key", "ci.pub")
    assert (error["code"], "is a public key" in error["cause"]) == ("ZDP-006", True)


def test_missing_key(desk: Desk, mint: Mint) -> None:
    """A key that is not there is named."""
    error = desk.error("sign", str(desk.bundle(mint)), "--key", "none.key")
    assert "none.key" in error["cause"]


def test_key_of_another_kind(desk: Desk, mint: Mint) -> None:
    """Keys of another algorithm are refused, private and public."""
    other = ec.generate_private_key(ec.SECP256R1())
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("ec.key", private), ("ec.pub", public)):
        (desk.work / name).write_bytes(content)
        (desk.work / name).chmod(0o600)
    assert "Ed25519" in desk.error("sign", str(desk.bundle(mint)), "--key", "ec.key")["cause"]
    assert "Ed25519" in desk.error("trust", "init", "--key", "ec.pub")["cause"]


def test_from_key_to_verified_bundle(desk: Desk, mint: Mint) -> None:
    """keygen, trust init, sign: what an agent then reads from the files accepts the bundle."""
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    path = desk.bundle(mint)
    desk.run("sign", str(path), "--key", "ci.key")
    now = int(time.time())
    policy = load_trust(desk.trust_file)
    found = verify(path.read_bytes(), policy, HERE, now=now, floor=0, known=(), active=())
    assert list(found.signed_by) == ["ci"]


def test_sign_keeps_other_signatures(desk: Desk, mint: Mint) -> None:
    """Signatures gather; signing twice changes nothing; another file can be named."""
    desk.keys("ci", "alice")
    path = desk.bundle(mint)
    unsigned = path.read_bytes()
    two = desk.json("sign", str(path), "--key", "ci.key", "--key", "alice.key", "-o", "two.zdp")
    assert two["signatures"] == 2
    assert path.read_bytes() == unsigned
    desk.run("sign", str(path), "--key", "alice.key")
    desk.run("sign", str(path), "--key", "ci.key")
    desk.run("sign", str(path), "--key", "ci.key")
    assert path.read_bytes() == (desk.work / "two.zdp").read_bytes()


def test_sign_refuses_what_is_no_bundle(desk: Desk) -> None:
    """Nobody is made to sign bytes that no agent would read."""
    desk.keys("ci")
    (desk.work / "x.zdp").write_bytes(b"x" * 100)
    assert desk.error("sign", "x.zdp", "--key", "ci.key", code=3)["code"] == "ZDP-102"


@pytest.mark.parametrize("call", [1, 2])
def test_keygen_on_a_full_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Neither half of a pair stays when one could not be written, and the next attempt works."""
    calls: list[int] = []

    def full(_number: int) -> None:
        calls.append(1)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        error = desk.error("keygen", "a.key", "--no-passphrase")
    assert "No space left" in error["cause"]
    assert list(desk.work.glob("a.*")) == []
    desk.run("keygen", "a.key", "--no-passphrase")
