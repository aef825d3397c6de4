"""The container has one spelling, and everything else is refused before it costs anything."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher import bundle
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from tests.conftest import Mint

GOLDEN = "0ec8bc8138c85bd3100014764818ddd2b7d2c5803d3f6851b990b5e4ef40a69b"


def refusal(raw: bytes) -> str:
    """The id with which `unpack` refuses."""
    with pytest.raises(ZdpatchError) as caught:
        bundle.unpack(raw)
    return caught.value.code


def test_same_inputs_same_bytes(mint: Mint) -> None:
    """The bytes, signatures included, depend on the inputs alone: not on Python or the day."""
    raw = mint.bundle("ci", "alice")
    assert hashlib.sha256(raw).hexdigest() == GOLDEN


def test_pack_of_unpack_is_the_same(mint: Mint) -> None:
    """Taking a bundle apart and packing it again gives the same bytes."""
    raw = mint.bundle("ci")
    container = bundle.unpack(raw)
    assert bundle.pack(container.envelope, container.blobs) == raw


def test_any_zip_tool_reads_it(mint: Mint) -> None:
    """The container is a plain zip for everybody else: stored entries with right checksums."""
    with zipfile.ZipFile(io.BytesIO(mint.bundle("ci"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == bundle.ENVELOPE_NAME
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert archive.infolist()[0].external_attr >> 16 == 0o100644


def test_order_of_blobs_does_not_matter(mint: Mint) -> None:
    """Blobs are sorted, whatever order they were collected in."""
    container = bundle.unpack(mint.bundle())
    backwards = dict(reversed(container.blobs.items()))
    assert bundle.pack(container.envelope, backwards) == mint.bundle()


def test_endless_data() -> None:
    """A file beyond the cap is refused by its size alone."""
    assert refusal(bytes(bundle.LIMITS.bundle + 1)) == "ZDP-101"


def test_many_empty_entries_cost_nothing() -> None:
    """An archive with 20,000 entries is refused from its end record, before any entry is read."""
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 20_000, 20_000, 0, 1000, 0)
    assert refusal(bytes(1000) + end) == "ZDP-102"


@pytest.mark.parametrize("size", [0, 1, 21, 22, 30])
def test_too_short(size: int) -> None:
    """A handful of bytes is refused as damaged, whatever its length."""
    assert refusal(bytes(size)) == "ZDP-102"


def test_polyglot_prefix(mint: Mint) -> None:
    """Bytes before the first entry (a script, say) are refused, though zip tools skip them."""
    assert refusal(b"#!/bin/sh\n" + mint.bundle("ci")) == "ZDP-102"


def test_trailing_bytes(mint: Mint) -> None:
    """Bytes after the end record are refused."""
    assert refusal(mint.bundle("ci") + b"\0") == "ZDP-102"


def rezipped(mint: Mint, names: dict[str, bytes], *, compression: int = 0) -> bytes:
    """A zip made by the standard library: the bundle's envelope first, then `names`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(bundle.ENVELOPE_NAME, bundle.unpack(mint.bundle("ci")).envelope)
        for name, data in names.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "blobs/sha256/../../x",
        "blobs/sha256/" + "A" * 64,
        "blobs/sha256/" + "a" * 63,
        "blobs\\sha256\\" + "a" * 64,
    ],
)
def test_path_traversal(mint: Mint, name: str) -> None:
    """Only blob names, in their one spelling, are entries; no name ever reaches a file system."""
    envelope = bundle.unpack(mint.bundle("ci")).envelope
    assert refusal(rezipped(mint, {name: b"x"})) == "ZDP-102"
    blobs = {name.removeprefix(bundle.BLOB_PREFIX): b"x"}
    assert refusal(bundle.pack(envelope, blobs)) == "ZDP-102"


def test_zip_bomb(mint: Mint) -> None:
    """A compressed entry is refused: nothing is ever inflated."""
    name = bundle.BLOB_PREFIX + "a" * 64
    bomb = rezipped(mint, {name: bytes(1 << 22)}, compression=zipfile.ZIP_DEFLATED)
    assert refusal(bomb) == "ZDP-102"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_entry(mint: Mint) -> None:
    """Two entries of one name are refused: two readers could choose differently."""
    out = io.BytesIO(rezipped(mint, {}))
    name = bundle.BLOB_PREFIX + "a" * 64
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(name, b"one")
        archive.writestr(name, b"two")
    assert refusal(out.getvalue()) == "ZDP-102"


def test_envelope_must_come_first(mint: Mint) -> None:
    """A container that starts with a blob is refused."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(bundle.BLOB_PREFIX + "a" * 64, b"x")
        archive.writestr(bundle.ENVELOPE_NAME, bundle.unpack(mint.bundle("ci")).envelope)
    assert refusal(out.getvalue()) == "ZDP-102"


def test_pack_has_the_same_caps() -> None:
    """What nobody would read is not written either."""
    for envelope, blobs in (
        (bytes(bundle.LIMITS.envelope + 1), {}),
        (b"{}", {f"{n:064x}": b"" for n in range(bundle.LIMITS.blobs + 1)}),
        (b"{}", {"a" * 64: bytes(bundle.LIMITS.bundle)}),
        (b"{}", {"a" * 64: bytes(bundle.LIMITS.bundle - 100)}),
    ):
        with pytest.raises(ZdpatchError) as caught:
            bundle.pack(envelope, blobs)
        assert caught.value.code == "ZDP-101"


def envelope_refusal(raw: bytes) -> str:
    """The id with which `parse_envelope` refuses."""
    with pytest.raises(ZdpatchError) as caught:
        bundle.parse_envelope(raw)
    return caught.value.code


@pytest.mark.parametrize(
    "change",
    [
        (b'"payload":', b'"payload": '),  # a space
        (b'"payloadType"', b'"payloadtype"'),
        (b"vnd.in-toto+json", b"vnd.zdpatch.root+json"),  # type confusion
        (b'{"payload"', b'{"extra":1,"payload"'),
        (b'{"payload"', b'{"payload":"","payload"'),  # duplicate key
        (b'"sig":"', b'"sig":"*'),
        (b'"keyid":"', b'"keyid":"Z'),
        (b"}]}", b"}]} "),
        (b"}]}", b"}]"),
        (b"}]}", b"},1]}"),
    ],
)
def test_envelope_in_another_form(mint: Mint, change: tuple[bytes, bytes]) -> None:
    """An envelope with other fields, another type or another spelling is refused."""
    envelope = bundle.unpack(mint.bundle("ci")).envelope
    changed = envelope.replace(*change)
    assert changed != envelope
    assert envelope_refusal(changed) == "ZDP-104"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"NaN",
        b"{}",
        b"[" * 100_000,
        b'{"signatures":' + b"[" * 100_000,
        b'{"payload":"\xff","payloadType":"","signatures":[]}',
        b'{"payload":1e400,"payloadType":"","signatures":[]}',
    ],
)
def test_envelope_is_not_json(raw: bytes) -> None:
    """Bytes that are no envelope at all are refused without exhausting anything."""
    assert envelope_refusal(raw) == "ZDP-104"


def test_envelope_size() -> None:
    """A large envelope is refused before it is parsed."""
    assert envelope_refusal(b"[" * (bundle.LIMITS.envelope + 1)) == "ZDP-101"


def test_too_many_signatures() -> None:
    """More signatures than the cap are refused before any is verified."""
    pairs = tuple((f"{n:064x}", bytes(64)) for n in range(bundle.LIMITS.signatures + 1))
    assert envelope_refusal(bundle.encode_envelope(bundle.Envelope(b"{}", pairs))) == "ZDP-104"


def test_two_signatures_of_one_key_id() -> None:
    """One key id signs once."""
    pairs = (("a" * 64, b"1"), ("a" * 64, b"2"))
    assert envelope_refusal(bundle.encode_envelope(bundle.Envelope(b"{}", pairs))) == "ZDP-104"


def test_add_signature_keeps_the_others(mint: Mint) -> None:
    """Signatures gather in any order, to the same bytes; signing twice changes nothing."""
    one = mint.signed(mint.bundle("ci"), "alice")
    assert one == mint.signed(mint.bundle("alice"), "ci") == mint.signed(one, "ci", "alice")


def test_add_signature_beyond_the_cap(mint: Mint) -> None:
    """A bundle takes no more signatures than its readers accept."""
    full = mint.bundle(*(f"signer {n}" for n in range(bundle.LIMITS.signatures)))
    with pytest.raises(ZdpatchError) as caught:
        mint.signed(full, "one more")
    assert caught.value.code == "ZDP-101"


def test_unsigned_bundle_can_be_read(mint: Mint) -> None:
    """A bundle without signatures can be shown and signed."""
    manifest, container = bundle.read_unverified(mint.bundle())
    assert manifest.id == "FIX-1"
    assert bundle.parse_envelope(container.envelope).signatures == ()


@pytest.mark.parametrize("fault", ["missing", "extra", "content", "size"])
def test_blobs_differ_from_the_manifest(mint: Mint, fault: str) -> None:
    """A missing, added or changed blob is refused, under any signature."""
    container = bundle.unpack(mint.bundle("ci"))
    blobs = dict(container.blobs)
    digest = hashlib.sha256(b"VAT = 2\n").hexdigest()
    if fault == "missing":
        del blobs[digest]
    elif fault == "extra":
        blobs["a" * 64] = b"x"
    else:
        blobs[digest] = b"VAT = 3\n" if fault == "content" else b"VAT = 333\n"
    raw = bundle.pack(container.envelope, blobs)
    for read in (bundle.read_unverified, mint.verify):
        with pytest.raises(ZdpatchError) as caught:
            read(raw)
        assert caught.value.code == "ZDP-106"
