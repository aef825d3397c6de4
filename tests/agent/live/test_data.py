"""Data files that a patch serves, in a real process: damage is told, and mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.agent.live.conftest import DAY
from zdpatch.agent.protocol import Apply, Plan, Stage, Status
from zdpatch.patcher import bundle
from zdpatch.patcher.manifest import describe
from zdpatch.patcher.source import DataChange, ModuleChange

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.live.conftest import Child, Operator, Site

CART = b"""from pathlib import Path
HERE = Path(__file__).parent
def vat():
    return int((HERE / "vat.txt").read_text())
"""


def bring_in(site: Site, operator: Operator) -> None:
    """Let the data file of the shop be 2."""
    changes = tuple(
        ModuleChange(name, path, name == "shop", text, text)
        for name, path, text in (
            ("shop", "shop/__init__.py", b""),
            ("shop.cart", "shop/cart.py", CART),
        )
    )
    data = (DataChange("shop/vat.txt", b"1", b"2"),)
    entries, others, blobs = describe(changes, data)
    now = int(time.time())
    claim = site.mint.manifest(
        changes, modules=entries, data=others, created=now - 60, not_after=now + DAY
    )
    raw = site.mint.signed(bundle.assemble(claim, blobs), "ci")
    digest = bundle.parse_envelope(bundle.unpack(raw).envelope).digest
    for header, blob in ((Stage(digest), raw), (Plan(digest), None), (Apply(digest), None)):
        answer = operator.ask(header, blob)
        assert answer.code == "ok", answer.cause


def serving(site: Site, follow_s: float) -> tuple[Child, Operator]:
    """A shop with the patch in, that looks after its files every so many seconds."""
    (site.tree / "shop/cart.py").write_bytes(CART)
    (site.tree / "shop/vat.txt").write_bytes(b"1")
    child = site.start(follow_s=follow_s)
    operator = site.operator(child)
    bring_in(site, operator)
    return child, operator


def damage(site: Site) -> Path:
    """Somebody writes to the file that is served."""
    (file,) = site.home.glob("apps/shop/files/*/shop/vat.txt")
    file.write_bytes(b"3")
    return file


def test_damage_is_told(site: Site) -> None:
    """By each answer about what is here, before anything could be done about it."""
    child, operator = serving(site, follow_s=1000)
    assert child.tell("cart.vat()") == 2
    assert operator.ask(Status()).result["patches"][0]["damaged"] == []
    damage(site)
    assert operator.ask(Status()).result["patches"][0]["damaged"] == ["shop/vat.txt"]


def test_damage_is_mended(site: Site) -> None:
    """Without being asked, and it is said."""
    child, operator = serving(site, follow_s=0.05)
    file = damage(site)
    site.eventually(lambda: file.read_bytes() == b"2")
    assert child.tell("cart.vat()") == 2
    said = operator.ask(Status()).result
    assert said["patches"][0]["damaged"] == []
    assert "FIX-1: somebody has changed or removed shop/vat.txt" in said["warnings"][0]
