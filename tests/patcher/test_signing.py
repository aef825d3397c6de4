"""Signatures: the right bytes under the right key, and nothing that only looks like a key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher import signing

if TYPE_CHECKING:
    from tests.conftest import Mint

PRIME = 2**255 - 19
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"


def test_pae_is_dsse() -> None:
    """The pre-authentication encoding is that of the DSSE specification's own example."""
    example = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert signing.pae("http://example.com/HelloWorld", b"hello world") == example


def test_rfc_8032_vector() -> None:
    """The first test vector of RFC 8032 verifies."""
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert signing.verify_signature(public, b"", signature)
    assert not signing.verify_signature(public, b"x", signature)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_signature_length(mint: Mint, length: int) -> None:
    """A signature of another length is only a bad signature, not an error."""
    assert not signing.verify_signature(mint.public("ci"), b"x", bytes(length))


def test_malleated_signature(mint: Mint) -> None:
    """Adding the group's order to a signature's second half does not give a second signature."""
    order = 2**252 + 27742317777372353535851937790883648493
    good = mint.key("ci").sign(b"x")
    second = int.from_bytes(good[32:], "little") + order
    assert signing.verify_signature(mint.public("ci"), b"x", good)
    assert not signing.verify_signature(
        mint.public("ci"), b"x", good[:32] + second.to_bytes(32, "little")
    )


def test_keyid_is_the_hash_of_the_key(mint: Mint) -> None:
    """The id is the sha256 of the 32 bytes of the key."""
    public = mint.public("ci")
    assert signing.keyid(public) == hashlib.sha256(bytes.fromhex(public)).hexdigest()


@pytest.mark.parametrize(
    "public",
    [
        "",
        "ab",
        "A" * 64,
        "g" * 64,
        "a" * 66,
        (0).to_bytes(32, "little").hex(),
        (1).to_bytes(32, "little").hex(),
        (PRIME - 1).to_bytes(32, "little").hex(),
        ORDER_8,
        (PRIME - int.from_bytes(bytes.fromhex(ORDER_8), "little")).to_bytes(32, "little").hex(),
        (1 | 1 << 255).to_bytes(32, "little").hex(),
        PRIME.to_bytes(32, "little").hex(),  # a second spelling of y = 0
        (PRIME + 3).to_bytes(32, "little").hex(),  # a second spelling of y = 3
        (2).to_bytes(32, "little").hex(),  # no point has y = 2
    ],
)
def test_weak_or_malformed_key(public: str) -> None:
    """A weak point, a second spelling, no point at all: none of them can be a key."""
    with pytest.raises(ValueError, match="public key"):
        signing.keyid(public)


def test_weak_key_would_accept_anything() -> None:
    """The control: unchecked, one signature under a weak key is good for any message."""
    weak = (1).to_bytes(32, "little")
    forged = weak + bytes(32)
    assert signing.verify_signature(weak.hex(), b"anything", forged)


@pytest.mark.parametrize("name", [f"key {n}" for n in range(20)])
def test_real_keys_are_accepted(mint: Mint, name: str) -> None:
    """Keys that were generated pass the check."""
    signing.check_public(mint.public(name))
