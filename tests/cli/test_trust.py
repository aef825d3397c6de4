"""The trust commands as an operator runs them: every change is whole, and an agent accepts it."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from zdpatch.agent.trustfile import load_trust
from zdpatch.cli import trustedit
from zdpatch.patcher import bundle
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from tests.conftest import Desk, Mint
    from zdpatch.patcher.keyring import TrustPolicy


_NOBODY = 65534


def test_trust_init_default(desk: Desk) -> None:
    """Low and normal need ci; high and stateful an approval too; the missing key is said."""
    said = desk.run("trust", "init")
    assert "trust add --role approve" in said
    policy = load_trust(desk.trust_file)
    assert policy.policy["normal"] == ["ci"]
    assert policy.policy["high"] == policy.policy["stateful"] == ["ci", "approve"]
    assert policy.short_roles() == ["approve", "ci"]
    assert stat.S_IMODE(desk.trust_file.stat().st_mode) == 0o644
    assert stat.S_IMODE(desk.trust_file.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_in_the_home_of_a_service(desk: Desk) -> None:
    """Root judges and writes as the service's user would; all stays theirs."""
    home = desk.trust_file.parent
    home.mkdir(parents=True, exist_ok=True)
    os.chown(home, _NOBODY, -1)
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    desk.run("trust", "show")
    desk.run("trust", "revoke", "ab" * 32)
    written = [desk.trust_file, home / "trust.json.lock"]
    assert [path.stat().st_uid for path in written] == [_NOBODY, _NOBODY]
    os.chown(home, _NOBODY + 1, -1)
    with pytest.raises(OperatorError, match=f"belongs to uid {_NOBODY}"):
        load_trust(desk.trust_file, _NOBODY + 1)


def test_trust_init_with_flags(desk: Desk) -> None:
    """Rules and thresholds can be said, for roles of one's own too."""
    flags = ["--policy", "normal=ci,approve", "--policy", "high=ci,approve,audit"]
    desk.run("trust", "init", *flags, "--threshold", "approve=2")
    policy = load_trust(desk.trust_file)
    assert policy.policy["normal"] == ["ci", "approve"]
    assert policy.policy["high"] == ["ci", "approve", "audit"]
    assert {name: role.threshold for name, role in policy.roles.items()} == {
        "approve": 2,
        "audit": 1,
        "ci": 1,
    }


@pytest.mark.parametrize(
    "flags",
    [
        ["--policy", "odd=ci"],
        ["--policy", "low"],
        ["--policy", "low="],
        ["--policy", "low=CI"],
        ["--threshold", "ci=0"],
        ["--threshold", "ci=x"],
        ["--threshold", "nobody=1"],
    ],
)
def test_trust_init_with_bad_flags(desk: Desk, flags: list[str]) -> None:
    """A rule that cannot be meant is refused, and nothing is written."""
    assert desk.error("trust", "init", *flags)["code"] == "ZDP-001"
    assert not desk.trust_file.exists()


def test_trust_init_does_not_replace(desk: Desk) -> None:
    """A trust file that is there is never started anew."""
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    assert desk.error("trust", "init")["code"] == "ZDP-002"
    assert len(load_trust(desk.trust_file).keys) == 1


def test_trust_init_in_a_bad_place(desk: Desk) -> None:
    """A trust file which no agent would use is said to be so at once."""
    desk.trust_file.parent.mkdir()
    desk.trust_file.parent.chmod(0o777)
    error = desk.error("trust", "init", code=3)
    assert error["code"] == "ZDP-114"
    assert "no agent will use it" in error["state"]


def test_trust_add(desk: Desk) -> None:
    """Keys get a role until a day; adding again only moves the day; each change is counted."""
    desk.keys("ci", "alice", "bob")
    desk.run("trust", "init")
    words = ["trust", "add", "--role", "approve", "--key", "alice.pub", "--key", "bob.pub"]
    first = desk.json(*words, "--not-after", "1d")["policy"]
    assert first["version"] == 2
    assert len(first["roles"]["approve"]["keyids"]) == 2
    assert sorted(key["name"] for key in first["keys"].values()) == ["alice", "bob"]
    again = desk.json(*words, "--not-after", "2d")["policy"]
    assert again["roles"] == first["roles"]
    keyid = first["roles"]["approve"]["keyids"][0]
    longer = again["keys"][keyid]["not_after"] - first["keys"][keyid]["not_after"]
    assert 86400 <= longer < 86400 + 60
    named = desk.json("trust", "add", "--role", "ci", "--key", "ci.pub", "--name", "our CI")
    assert "our CI" in {key["name"] for key in named["policy"]["keys"].values()}


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--role", "nobody", "--key", "ci.pub"], "no role nobody"),
        (["--role", "ci", "--key", "ci.key"], "private key"),
        (["--role", "ci", "--key", "none.pub"], "none.pub"),
        (["--role", "ci", "--key", "ci.pub", "--key", "ci.pub", "--name", "x"], "one key"),
    ],
)
def test_trust_add_refused(desk: Desk, words: list[str], cause: str) -> None:
    """A role that is not there, a private key, a missing file: refused, nothing changed."""
    desk.keys("ci")
    desk.run("trust", "init")
    before = desk.trust_file.read_bytes()
    assert cause in desk.error("trust", "add", *words)["cause"]
    assert desk.trust_file.read_bytes() == before


def test_trust_needs_a_file(desk: Desk) -> None:
    """Without a trust file the next command is the one that makes it."""
    desk.keys("ci")
    for words in (["show"], ["add", "--role", "ci", "--key", "ci.pub"], ["revoke", "a" * 64]):
        error = desk.error("trust", *words, code=3)
        assert error["code"] == "ZDP-113"
        assert error["next"] == "zdpatch trust init"


def test_trust_show(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` prints classes, roles and keys; ZDPATCH_TRUST names another file."""
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    shown = desk.run("trust", "show")
    for word in ("normal", "1 of ci and 1 of approve", "until"):
        assert word in shown
    assert desk.json("trust", "show")["short_roles"] == ["approve"]
    monkeypatch.setenv("ZDPATCH_TRUST", str(desk.work / "other.json"))
    assert desk.error("trust", "show", code=3)["code"] == "ZDP-113"
    assert desk.json("trust", "show", "--file", str(desk.trust_file))["policy"]["version"] == 1


def test_revoke_a_bundle(desk: Desk, mint: Mint) -> None:
    """A bundle is revoked by its file or its digest; twice is once."""
    path = desk.bundle(mint)
    digest = bundle.parse_envelope(bundle.unpack(path.read_bytes()).envelope).digest
    desk.run("trust", "init")
    desk.run("trust", "revoke", str(path))
    assert load_trust(desk.trust_file).revoked == [digest]
    desk.run("trust", "revoke", digest)
    assert load_trust(desk.trust_file).version == 2


@pytest.mark.parametrize("how", ["file", "id", "start"])
def test_revoke_a_key(desk: Desk, mint: Mint, how: str) -> None:
    """A key is revoked by its file or its id; what it signed is refused; it never comes back."""
    keyid = str(desk.json("keygen", "ci.key", "--no-passphrase")["keyid"])
    desk.run("trust", "init", "--key", "ci.pub")
    what = {"file": "ci.pub", "id": keyid, "start": keyid[:8]}[how]
    desk.run("trust", "revoke", what)
    path = desk.bundle(mint)
    desk.run("sign", str(path), "--key", "ci.key")
    shown = desk.json("inspect", str(path))
    assert shown["enough"] is False
    assert shown["signatures"][0]["state"] == "revoked key"
    error = desk.error("trust", "add", "--role", "ci", "--key", "ci.pub")
    assert "was revoked" in error["cause"]


def test_revoke_below(desk: Desk) -> None:
    """The least sequence number of an application only rises."""
    desk.run("trust", "init")
    said = desk.run("trust", "revoke", "--below", "shop=42")
    assert "accepted before stays in, also after a restart" in said
    desk.run("trust", "revoke", "--below", "shop=7")
    assert load_trust(desk.trust_file).min_seq == {"shop": 42}


@pytest.mark.parametrize(
    "words",
    [[], ["FIX-1"], ["abcdef"], ["a" * 64, "--below", "shop=1"], ["--below", "shop"]],
)
def test_revoke_what(desk: Desk, words: list[str]) -> None:
    """What is to be revoked must be unmistakable."""
    desk.run("trust", "init")
    assert desk.error("trust", "revoke", *words)["code"] == "ZDP-001"


def test_two_changes_at_once_both_count(desk: Desk) -> None:
    """Changes made at the same time, from many sides, are all in the file at the end."""
    desk.run("trust", "init")
    begin = threading.Barrier(8)

    def revoke(number: int) -> None:
        def edit(policy: TrustPolicy) -> TrustPolicy:
            return msgspec.structs.replace(
                policy, revoked=sorted([*policy.revoked, f"{number:064x}"])
            )

        begin.wait()
        trustedit.change(desk.trust_file, edit)

    threads = [threading.Thread(target=revoke, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    policy = load_trust(desk.trust_file)
    assert policy.revoked == [f"{number:064x}" for number in range(8)]
    assert policy.version == 9


def test_failed_change_leaves_the_file(desk: Desk) -> None:
    """An edit to a policy which does not hold together leaves the old file, and no litter."""
    desk.run("trust", "init")
    before = desk.trust_file.read_bytes()
    with pytest.raises(OperatorError, match="does not exist"):
        trustedit.change(
            desk.trust_file,
            lambda policy: msgspec.structs.replace(policy, policy={"low": ["nobody"]}),
        )
    assert desk.trust_file.read_bytes() == before
    left = sorted(path.name for path in desk.trust_file.parent.iterdir())
    assert left == ["trust.json", "trust.json.lock"]


def test_unusable_lock(desk: Desk) -> None:
    """A file that cannot be locked is not changed."""
    desk.run("trust", "init")
    lock = desk.trust_file.with_name("trust.json.lock")
    lock.unlink()
    lock.mkdir()
    error = desk.error("trust", "revoke", "a" * 64)
    assert error["code"] == "ZDP-002"
    assert load_trust(desk.trust_file).version == 1


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"hello", "not a public key"),
        (
            b"-----BEGIN PUBLIC KEY-----\n"
            b"MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
            b"-----END PUBLIC KEY-----\n",
            "anybody could sign",
        ),
    ],
)
def test_what_is_no_public_key(desk: Desk, content: bytes, cause: str) -> None:
    """A file that is no key, or a key for which anybody can sign, is never trusted."""
    (desk.work / "odd.pub").write_bytes(content)
    error = desk.error("trust", "init", "--key", "odd.pub")
    assert error["code"] == "ZDP-006"
    assert cause in error["cause"]
    assert not desk.trust_file.exists()
