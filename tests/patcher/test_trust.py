"""Each test is an attack on a bundle's way into a process, or an honest mistake, and its end."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from zdpatch.patcher import bundle, manifest, signing
from zdpatch.patcher.keyring import Role
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from tests.conftest import Mint

DAY = 86400


def payload_of(raw: bytes) -> bytes:
    """The signed bytes of a bundle."""
    return bundle.parse_envelope(bundle.unpack(raw).envelope).payload


def test_good_bundle(mint: Mint) -> None:
    """A properly signed bundle is accepted, with its sources, its digest and who signed."""
    raw = mint.bundle("ci")
    found = mint.verify(raw)
    assert found.digest == bundle.parse_envelope(bundle.unpack(raw).envelope).digest
    assert found.signed_by == {"ci": [mint.keyid("ci")]}
    assert found.warnings == ()
    assert [change.new for change in found.patch().changes] == [b"", b"VAT = 2\n"]
    assert found.patch().id == "FIX-1"


def test_arbitrary_code_unsigned(mint: Mint) -> None:
    """Without a signature nothing is accepted, and the next command says what to do."""
    error = mint.refusal(mint.bundle())
    assert error.code == "ZDP-103"
    assert "zdpatch sign" in error.next


def test_signed_by_a_stranger(mint: Mint) -> None:
    """A signature by a key that the trust file does not hold counts for nothing."""
    error = mint.refusal(mint.bundle("mallory"))
    assert error.code == "ZDP-103"
    assert "role ci: 0 of 1" in error.cause
    assert f"{mint.keyid('mallory')[:8]} unknown key" in error.cause


def test_stranger_under_a_trusted_key_id(mint: Mint) -> None:
    """A stranger's signature that claims a trusted key's id is a bad signature."""
    raw = mint.bundle()
    message = bundle.parse_envelope(bundle.unpack(raw).envelope).message
    forged = bundle.add_signature(raw, mint.keyid("ci"), mint.key("mallory").sign(message))
    error = mint.refusal(forged)
    assert error.code == "ZDP-103"
    assert "bad signature" in error.cause


def test_signature_of_another_bundle(mint: Mint) -> None:
    """A signature is good for the bundle it was made for, and no other."""
    donor = bundle.parse_envelope(bundle.unpack(mint.bundle("ci", seq=8)).envelope)
    forged = bundle.add_signature(mint.bundle(), *donor.signatures[0])
    assert mint.refusal(forged).code == "ZDP-103"


def test_payload_type_confusion(mint: Mint) -> None:
    """A signature over the same bytes as another kind of document is no signature here."""
    raw = mint.bundle()
    other = signing.pae("application/vnd.zdpatch.root+json", payload_of(raw))
    forged = bundle.add_signature(raw, mint.keyid("ci"), mint.key("ci").sign(other))
    assert mint.refusal(forged).code == "ZDP-103"


def test_every_byte_flip_refused(mint: Mint) -> None:
    """One changed bit anywhere in the file, in any byte, is refused."""
    raw = mint.bundle("ci", changes=[ModuleChange("a", "a.py", False, b"x = 1\n", b"x = 2\n")])
    for index in range(len(raw)):
        flipped = raw[:index] + bytes([raw[index] ^ 1 << index % 8]) + raw[index + 1 :]
        mint.refusal(flipped)


def test_every_truncation_refused(mint: Mint) -> None:
    """A file cut short at any byte is refused."""
    raw = mint.bundle("ci", changes=[ModuleChange("a", "a.py", False, b"x = 1\n", b"x = 2\n")])
    for length in range(len(raw)):
        assert mint.refusal(raw[:length]).code == "ZDP-102"


def test_single_key_cannot_push_high(mint: Mint) -> None:
    """A stolen CI key alone makes no bundle of class high; what is missing is said per role."""
    error = mint.refusal(mint.bundle("ci", safety="high"))
    assert error.code == "ZDP-103"
    assert "class high needs role ci: 1 of 1, role approve: 0 of 1" in error.cause
    assert "role approve" in error.next


def test_high_with_both_roles(mint: Mint) -> None:
    """With a signature of each role the class high is accepted."""
    found = mint.verify(mint.bundle("ci", "bob", safety="high"))
    assert found.signed_by == {"ci": [mint.keyid("ci")], "approve": [mint.keyid("bob")]}


def test_approver_alone_is_not_enough(mint: Mint) -> None:
    """A key of another role does not stand in for the one that is needed."""
    assert mint.refusal(mint.bundle("alice", "bob")).code == "ZDP-103"


def test_one_key_in_two_roles(mint: Mint) -> None:
    """A key listed in two roles fills one place of a decision, not two."""
    both = {
        "ci": Role(keyids=[mint.keyid("ci")], threshold=1),
        "approve": Role(keyids=[mint.keyid("ci"), mint.keyid("bob")], threshold=1),
    }
    policy = mint.policy(roles=both)
    assert "role approve: 0 of 1" in mint.refusal(mint.bundle("ci", safety="high"), policy).cause
    found = mint.verify(mint.bundle("ci", "bob", safety="high"), policy)
    assert found.signed_by == {"ci": [mint.keyid("ci")], "approve": [mint.keyid("bob")]}


def test_keys_are_placed_where_they_are_needed(mint: Mint) -> None:
    """A key of both roles makes room when another can only fill its first place."""
    both = [mint.keyid("alice"), mint.keyid("bob")]
    roles = {
        "ci": Role(keyids=both, threshold=1),
        "approve": Role(keyids=[mint.keyid("alice")], threshold=1),
    }
    found = mint.verify(mint.bundle("alice", "bob", safety="high"), mint.policy(roles=roles))
    assert found.signed_by == {"ci": [mint.keyid("bob")], "approve": [mint.keyid("alice")]}


@pytest.mark.parametrize(("signers", "got"), [(("alice",), 1), (("bob",), 1), ((), 0)])
def test_threshold_of_two(mint: Mint, signers: tuple[str, ...], got: int) -> None:
    """m-of-n: one of two needed approvals is not enough, and the count is said."""
    policy = mint.policy(
        roles={
            "ci": Role(keyids=[mint.keyid("ci")], threshold=1),
            "approve": Role(keyids=[mint.keyid("alice"), mint.keyid("bob")], threshold=2),
        }
    )
    error = mint.refusal(mint.bundle("ci", *signers, safety="high"), policy)
    assert f"role approve: {got} of 2" in error.cause
    mint.verify(mint.bundle("ci", "alice", "bob", safety="high"), policy)


def test_same_key_two_keyids_not_counted_twice(mint: Mint) -> None:
    """A second signature of one key under another id adds nothing: the id is not known."""
    raw = mint.bundle("alice", "ci", safety="high")
    signature = dict(bundle.parse_envelope(bundle.unpack(raw).envelope).signatures)
    twice = bundle.add_signature(raw, "0" * 64, signature[mint.keyid("alice")])
    policy = mint.policy(
        roles={
            "ci": Role(keyids=[mint.keyid("ci")], threshold=1),
            "approve": Role(keyids=[mint.keyid("alice"), mint.keyid("bob")], threshold=2),
        }
    )
    assert "role approve: 1 of 2" in mint.refusal(twice, policy).cause


def test_two_ids_for_one_key_in_a_policy_made_by_code(mint: Mint) -> None:
    """Even a policy which no file could hold counts key bytes, not ids."""
    keyids = [mint.keyid("alice"), "0" * 64]
    policy = mint.policy(
        keys={keyid: mint.trusted("alice") for keyid in keyids},
        roles={"approve": Role(keyids=keyids, threshold=2)},
        policy={"normal": ["approve"]},
    )
    raw = mint.bundle("alice")
    signature = bundle.parse_envelope(bundle.unpack(raw).envelope).signatures[0][1]
    twice = bundle.add_signature(raw, "0" * 64, signature)
    assert "role approve: 1 of 2" in mint.refusal(twice, policy).cause


def test_expired_key(mint: Mint) -> None:
    """A key past its end signs nothing new; the refusal says that it is the key."""
    policy = mint.policy()
    late = policy.keys[mint.keyid("ci")].not_after + 1
    raw = mint.bundle("ci", created=late - 10, not_after=late + DAY)
    assert "ci (" in mint.refusal(raw, now=late).cause
    assert "expired key" in mint.refusal(raw, now=late).cause
    assert mint.verify(raw, now=late - 1).signed_by


def test_key_that_ends_soon_is_a_warning(mint: Mint) -> None:
    """Thirty days before a key ends, every bundle it signed says so."""
    policy = mint.policy()
    soon = policy.keys[mint.keyid("ci")].not_after - 29 * DAY
    found = mint.verify(mint.bundle("ci", created=soon, not_after=soon + DAY), now=soon)
    assert "expires on" in found.warnings[0]


def test_revoked_key(mint: Mint) -> None:
    """A revoked key counts no more, while the other keys of its role do."""
    policy = mint.policy(revoked=[mint.keyid("alice")])
    error = mint.refusal(mint.bundle("ci", "alice", safety="high"), policy)
    assert "revoked key" in error.cause
    mint.verify(mint.bundle("ci", "bob", safety="high"), policy)


def test_useless_signatures_are_warned_of(mint: Mint) -> None:
    """A stranger's signature beside a good one does not refuse the bundle, and is not silent."""
    found = mint.verify(mint.bundle("ci", "mallory"))
    assert found.warnings == (
        f"a signature did not count: {mint.keyid('mallory')[:8]}, unknown key",
    )


def test_role_that_cannot_be_met(mint: Mint) -> None:
    """A role without enough keys refuses, and says that the trust file is to be completed."""
    roles = dict(mint.policy().roles)
    roles["approve"] = Role(keyids=[], threshold=1)
    error = mint.refusal(mint.bundle("ci", safety="high"), mint.policy(roles=roles))
    assert "zdpatch trust add --role approve" in error.next
    assert "0 usable" in error.cause


def test_class_without_a_rule(mint: Mint) -> None:
    """A safety class which the trust file does not name is refused, however signed."""
    error = mint.refusal(mint.bundle("ci", "alice", "bob", safety="stateful"))
    assert error.code == "ZDP-103"
    assert "stateful" in error.cause


def test_policy_without_any_class(mint: Mint) -> None:
    """A trust file without a single rule accepts nothing."""
    assert mint.refusal(mint.bundle("ci"), mint.policy(policy={})).code == "ZDP-113"


def test_downgrade_safety_class_needs_resign(mint: Mint) -> None:
    """The class is signed content: lowering it makes other bytes, which nobody signed."""
    raw = mint.bundle("ci", safety="high")
    envelope = bundle.parse_envelope(bundle.unpack(raw).envelope)
    lower = envelope.payload.replace(b'"safety":"high"', b'"safety":"low"')
    forged = bundle.pack(
        bundle.encode_envelope(replace(envelope, payload=lower)), bundle.unpack(raw).blobs
    )
    error = mint.refusal(forged)
    assert error.code == "ZDP-103"
    assert "bad signature" in error.cause


def test_signed_bytes_are_not_parsed_before_the_signature(mint: Mint) -> None:
    """Malformed content under no valid signature is refused for its signature alone."""
    raw = mint.sealed(b"[" * 10_000, {}, "mallory")
    assert mint.refusal(raw).code == "ZDP-103"
    assert mint.refusal(mint.sealed(b"[" * 10_000, {}, "ci")).code in {
        "ZDP-104",
        "ZDP-105",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"", b"[" * 200_000, id="deep_json"),
        pytest.param(b'"seq":7', b'"seq":' + b"9" * 5000, id="huge_int_json"),
        pytest.param(b'"seq":7', b'"seq":1,"seq":7', id="duplicate_json_key"),
        pytest.param(b'"seq":7', b'"seq":NaN', id="nan"),
        pytest.param(b"/v1", b"/v2", id="statement_type"),
        pytest.param(b"patch:v1", b"patch:v9", id="predicate_type"),
        pytest.param(b"}}", b"}} ", id="space"),
        pytest.param(b"", b"\xff\xfe", id="not_utf8"),
    ],
)
def test_parser_attacks_by_a_signer(mint: Mint, old: bytes, new: bytes) -> None:
    """Even properly signed bytes are parsed strictly."""
    raw = mint.bundle()
    spoilt = payload_of(raw).replace(old, new, 1)
    assert spoilt != payload_of(raw)
    forged = mint.sealed(spoilt, bundle.unpack(raw).blobs, "ci")
    assert mint.refusal(forged).code in {"ZDP-104", "ZDP-105"}


def test_control_characters_in_a_signed_id(mint: Mint) -> None:
    """A signer cannot forge log lines: no control character gets through."""
    raw = mint.bundle()
    for text in (b"\\n2026-01-01 all good", b"\\u001b[2J", b"\\u202e"):
        forged = payload_of(raw).replace(b'"notes":""', b'"notes":"' + text + b'"')
        sealed = mint.sealed(forged, bundle.unpack(raw).blobs, "ci")
        assert mint.refusal(sealed).code == "ZDP-105"


def test_manifest_in_the_result_is_the_signed_one(mint: Mint) -> None:
    """What is handed on re-encodes to the bytes that were signed."""
    raw = mint.bundle("ci", notes="caf\xe9")
    assert manifest.encode(mint.verify(raw).manifest) == payload_of(raw)
    assert json.loads(payload_of(raw))["predicate"]["notes"] == "caf\xe9"
    assert msgspec.to_builtins(mint.verify(raw).manifest)["notes"] == "caf\xe9"
