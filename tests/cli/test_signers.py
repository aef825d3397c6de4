"""Keys that are not files of ours: a real ssh-agent, securesystemslib's URIs, and liars."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.cli import sshagent
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Desk, Mint


LIBRARY: Any = import_module("securesystemslib.signer")


class Agent:
    """A running ssh-agent."""

    def __init__(self, place: Path) -> None:
        self.place, self.socket = place, place / "agent"
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while not self.socket.exists():
            assert time.monotonic() < end
            time.sleep(0.01)

    def run(self, *words: str) -> str:
        """An ssh tool that talks to it."""
        env = {**os.environ, "SSH_AUTH_SOCK": str(self.socket), "SSH_ASKPASS_REQUIRE": "never"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        return done.stdout

    def key(self, comment: str, kind: str = "ed25519") -> Path:
        """A new key, in the agent only; the path of its public half."""
        path = self.place / f"{comment}-key"
        self.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path))
        self.run("ssh-add", "-q", str(path))
        path.unlink()
        return path.with_name(path.name + ".pub")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """A real ssh-agent, to which this environment points."""
    with tempfile.TemporaryDirectory(prefix="zdp-", dir="/tmp") as name:
        made = Agent(Path(name))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(made.socket))
        yield made
        made.close()


def signers_of(path: Path) -> list[str]:
    """Key ids of the signatures in a bundle, each of which is checked."""
    envelope = bundles.parse_envelope(bundles.unpack(path.read_bytes()).envelope)
    return [keyid for keyid, _ in envelope.signatures]


def test_ssh_agent_signs_and_is_trusted(desk: Desk, mint: Mint, agent: Agent) -> None:
    """A key that was never a file of ours signs; its OpenSSH public half is what is trusted."""
    public = agent.key("ci")
    bundle = desk.bundle(mint)
    desk.run("trust", "init", "--key", str(public))
    said = desk.json("sign", str(bundle), "--key", "ssh-agent:")
    assert said["signed_by"][0]["key"] == "ssh-agent:"
    assert signers_of(bundle) == [said["signed_by"][0]["keyid"]]
    shown = desk.json("inspect", str(bundle))
    assert (shown["enough"], shown["signatures"][0]["state"]) == (True, "valid")


def test_one_of_several_keys(desk: Desk, mint: Mint, agent: Agent) -> None:
    """By comment, by fingerprint; without either, the refusal names what is there."""
    agent.key("ci")
    agent.key("anna")
    agent.key("old", "rsa")
    bundle = desk.bundle(mint)
    by_comment = desk.json("sign", str(bundle), "--key", "ssh-agent:anna")["signed_by"][0]
    lines = agent.run("ssh-add", "-l").splitlines()
    fingerprint = next(line.split()[1] for line in lines if " anna " in line)
    again = desk.json("sign", str(bundle), "--key", f"ssh-agent:{fingerprint}")["signed_by"][0]
    assert again["keyid"] == by_comment["keyid"]
    assert signers_of(bundle) == [by_comment["keyid"]]
    for wish in ("ssh-agent:", "ssh-agent:bob"):
        error = desk.error("sign", str(bundle), "--key", wish)
        assert error["code"] == "ZDP-006"
        assert "anna (SHA256:" in error["cause"]
        assert "1 of other kinds" in error["cause"]


def test_locked_agent(desk: Desk, mint: Mint, agent: Agent) -> None:
    """An agent that lists nothing, since it is locked, is an error that says what is there."""
    agent.key("ci")
    key = sshagent.find("ssh-agent:")
    # what `ssh-add -x` sends
    assert sshagent.__dict__["_ask"](str(agent.socket), b"\x16" + struct.pack(">I", 1) + b"x")
    error = desk.error("sign", str(desk.bundle(mint)), "--key", "ssh-agent:ci")
    assert (error["code"], "there: none" in error["cause"]) == ("ZDP-006", True)
    with pytest.raises(OperatorError, match="did not sign"):
        key.sign(b"message")


def test_without_an_agent(desk: Desk, mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, or nobody at the socket: both are said."""
    bundle = str(desk.bundle(mint))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "SSH_AUTH_SOCK is not set" in desk.error("sign", bundle, "--key", "ssh-agent:")["cause"]
    monkeypatch.setenv("SSH_AUTH_SOCK", str(desk.work / "nobody"))
    error = desk.error("sign", bundle, "--key", "ssh-agent:")
    assert (error["code"], error["next"]) == ("ZDP-006", "eval $(ssh-agent)")


ANSWERS: dict[str, bytes] = {
    "silence": b"",
    "empty": struct.pack(">I", 0),
    "cut short": struct.pack(">I", 9) + b"\x0c",
    "endless": struct.pack(">I", 2**31),
    "no list": struct.pack(">I", 1) + b"\x05",
    "keys that are not there": struct.pack(">I", 5) + b"\x0c" + struct.pack(">I", 2**31),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_is_no_agent(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other side says, it costs an error."""
    with tempfile.TemporaryDirectory(prefix="zdp-", dir="/tmp") as name:
        place = str(Path(name) / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
        listener.listen()

        def answer() -> None:
            stream, _ = listener.accept()
            stream.recv(1024)
            stream.sendall(ANSWERS[case])
            stream.close()

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        with pytest.raises(OperatorError) as caught:
            sshagent.find("ssh-agent:")
        thread.join()
        listener.close()
    assert caught.value.code == "ZDP-006"


def test_uri_of_securesystemslib(desk: Desk, mint: Mint) -> None:
    """Its signer for files stands for all of them: the same call, the same class of key."""
    desk.keys("kms")
    bundle = desk.bundle(mint)
    uri = f"file2:{desk.work / 'kms.key'}"
    said = desk.json("sign", str(bundle), "--key", uri, "--public", "kms.pub")
    assert said["signed_by"][0]["key"] == uri
    assert signers_of(bundle) == [said["signed_by"][0]["keyid"]]


def test_build_signs_with_a_uri(desk: Desk) -> None:
    """`build --sign` takes what `sign --key` takes."""
    desk.keys("kms")
    for name, value in (("old", 1), ("new", 2)):
        (desk.work / name).mkdir()
        (desk.work / name / "shop.py").write_text(f"def vat():\n    return {value}\n")
    command = ("build", "--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp")
    made = desk.json(*command, "--sign", f"file2:{desk.work / 'kms.key'}", "--public", "kms.pub")
    assert made["signatures"] == 1


def test_public_half_is_needed_and_must_be_right(desk: Desk, mint: Mint) -> None:
    """One public half for each URI, and the very one."""
    desk.keys("kms", "other")
    bundle = str(desk.bundle(mint))
    uri = f"file2:{desk.work / 'kms.key'}"
    assert desk.error("sign", bundle, "--key", uri)["code"] == "ZDP-001"
    assert desk.error("sign", bundle, "--key", "kms.key", "--public", "kms.pub")["code"] == (
        "ZDP-001"
    )
    error = desk.error("sign", bundle, "--key", uri, "--public", "other.pub")
    assert error["code"] == "ZDP-006"
    assert signers_of(Path(bundle)) == []


@pytest.mark.parametrize(
    ("uri", "code"), [("gopher:key", "ZDP-001"), ("tkey:x", "ZDP-006"), ("hv:key/1", "ZDP-006")]
)
def test_service_that_cannot_be_used(desk: Desk, mint: Mint, uri: str, code: str) -> None:
    """An unknown scheme is named with those that are known; a missing library with its name."""
    desk.keys("kms")
    error = desk.error("sign", str(desk.bundle(mint)), "--key", uri, "--public", "kms.pub")
    assert error["code"] == code


class Liar:
    """A service with securesystemslib's interface that signs as `how` says."""

    how: Callable[[bytes], bytes]

    @classmethod
    def from_priv_key_uri(
        cls, uri: str, public_key: object, secrets_handler: Callable[[str], str]
    ) -> Liar:
        """As that library asks."""
        assert (uri, secrets_handler("PIN")) == ("liar:1", "1234")
        assert public_key
        return cls()

    def sign(self, payload: bytes) -> object:
        """A hexadecimal signature."""
        return LIBRARY.Signature("ab" * 32, type(self).how(payload).hex())


def test_a_service_is_not_believed(desk: Desk, mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is asked for; a signature over other bytes, or none at all, reaches no bundle."""
    desk.keys("kms")
    bundle = desk.bundle(mint)
    monkeypatch.setenv("ZDPATCH_PASSPHRASE", "1234")
    monkeypatch.setitem(LIBRARY.SIGNER_FOR_URI_SCHEME, "liar", Liar)

    def other(_: bytes) -> bytes:
        return mint.key("kms").sign(b"other bytes")

    def nothing(_: bytes) -> bytes:
        return b""

    for sign in (other, nothing):
        monkeypatch.setattr(Liar, "how", sign, raising=False)
        error = desk.error("sign", str(bundle), "--key", "liar:1", "--public", "kms.pub")
        assert error["code"] == "ZDP-006"
    assert signers_of(bundle) == []


def test_nobody_else_pays_for_it() -> None:
    """A key file signs without securesystemslib."""
    code = (
        "import sys, zdpatch.cli.sign, zdpatch.cli.build;"
        "print([m for m in sys.modules if m.startswith('securesystemslib')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
