"""An agent goes along the chain of roots, and never back."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.patcher.test_roots import NEW, OLD, first, made, signed
from zdpatch.agent import answers
from zdpatch.agent.protocol import History, Status
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.roots import Chain, Document

if TYPE_CHECKING:
    from tests.agent.conftest import Desk


def write(desk: Desk, *documents: Document) -> None:
    """Put a chain into the trust file."""
    path = desk.home / "trust.json"
    path.write_bytes(Chain(list(documents)).dump())
    path.chmod(0o600)


def refused(desk: Desk, raw: bytes) -> str:
    """The id with which a bundle is refused."""
    with pytest.raises(ZdpatchError) as caught:
        desk.stage(raw)
    return caught.value.code


def test_goes_on_and_never_back(desk: Desk) -> None:
    """From a plain file to roots, to the next roots; not to the ones before, nor without."""
    mint, plain = desk.mint, (desk.home / "trust.json").read_bytes()
    one = first(mint)
    two = signed(mint, made(mint, 6, NEW), "bob", "carl")
    write(desk, one)
    desk.push(desk.fix(), confirm=True)
    write(desk, one, two)
    raw = desk.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=9)
    desk.stage(raw)
    write(desk, one)
    assert refused(desk, raw) == "ZDP-117"
    forked = signed(mint, made(mint, 6, OLD), "anna", "bob")
    write(desk, one, forked)
    assert refused(desk, raw) == "ZDP-117"
    (desk.home / "trust.json").write_bytes(plain)
    assert refused(desk, raw) == "ZDP-117"
    assert "accepted here" in answers.status(desk.here, Status()).warnings[0]
    write(desk, one, two)
    assert desk.push(raw)
    with desk.here.journal.read() as ledger:
        rows = ledger.history(History(audit=True)).rows
    assert [row["detail"] for row in rows if row["verb"] == "trust"] == [
        "root document 6",
        "root document 5",
    ]


def test_another_process_remembers(desk: Desk) -> None:
    """What one process accepted binds all of the application, also after a restart."""
    one = first(desk.mint)
    two = signed(desk.mint, made(desk.mint, 6, NEW), "bob", "carl")
    write(desk, one, two)
    desk.push(desk.fix(), confirm=True)
    write(desk, one)
    after = desk.restart()
    assert after.vat == b"VAT = 1\n"
    assert "ZDP-117" in " ".join(after.here.notices)


def test_roots_that_ended(desk: Desk) -> None:
    """What runs stays, also over a restart; nothing new comes in; the next document heals it."""
    mint = desk.mint
    one = first(mint)
    write(desk, one)
    desk.push(desk.fix(), confirm=True)
    assert "roots of trust end" in answers.status(desk.here, Status()).warnings[0]
    desk.clock.tick(1000)
    after = desk.restart()
    assert after.vat == b"VAT = 2\n"
    raw = after.fix(b"VAT = 3\n", base=b"VAT = 2\n", id="TWO", seq=9)
    assert refused(after, raw) == "ZDP-118"
    two = made(mint, 6, NEW)
    content = two.raw.replace(b'"expires":1700000999', b'"expires":1800000000')
    assert content != two.raw
    later = Document(base64.b64encode(content).decode(), [])
    write(after, one, signed(mint, later, "bob", "carl"))
    assert after.stage(raw)
