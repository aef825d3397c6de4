"""Roots change as several people change them, each with a key of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.trustfile import load_trust

if TYPE_CHECKING:
    from tests.conftest import Desk

ROOTS = ("--root", "anna.pub", "--root", "bob.pub", "--root", "carl.pub")


@pytest.fixture
def rooted(desk: Desk) -> Desk:
    """A trust file that stands on 2 of 3 roots."""
    desk.keys("ci", "anna", "bob", "carl", "dora", "new")
    desk.run("trust", "init", "--key", "ci.pub")
    made = desk.json("trust", "rotate", *ROOTS, "--key", "anna.key")
    assert (made["version"], made["complete"]) == (2, False)
    assert desk.error("trust", "accept", "root-2.json", code=3)["code"] == "ZDP-117"
    assert desk.json("trust", "sign", "root-2.json", "--key", "bob.key")["complete"]
    desk.run("trust", "accept", "root-2.json")
    return desk


def test_from_a_plain_file(rooted: Desk) -> None:
    """The same trust, on roots: two of three by default."""
    policy = load_trust(rooted.trust_file)
    assert (policy.version, policy.roles["root"].threshold) == (2, 2)
    assert policy.roles["ci"].keyids
    assert "root" in rooted.run("trust", "show")


def test_rotate_keys_and_roots(rooted: Desk) -> None:
    """Another root and another ci key, by two of the old and two of the new roots."""
    words = ("--root", "bob.pub", "--root", "carl.pub", "--root", "dora.pub")
    said = rooted.json(
        *("trust", "rotate", *words, "--add", "ci=new.pub", "--drop", "ci=ci.pub"),
        *("--key", "anna.key", "--key", "bob.key", "-o", "next.json"),
    )
    assert said["signed"] == {
        "the roots of version 2": {"by": 2, "of": 2},
        "its own roots": {"by": 1, "of": 2},
    }
    assert rooted.error("trust", "accept", "next.json", code=3)["code"] == "ZDP-117"
    rooted.run("trust", "sign", "next.json", "--key", "dora.key")
    rooted.run("trust", "accept", "next.json")
    policy = load_trust(rooted.trust_file)
    assert policy.version == 3
    assert sorted(key.name for key in policy.keys.values()) == ["bob", "carl", "dora", "new"]
    assert rooted.error("trust", "accept", "next.json", code=3)["code"] == "ZDP-117"


def test_only_roots_say_who_is_trusted(rooted: Desk) -> None:
    """Keys cannot be added beside them; refusing needs nobody's signature, and is kept."""
    before = rooted.trust_file.read_bytes()
    error = rooted.error("trust", "add", "--role", "ci", "--key", "new.pub", code=3)
    assert (error["code"], rooted.trust_file.read_bytes()) == ("ZDP-117", before)
    rooted.run("trust", "revoke", "ci.pub")
    rooted.run("trust", "revoke", "--below", "shop=42")
    policy = load_trust(rooted.trust_file)
    assert (len(policy.revoked), policy.min_seq, policy.version) == (1, {"shop": 42}, 2)
    rooted.run("trust", "rotate", "--key", "anna.key", "--key", "carl.key")
    rooted.run("trust", "accept", "root-3.json")
    assert load_trust(rooted.trust_file).revoked == policy.revoked


def test_what_cannot_be_meant(rooted: Desk) -> None:
    """Each with a word of its own, and no document."""
    for words in (
        ("--add", "root=dora.pub"),
        ("--add", "ci"),
        ("--drop", "ci=dora.pub"),
        ("--drop", "none=ci.pub"),
    ):
        assert rooted.error("trust", "rotate", *words)["code"] == "ZDP-001"
    assert rooted.error("trust", "rotate", "--threshold", "4", code=3)["code"] == "ZDP-117"
    assert rooted.error("trust", "sign", "root-2.json")["code"] == "ZDP-001"
    (rooted.work / "bad.json").write_bytes(b"{}")
    for name in ("bad.json", "none.json"):
        error = rooted.error("trust", "accept", name, code=3)
        assert error["code"] == "ZDP-117"
    assert not (rooted.work / "root-3.json").exists()


def test_no_roots_yet(desk: Desk) -> None:
    """The first document names them."""
    desk.run("trust", "init")
    assert desk.error("trust", "rotate")["code"] == "ZDP-001"
