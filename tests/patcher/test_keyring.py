"""The trust file is read strictly: a policy that could be met by cheating does not load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.keyring import MAX_TRUST, Role, TrustPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Mint


def refusal(raw: bytes) -> str:
    """Why a trust file is not loaded."""
    with pytest.raises(OperatorError) as caught:
        TrustPolicy.load(raw)
    assert caught.value.code == "ZDP-114"
    return caught.value.cause


def test_round_trip(mint: Mint) -> None:
    """What is written is read again as it was."""
    policy = mint.policy(revoked=["a" * 64], min_seq={"shop": 3}, version=4)
    assert TrustPolicy.load(policy.dump()) == policy


def test_written_by_hand(mint: Mint) -> None:
    """Order, spaces and fields at their default are free: the file is for people too."""
    policy = json.loads(mint.policy().dump())
    for name in ("version", "revoked", "min_seq"):
        del policy[name]
    assert TrustPolicy.load(json.dumps(policy, indent=7).encode()) == mint.policy()


def spoil_threshold(policy: dict[str, Any]) -> None:
    policy["roles"]["ci"]["threshold"] = 0


def spoil_keyid(policy: dict[str, Any]) -> None:
    policy["keys"]["a" * 64] = next(iter(policy["keys"].values()))


def spoil_public(policy: dict[str, Any]) -> None:
    next(iter(policy["keys"].values()))["public"] = "00" * 32


def spoil_role(policy: dict[str, Any]) -> None:
    policy["policy"]["low"] = ["nobody"]


def spoil_empty(policy: dict[str, Any]) -> None:
    policy["policy"]["low"] = []


def spoil_twice(policy: dict[str, Any]) -> None:
    policy["policy"]["low"] = ["ci", "ci"]


def spoil_class(policy: dict[str, Any]) -> None:
    policy["policy"]["*"] = ["ci"]


def spoil_listed_twice(policy: dict[str, Any]) -> None:
    policy["roles"]["ci"]["keyids"] *= 2


def spoil_missing_key(policy: dict[str, Any]) -> None:
    policy["roles"]["ci"]["keyids"] = ["b" * 64]


def spoil_field(policy: dict[str, Any]) -> None:
    policy["trust_everything"] = True


def spoil_name(policy: dict[str, Any]) -> None:
    next(iter(policy["keys"].values()))["name"] = "ci\n"


def spoil_revoked(policy: dict[str, Any]) -> None:
    policy["revoked"] = ["FIX-1"]


def spoil_version(policy: dict[str, Any]) -> None:
    policy["version"] = "1"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(spoil_threshold, "threshold", id="threshold_zero"),
        pytest.param(spoil_keyid, "not its own", id="keyid_lie"),
        pytest.param(spoil_public, "weak", id="weak_key"),
        pytest.param(spoil_role, "nobody", id="unknown_role"),
        pytest.param(spoil_empty, "length", id="class_without_roles"),
        pytest.param(spoil_twice, "twice", id="role_twice"),
        pytest.param(spoil_class, "enum", id="unknown_class"),
        pytest.param(spoil_listed_twice, "twice", id="key_twice"),
        pytest.param(spoil_missing_key, "does not hold", id="missing_key"),
        pytest.param(spoil_field, "trust_everything", id="unknown_field"),
        pytest.param(spoil_name, "printed", id="control_character"),
        pytest.param(spoil_revoked, "revoked", id="revoked_by_name"),
        pytest.param(spoil_version, "version", id="wrong_type"),
    ],
)
def test_bad_policy(mint: Mint, spoil: Callable[[dict[str, Any]], None], cause: str) -> None:
    """Each way to weaken a policy by its file is refused, and named."""
    policy = json.loads(mint.policy().dump())
    spoil(policy)
    assert cause in refusal(json.dumps(policy).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"policy": NaN}', b'{"a":1,"a":2}'],
)
def test_not_a_policy(raw: bytes) -> None:
    """Anything that is not strict JSON of a policy is refused."""
    assert "malformed" in refusal(raw)


def test_too_large() -> None:
    """A huge file is refused by its size."""
    assert "bytes" in refusal(b" " * (MAX_TRUST + 1))


def test_short_roles(mint: Mint) -> None:
    """A policy whose roles cannot be met loads, so that it can be completed, and says which."""
    assert mint.policy().short_roles() == []
    roles = {**mint.policy().roles, "approve": Role(keyids=[], threshold=1)}
    assert mint.policy(roles=roles).short_roles() == ["approve"]
    revoked = mint.policy(revoked=[mint.keyid("ci")])
    assert revoked.short_roles() == ["ci"]
    assert TrustPolicy.load(revoked.dump()).usable("approve") == 2
