"""Whoever carries root documents, only enough of the old and of the new roots change the trust."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zdpatch.patcher import bundle, roots
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.keyring import Role
from zdpatch.patcher.roots import Chain, Document, Signature

if TYPE_CHECKING:
    from tests.conftest import Mint
    from zdpatch.patcher.roots import Rooted

OLD = ("anna", "bob", "carl")
NEW = ("bob", "carl", "dora")


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    roots.load.cache_clear()


def made(mint: Mint, version: int, names: tuple[str, ...], threshold: int = 2) -> Document:
    """An unsigned root document."""
    policy = mint.policy()
    keys = {mint.keyid(name): mint.trusted(name) for name in names}
    role = Role(keyids=sorted(keys), threshold=threshold)
    trust = msgspec.structs.replace(
        policy,
        version=version,
        keys={**policy.keys, **keys},
        roles={**policy.roles, "root": role},
    )
    return roots.make(trust, mint.now + 999)


def signed(mint: Mint, document: Document, *names: str) -> Document:
    """With signatures of these."""
    for name in names:
        signature = mint.key(name).sign(roots.message(document))
        document = roots.signed(document, mint.keyid(name), signature)
    return document


def first(mint: Mint) -> Document:
    """The root document that a chain begins with."""
    return signed(mint, made(mint, 5, OLD), "anna", "bob")


def load(*documents: Document) -> Rooted:
    """A chain as an agent reads it."""
    found = roots.load(Chain(list(documents)).dump())
    assert found is not None
    return found


def refusal(*documents: Document) -> str:
    """Why a chain does not hold."""
    with pytest.raises(OperatorError) as caught:
        load(*documents)
    assert caught.value.code == "ZDP-117"
    return caught.value.cause


def test_a_chain_that_holds(mint: Mint) -> None:
    """Signed by two of three old and two of three new roots."""
    second = signed(mint, made(mint, 6, NEW), "bob", "carl")
    found = load(first(mint), second)
    assert (found.version, set(found.digests)) == (6, {5, 6})
    assert mint.keyid("anna") not in found.policy.roles["root"].keyids


@pytest.mark.parametrize(
    ("signers", "words"),
    [
        (("anna",), "1 of 2 of the roots of version 5"),
        (("bob",), "1 of 2 of the roots of version 5"),
        (("anna", "bob"), "1 of 2 of its own roots"),
        (("carl", "dora"), "1 of 2 of the roots of version 5"),
        (("ci", "alice", "stranger"), "0 of 2"),
        ((), "0 of 2"),
    ],
)
def test_too_few_signatures(mint: Mint, signers: tuple[str, ...], words: str) -> None:
    """One stolen root key is not enough, nor the old roots alone, nor the new ones alone."""
    assert words in refusal(first(mint), signed(mint, made(mint, 6, NEW), *signers))


@pytest.mark.parametrize("version", [1, 4, 5, 7, 99])
def test_only_the_next_version(mint: Mint, version: int) -> None:
    """None is left out, none comes again."""
    later = signed(mint, made(mint, version, OLD), "anna", "bob", "carl")
    assert "does not follow 5" in refusal(first(mint), later)


def test_first_document_is_signed_by_its_own(mint: Mint) -> None:
    """A chain cannot begin with what nobody signed."""
    assert "1 of 2 of its own roots" in refusal(signed(mint, made(mint, 5, OLD), "anna"))


def test_revoked_root_does_not_count(mint: Mint) -> None:
    """A root that the old document revokes signs nothing any more."""
    content = roots.content_of(made(mint, 5, OLD))
    trust = msgspec.structs.replace(content.trust, revoked=[mint.keyid("anna")])
    begin = signed(mint, roots.make(trust, mint.now), "bob", "carl")
    assert "1 of 2" in refusal(begin, signed(mint, made(mint, 6, OLD), "anna", "bob"))


def test_one_signature_twice(mint: Mint) -> None:
    """Under two key ids, or twice in the list, it is one."""
    document = signed(mint, made(mint, 6, NEW), "bob")
    (one,) = document.signatures
    again = [one, one, Signature(mint.keyid("carl"), one.sig)]
    assert "1 of 2" in refusal(first(mint), Document(document.payload, again))


def test_signature_of_a_bundle(mint: Mint) -> None:
    """A document's bytes signed as a bundle's are no root's word, and the reverse."""
    document = made(mint, 6, NEW)
    as_bundle = bundle.Envelope(document.raw).message
    for name in ("bob", "carl"):
        document = roots.signed(document, mint.keyid(name), mint.key(name).sign(as_bundle))
    assert "0 of 2" in refusal(first(mint), document)


def test_changed_bytes(mint: Mint) -> None:
    """Another payload, another spelling of it, no base64, a signature that is none."""
    good = signed(mint, made(mint, 6, NEW), "bob", "carl")
    content: dict[str, Any] = json.loads(good.raw)
    content["trust"]["roles"]["ci"]["threshold"] = 2
    spellings = (
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode(),
        good.raw + b" ",
        good.raw.replace(b'"expires":', b'"expires" :'),
        b"{}",
        b"[" * 9999,
    )
    for raw in spellings:
        refusal(first(mint), Document(base64.b64encode(raw).decode(), good.signatures))
    refusal(first(mint), Document("%%%", good.signatures))
    bad = [Signature(one.keyid, "%%%") for one in good.signatures]
    refusal(first(mint), Document(good.payload, bad))


@pytest.mark.parametrize("threshold", [4, 9])
def test_roots_that_cannot_sign(mint: Mint, threshold: int) -> None:
    """A document that no next one could follow is not made, nor one without roots."""
    with pytest.raises(OperatorError, match="too few keys"):
        made(mint, 6, NEW, threshold)
    with pytest.raises(OperatorError, match="too few keys"):
        roots.make(mint.policy(), mint.now)


def test_endless_chain(mint: Mint) -> None:
    """64 documents at most, 16 signatures each."""
    raw = Chain([first(mint)]).dump()
    value = json.loads(raw)
    value["chain"] *= 65
    with pytest.raises(OperatorError) as caught:
        roots.load(json.dumps(value).encode())
    assert caught.value.code == "ZDP-114"
    value["chain"] = value["chain"][:1]
    value["chain"][0]["signatures"] *= 9
    with pytest.raises(OperatorError) as caught:
        roots.load(json.dumps(value).encode())
    assert caught.value.code == "ZDP-114"


def test_unsigned_words_only_refuse(mint: Mint) -> None:
    """What stands beside the chain adds revocations and floors, and lowers none."""
    file = Chain([first(mint)], ["ab" * 32], {"shop": 9})
    found = roots.load(file.dump())
    assert found is not None
    assert (found.policy.revoked, found.policy.min_seq) == (["ab" * 32], {"shop": 9})
    value = json.loads(file.dump())
    value["roles"] = {}
    with pytest.raises(OperatorError):
        roots.load(json.dumps(value).encode())


def test_held_against_what_was_accepted(mint: Mint) -> None:
    """Not back, not exchanged, not past it, not without roots."""
    second = signed(mint, made(mint, 6, NEW), "bob", "carl")
    third = signed(mint, made(mint, 7, NEW), "bob", "carl")
    whole = load(first(mint), second, third)
    roots.check_pinned(whole, 5, first(mint).digest)
    roots.check_pinned(whole, 7, third.digest)
    for found, version, digest in (
        (load(first(mint), second), 7, third.digest),
        (whole, 6, third.digest),
        (load(third), 6, second.digest),
        (None, 5, first(mint).digest),
    ):
        with pytest.raises(OperatorError):
            roots.check_pinned(found, version, digest)
