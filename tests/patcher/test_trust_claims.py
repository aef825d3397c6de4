"""What a bundle claims is held against this process, its clock and what it has seen, at the push
and long after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher.manifest import Target
from zdpatch.patcher.source import ModuleChange
from zdpatch.patcher.trust import reverify

if TYPE_CHECKING:
    from tests.conftest import Mint

DAY = 86400


def test_revoked_bundle(mint: Mint) -> None:
    """A revoked digest is refused, whoever signed it."""
    digest = mint.verify(mint.bundle("ci")).digest
    policy = mint.policy(revoked=[digest])
    assert mint.refusal(mint.bundle("ci", "alice"), policy).code == "ZDP-112"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Target(app="other"), "ZDP-107"),
        (Target(app="shop", labels={"zone": "b"}), "ZDP-107"),
        (Target(app="shop", labels={"tier": "web"}), "ZDP-107"),
        (Target(app="shop", release="1.5"), "ZDP-107"),
        (Target(app="Shop"), "ZDP-107"),
    ],
    ids=["wrong_app", "wrong_label", "missing_label", "wrong_release", "case"],
)
def test_wrong_target(mint: Mint, target: Target, code: str) -> None:
    """A bundle for another application, release or label is refused by this process itself."""
    assert mint.refusal(mint.bundle("ci", target=target)).code == code


def test_right_target(mint: Mint) -> None:
    """Labels, release and platform that are this process's own are accepted."""
    target = Target(app="shop", labels={"zone": "a"}, release="1.4")
    mint.verify(mint.bundle("ci", target=target, platform="linux-x86_64"))


def test_wrong_python(mint: Mint) -> None:
    """Another interpreter version than was signed for is refused."""
    error = mint.refusal(mint.bundle("ci", python=["cp312"]))
    assert error.code == "ZDP-108"
    assert "cp312" in error.cause
    assert "cp311" in error.cause


def test_wrong_platform(mint: Mint) -> None:
    """Another platform than was signed for is refused."""
    assert mint.refusal(mint.bundle("ci", platform="win32")).code == "ZDP-108"


def test_expired_bundle(mint: Mint) -> None:
    """A bundle is good until its last second, and not one longer."""
    raw = mint.bundle("ci")
    end = mint.now + 30 * DAY
    mint.verify(raw, now=end)
    assert mint.refusal(raw, now=end + 1).code == "ZDP-109"


def test_from_the_future(mint: Mint) -> None:
    """Clocks may differ by five minutes, not more."""
    raw = mint.bundle("ci", created=mint.now + 300)
    mint.verify(raw)
    assert mint.refusal(raw, now=mint.now - 1).code == "ZDP-110"


def test_rollback(mint: Mint) -> None:
    """An older bundle, rightly signed, cannot bring an old hole back."""
    raw = mint.bundle("ci", seq=7)
    mint.verify(raw, floor=6)
    assert mint.refusal(raw, floor=7).code == "ZDP-111"
    assert mint.refusal(raw, floor=8).code == "ZDP-111"


def test_replay_same_is_idempotent(mint: Mint) -> None:
    """The very bundle that was accepted before may come again."""
    raw = mint.bundle("ci")
    digest = mint.verify(raw).digest
    assert mint.verify(raw, floor=9, known={digest}).digest == digest


def test_more_signatures_do_not_change_the_identity(mint: Mint) -> None:
    """The digest is of what is signed: the same patch with another signature is the same patch."""
    assert mint.verify(mint.bundle("ci")).digest == mint.verify(mint.bundle("ci", "bob")).digest


def test_min_seq(mint: Mint) -> None:
    """The operator's floor refuses even what was accepted before."""
    raw = mint.bundle("ci")
    known = {mint.verify(raw).digest}
    policy = mint.policy(min_seq={"shop": 8, "other": 99})
    assert mint.refusal(raw, policy, known=known).code == "ZDP-111"
    mint.verify(raw, mint.policy(min_seq={"shop": 7}))


def test_dependency(mint: Mint) -> None:
    """A bundle that builds on another is refused until that one is active."""
    raw = mint.bundle("ci", requires=["BASE-1"])
    assert "BASE-1" in mint.refusal(raw).cause
    assert mint.refusal(raw).code == "ZDP-116"
    mint.verify(raw, active=["BASE-1"])


def test_conflict(mint: Mint) -> None:
    """A bundle is refused while one that it conflicts with is active."""
    raw = mint.bundle("ci", conflicts=["OLD-1"])
    mint.verify(raw, active=["BASE-1"])
    assert mint.refusal(raw, active=["OLD-1"]).code == "ZDP-116"


def test_evil_source_is_carried_not_run(mint: Mint, capsys: pytest.CaptureFixture[str]) -> None:
    """Sources that do not compile, or would act when imported, are bytes to the verifier."""
    for evil in (b"print('owned')\n", b"\0", b"(" * 5000, b"# coding: none\n", b"\xff\xfe"):
        change = ModuleChange("evil", "evil.py", False, None, evil)
        assert mint.verify(mint.bundle("ci", changes=[change])).patch().changes[0].new == evil
    assert capsys.readouterr().out == ""


def test_order_of_checks(mint: Mint) -> None:
    """With everything wrong at once, each repair uncovers the next check in the fixed order."""
    fields: dict[str, object] = {
        "target": Target(app="other"),
        "python": ["cp39"],
        "created": mint.now - 100,
        "not_after": mint.now - 1,
        "requires": ["BASE-1"],
        "replace_all": True,
    }
    repairs: list[tuple[str, dict[str, object]]] = [
        ("ZDP-107", {"target": Target(app="shop")}),
        ("ZDP-108", {"python": ["cp311"]}),
        ("ZDP-109", {"created": mint.now + 1000, "not_after": mint.now + DAY}),
        ("ZDP-110", {"created": mint.now}),
        ("ZDP-111", {"seq": 10}),
        ("ZDP-116", {"requires": []}),
        ("ZDP-115", {"replace_all": False}),
    ]
    first = mint.made(mint.manifest(**fields))
    assert mint.refusal(first[:-1]).code == "ZDP-102"
    assert mint.refusal(first).code == "ZDP-103"
    for code, repair in repairs:
        raw = mint.made(mint.manifest(**fields), "ci")
        assert mint.refusal(raw, floor=9).code == code
        fields |= repair
    mint.verify(mint.made(mint.manifest(**fields), "ci"), floor=9)


def test_reverify_long_after(mint: Mint) -> None:
    """At start, a bundle accepted in time is good though key and bundle have expired since."""
    raw = mint.bundle("ci")
    late = mint.now + 999 * DAY
    assert mint.refusal(raw, now=late).code == "ZDP-103"
    found = reverify(raw, mint.policy(), mint.identity, accepted_at=mint.now, now=late)
    assert "expired on" in found.warnings[-1]
    assert reverify(raw, mint.policy(), mint.identity, accepted_at=mint.now).warnings == ()


def test_reverify_after_revocation(mint: Mint) -> None:
    """Revocation, of the bundle or of its key, reaches patches that were accepted before."""
    raw = mint.bundle("ci")
    digest = mint.verify(raw).digest
    for revoked, code in ((digest, "ZDP-112"), (mint.keyid("ci"), "ZDP-103")):
        policy = mint.policy(revoked=[revoked])
        assert mint.replay_refusal(raw, policy, mint.identity) == code


def test_reverify_of_changed_bytes(mint: Mint) -> None:
    """What lay in the journal is not believed: it is checked like what comes from outside."""
    raw = mint.bundle("ci")
    broken = raw.replace(b"VAT = 2", b"VAT = 9")
    assert broken != raw
    assert mint.replay_refusal(broken, mint.policy(), mint.identity) == "ZDP-102"


def test_reverify_in_another_process(mint: Mint) -> None:
    """A bundle in the journal is replayed only by the application and Python it was made for."""
    other = replace(mint.identity, python="cp313")
    raw = mint.bundle("ci", python=["cp311"])
    assert mint.replay_refusal(raw, mint.policy(), other) == "ZDP-108"
