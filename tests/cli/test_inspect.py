"""inspect shows what a bundle claims, and which part of it somebody vouches for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher.manifest import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Desk, Mint


def test_inspect(desk: Desk, mint: Mint) -> None:
    """Claims, modules with sizes and states, and what each signature is worth are shown."""
    desk.keys("ci", "stranger")
    desk.run("trust", "init", "--key", "ci.pub")
    path = desk.bundle(mint, fixes=["CVE-2025-27516"], notes="prices")
    desk.run("sign", str(path), "--key", "ci.key", "--key", "stranger.key")
    shown = desk.json("inspect", str(path))
    assert (shown["id"], shown["seq"], shown["enough"]) == ("FIX-1", 7, True)
    assert [module["state"] for module in shown["modules"]] == ["follows", "changed"]
    assert shown["modules"][1]["new_bytes"] == 8
    assert sorted(one["state"] for one in shown["signatures"]) == ["unknown key", "valid"]
    assert shown["manifest"]["fixes"] == ["CVE-2025-27516"]
    text = desk.run("inspect", str(path))
    for word in ("FIX-1", shown["digest"], "CVE-2025-27516", "prices", "shop.cart", "enough here"):
        assert word in text


def test_inspect_without_trust_file(desk: Desk, mint: Mint) -> None:
    """Without a trust file the claims are shown, and no signature is called good."""
    path = desk.bundle(mint)
    desk.keys("ci")
    desk.run("sign", str(path), "--key", "ci.key")
    shown = desk.json("inspect", str(path))
    assert shown["enough"] is None
    assert shown["signatures"][0]["state"] == "not judged"
    assert "not judged" in desk.run("inspect", str(path))


def spoil_expired(now: int) -> dict[str, object]:
    return {"created": now - 10, "not_after": now - 5}


def spoil_class(now: int) -> dict[str, object]:
    return {"safety": "high", "created": now}


def spoil_demand(now: int) -> dict[str, object]:
    return {"replace_all": True, "created": now}


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(spoil_expired, "expired"), (spoil_class, "not enough"), (spoil_demand, "replace_all")],
)
def test_inspect_says_what_is_wrong(
    desk: Desk, mint: Mint, spoil: Callable[[int], dict[str, object]], word: str
) -> None:
    """A bundle that would be refused is shown with the reason that can be seen from here."""
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    path = desk.bundle(mint, **spoil(int(time.time())))
    desk.run("sign", str(path), "--key", "ci.key")
    assert word in desk.run("inspect", str(path))


def test_inspect_of_a_revoked_bundle(desk: Desk, mint: Mint) -> None:
    """A revoked bundle is shown as revoked, though it is rightly signed."""
    desk.keys("ci")
    desk.run("trust", "init", "--key", "ci.pub")
    path = desk.bundle(mint)
    desk.run("sign", str(path), "--key", "ci.key")
    desk.run("trust", "revoke", str(path))
    assert "revoked" in desk.json("inspect", str(path))["why"]


def test_inspect_of_a_damaged_bundle(desk: Desk, mint: Mint) -> None:
    """A bundle with a changed byte is refused, not shown."""
    path = desk.bundle(mint)
    path.write_bytes(path.read_bytes().replace(b"VAT = 2", b"VAT = 3"))
    assert desk.error("inspect", str(path), code=3)["code"] == "ZDP-102"


def test_inspect_of_a_class_without_rule(desk: Desk, mint: Mint) -> None:
    """A class that the trust file does not know is shown as not enough; targets are shown whole."""
    desk.trust_file.parent.mkdir(mode=0o700)
    desk.trust_file.write_bytes(mint.policy().dump())
    target = Target(app="shop", release="1.4", labels={"zone": "a"})
    path = desk.bundle(mint, safety="stateful", target=target, platform="linux-x86_64")
    shown = desk.run("inspect", str(path))
    assert "no rule for class stateful" in shown
    for word in ("release 1.4", "zone=a", "linux-x86_64"):
        assert word in shown
