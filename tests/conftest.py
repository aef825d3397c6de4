"""The mint: fixed keys, and bundles and trust policies made with them, the same in every run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zdpatch.patcher import bundle, signing
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.keyring import Key, Role, TrustPolicy
from zdpatch.patcher.manifest import Manifest, Origin, Target, describe
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.trust import Identity, VerifiedBundle, reverify, verify

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

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
        entries, _ = describe(changes)
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
        self, *signers: str, changes: Iterable[ModuleChange] = CHANGES, **fields: object
    ) -> bytes:
        """A bundle file of `manifest(**fields)`, signed by `signers`."""
        listed = tuple(changes)
        return self.made(self.manifest(listed, **fields), *signers, changes=listed)

    def made(
        self, claim: Manifest, *signers: str, changes: Iterable[ModuleChange] = CHANGES
    ) -> bytes:
        """A bundle file of a manifest that is at hand, signed by `signers`."""
        _, blobs = describe(changes)
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
