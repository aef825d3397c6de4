"""The mint makes keys, bundles and policies; the desk runs command lines in this process."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings

from zdpatch.patcher import bundle, signing
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.keyring import Key, Role, TrustPolicy
from zdpatch.patcher.manifest import Manifest, Origin, Target, describe
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.trust import Identity, VerifiedBundle, reverify, verify

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=20_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

DAY: Final = 86400
CHANGES: Final = (
    ModuleChange("shop.cart", "shop/cart.py", False, b"VAT = 1\n", b"VAT = 2\n"),
    ModuleChange("shop", "shop/__init__.py", True, b"", b""),
)


class Mint:
    """Makes bundles and policies; each name stands for one key, the same in every run."""

    now: Final = 1_700_000_000
    identity: Final = Identity(
        app="shop", release="1.4", labels={"zone": "a"}, python="cp311", platform="linux-x86_64"
    )

    def key(self, name: str) -> Ed25519PrivateKey:
        """The private key of `name`."""
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())

    def public(self, name: str) -> str:
        """The public key of `name`."""
        return self.key(name).public_key().public_bytes_raw().hex()

    def keyid(self, name: str) -> str:
        """The key id of `name`."""
        return signing.keyid(self.public(name))

    def manifest(self, changes: Iterable[ModuleChange] = CHANGES, /, **fields: object) -> Manifest:
        """A manifest which the agent `identity` accepts at `now`, with `fields` replaced."""
        entries, _, _ = describe(changes)
        made = Manifest(
            id="FIX-1",
            seq=7,
            target=Target(app="shop"),
            python=["cp311", "cp312", "cp313"],
            created=self.now - 60,
            not_after=self.now + 30 * DAY,
            safety="normal",
            modules=entries,
            origin=Origin(base="directory", new="directory"),
        )
        return msgspec.structs.replace(made, **fields)

    def bundle(
        self,
        *signers: str,
        changes: Iterable[ModuleChange] = CHANGES,
        more: Iterable[bytes] = (),
        **fields: object,
    ) -> bytes:
        """A bundle file of `manifest(**fields)`, signed by `signers`. `more`: blobs beside those of
        `changes`.
        """
        listed = tuple(changes)
        return self.made(self.manifest(listed, **fields), *signers, changes=listed, more=more)

    def made(
        self,
        claim: Manifest,
        *signers: str,
        changes: Iterable[ModuleChange] = CHANGES,
        more: Iterable[bytes] = (),
    ) -> bytes:
        """A bundle file of a manifest that is at hand, signed by `signers`."""
        *_, blobs = describe(changes)
        blobs |= {hashlib.sha256(each).hexdigest(): each for each in more}
        return self.signed(bundle.assemble(claim, blobs), *signers)

    def signed(self, raw: bytes, *signers: str) -> bytes:
        """`raw` with a signature of each of `signers` added."""
        for name in signers:
            message = bundle.parse_envelope(bundle.unpack(raw).envelope).message
            raw = bundle.add_signature(raw, self.keyid(name), self.key(name).sign(message))
        return raw

    def sealed(self, payload: bytes, blobs: Mapping[str, bytes], *signers: str) -> bytes:
        """A container around any payload, properly signed: what an evil signer can make."""
        message = signing.pae(bundle.PAYLOAD_TYPE, payload)
        signatures = tuple((self.keyid(name), self.key(name).sign(message)) for name in signers)
        return bundle.pack(bundle.encode_envelope(bundle.Envelope(payload, signatures)), blobs)

    def policy(self, **fields: object) -> TrustPolicy:
        """ci 1 of 1; approve 1 of alice and bob; low and normal need ci, high needs both."""
        people = {name: self.trusted(name) for name in ("ci", "alice", "bob")}
        made = TrustPolicy(
            keys={self.keyid(name): key for name, key in people.items()},
            roles={
                "ci": Role(keyids=[self.keyid("ci")], threshold=1),
                "approve": Role(keyids=[self.keyid("alice"), self.keyid("bob")], threshold=1),
            },
            policy={"low": ["ci"], "normal": ["ci"], "high": ["ci", "approve"]},
        )
        return msgspec.structs.replace(made, **fields)

    def trusted(self, name: str, *, not_after: int = now + 365 * DAY) -> Key:
        """The key of `name` as a trust file holds it."""
        return Key(public=self.public(name), name=name, not_after=not_after)

    def verify(
        self,
        raw: bytes,
        trust: TrustPolicy | None = None,
        *,
        now: int = now,
        floor: int = 0,
        known: Collection[str] = (),
        active: Collection[str] = (),
        identity: Identity = identity,
    ) -> VerifiedBundle:
        """`trust.verify` with this mint's defaults."""
        policy = self.policy() if trust is None else trust
        return verify(raw, policy, identity, now=now, floor=floor, known=known, active=active)

    def refusal(
        self,
        raw: bytes,
        trust: TrustPolicy | None = None,
        *,
        now: int = now,
        floor: int = 0,
        known: Collection[str] = (),
        active: Collection[str] = (),
    ) -> ZdpatchError:
        """The error with which `verify` refuses; a test failure when it does not."""
        with pytest.raises(ZdpatchError) as caught:
            self.verify(raw, trust, now=now, floor=floor, known=known, active=active)
        return caught.value

    def replay_refusal(self, raw: bytes, trust: TrustPolicy, identity: Identity) -> str:
        """The id with which `reverify` refuses a bundle that was accepted at `now`."""
        with pytest.raises(ZdpatchError) as caught:
            reverify(raw, trust, identity, accepted_at=self.now)
        return caught.value.code


@pytest.fixture(scope="session")
def mint() -> Mint:
    """Keys, bundles and policies."""
    return Mint()


class Desk:
    """An operator's working directory and home; `run` is one command line."""

    def __init__(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.work = work
        self.trust_file = work / "home" / "trust.json"
        self._capsys = capsys

    def run(self, *words: str, code: int = 0) -> str:
        """Run one command, check its exit code, return what it printed (both streams)."""
        from zdpatch.cli.main import main  # noqa: PLC0415 - most tests need no command line

        found = main(words)
        out, err = self._capsys.readouterr()
        assert found == code, out + err
        return out + err

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run one command with --json, return the object."""
        parsed: dict[str, Any] = json.loads(self.run(*words, "--json", code=code))
        return parsed

    def error(self, *words: str, code: int = 2) -> dict[str, Any]:
        """Run one command that fails, return its error."""
        parsed: dict[str, Any] = self.json(*words, code=code)["error"]
        return parsed

    def keys(self, *names: str) -> None:
        """Make unencrypted keys."""
        for name in names:
            self.run("keygen", f"{name}.key", "--no-passphrase")

    def bundle(self, mint: Mint, **fields: object) -> Path:
        """An unsigned bundle, good from now."""
        now = int(time.time())
        claim = mint.manifest(**{"created": now, "not_after": now + 9999, **fields})
        path = self.work / "fix.zdp"
        path.write_bytes(mint.made(claim))
        return path


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    """A fresh home and working directory, and no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZDPATCH_HOME", str(tmp_path / "home"))
    for name in ("ZDPATCH_TRUST", "ZDPATCH_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path, capsys)
