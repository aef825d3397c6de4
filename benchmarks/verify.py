"""Verify a bundle of 20 functions, beside the least that any signed file needs, in one run.

The baseline is sha256 of the file and one Ed25519 verification of its signed bytes: no format, no
policy, no sources. Prints JSON; an argument is the number of rounds.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zdpatch.patcher import bundle, signing
from zdpatch.patcher.keyring import Key, Role, TrustPolicy
from zdpatch.patcher.manifest import Manifest, Origin, Target, describe
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.trust import Identity, verify

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_700_000_000
HERE = Identity(app="shop", python="cp311")
CALLS = 20
REACH_US = 2000


def module(number: int, version: int) -> bytes:
    """Four functions of about 300 bytes each."""
    functions = [
        f"def price_{number}_{n}(cart, vat={version}):\n"
        + "".join(
            f"    part_{k} = cart.get('item {k}', 0) * (100 + vat) // 100\n" for k in range(4)
        )
        + "    return part_0 + part_1 + part_2 + part_3\n\n"
        for n in range(4)
    ]
    return "".join(functions).encode()


def signed_bundle(keys: list[Ed25519PrivateKey]) -> bytes:
    """Five modules, 20 functions, one signature of each key."""
    changes = [
        ModuleChange(f"shop.m{n}", f"shop/m{n}.py", False, module(n, 1), module(n, 2))
        for n in range(5)
    ]
    entries, _, blobs = describe(changes)
    manifest = Manifest(
        id="FIX-1",
        seq=1,
        target=Target(app="shop"),
        python=["cp311", "cp312", "cp313"],
        created=NOW,
        not_after=NOW + 86400,
        safety="high",
        modules=entries,
        origin=Origin(base="git:a", new="git:b"),
    )
    raw = bundle.assemble(manifest, blobs)
    message = bundle.parse_envelope(bundle.unpack(raw).envelope).message
    for key in keys:
        raw = bundle.add_signature(raw, keyid_of(key), key.sign(message))
    return raw


def keyid_of(key: Ed25519PrivateKey) -> str:
    """The id of a key."""
    return signing.keyid(key.public_key().public_bytes_raw().hex())


def policy(keys: list[Ed25519PrivateKey]) -> TrustPolicy:
    """Each key has a role of its own; class high needs all of them."""
    names = [f"role{n}" for n in range(len(keys))]
    return TrustPolicy(
        keys={
            keyid_of(key): Key(
                public=key.public_key().public_bytes_raw().hex(), name="key", not_after=NOW * 2
            )
            for key in keys
        },
        roles={
            name: Role(keyids=[keyid_of(key)], threshold=1)
            for name, key in zip(names, keys, strict=True)
        },
        policy={"high": names},
    )


def measure(rounds: int, subjects: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Microseconds a call, the subjects taking turns so that noise meets all of them."""
    seen: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            begun = time.perf_counter_ns()
            for _ in range(CALLS):
                call()
            seen[name].append((time.perf_counter_ns() - begun) / CALLS / 1000)
    return seen


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2)]
    raw, trust = signed_bundle(keys), policy(keys)
    envelope = bundle.parse_envelope(bundle.unpack(raw).envelope)
    public, signature = keys[0].public_key().public_bytes_raw(), keys[0].sign(envelope.message)

    def baseline() -> None:
        hashlib.sha256(raw).digest()
        Ed25519PublicKey.from_public_bytes(public).verify(signature, envelope.message)

    def ours() -> None:
        verify(raw, trust, HERE, now=NOW, floor=0, known=(), active=())

    found = measure(rounds, {"ours": ours, "baseline": baseline})
    middle = statistics.median(found["ours"])
    print(
        json.dumps(
            {
                "figure": "verify a 20-function bundle with 2 signatures",
                "unit": "us",
                "value": round(middle, 1),
                "spread": [round(min(found["ours"]), 1), round(max(found["ours"]), 1)],
                "baseline": round(statistics.median(found["baseline"]), 1),
                "baseline is": "sha256 of the file and one Ed25519 verification",
                "reach": REACH_US,
                "met": middle <= REACH_US,
                "also": {"bundle bytes": len(raw)},
            }
        )
    )


if __name__ == "__main__":
    main()
