"""Whatever bytes arrive, a reader gives a value that packs to them again, or refuses with an id."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zdpatch.patcher import bundle, manifest
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.keyring import TrustPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Mint

# One edit of a byte string: cut some out and put new ones there. Places are shares of the length.
EDIT = st.tuples(
    st.floats(0, 1), st.integers(0, 64), st.binary(max_size=64) | st.sampled_from([b"PK\5\6", b"{"])
)


def edited(raw: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """`raw` after the edits."""
    for share, length, new in edits:
        start = int(share * len(raw))
        raw = raw[:start] + new + raw[start + length :]
    return raw


def refused(call: Callable[[], object]) -> bool:
    """Whether `call` refuses; any exception but our own is a failure of the test."""
    with contextlib.suppress(ZdpatchError):
        call()
        return False
    return True


@given(st.binary(max_size=2000))
@example(b"PK\5\6" + b"\0" * 18)
@example(b"\0" * 30 + b"PK\5\6\0\0\0\0\1\0\1\0\0\0\0\0\x1e\0\0\0\0\0")
def test_random_bytes_as_a_container(raw: bytes) -> None:
    """Random bytes are never a container, and never a crash."""
    assert refused(lambda: bundle.unpack(raw))


@given(st.binary(max_size=2000))
def test_random_bytes_as_the_rest(raw: bytes) -> None:
    """Random bytes are no envelope, no statement, no trust file."""
    assert refused(lambda: bundle.parse_envelope(raw))
    assert refused(lambda: manifest.decode(raw))
    assert refused(lambda: TrustPolicy.load(raw))


@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutated_container(mint: Mint, edits: list[tuple[float, int, bytes]]) -> None:
    """A container that was edited anywhere is refused, or is the one it was."""
    raw = mint.bundle("ci")
    changed = edited(raw, edits)
    assert changed == raw or refused(lambda: mint.verify(changed))


@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutated_statement_under_a_good_signature(
    mint: Mint, edits: list[tuple[float, int, bytes]]
) -> None:
    """A signer's own malformed statement is refused, or has one meaning and one spelling."""
    container = bundle.unpack(mint.bundle())
    payload = edited(bundle.parse_envelope(container.envelope).payload, edits)
    with contextlib.suppress(ZdpatchError):
        assert manifest.encode(manifest.decode(payload)) == payload
    with contextlib.suppress(ZdpatchError):
        found = mint.verify(mint.sealed(payload, container.blobs, "ci"))
        assert manifest.encode(found.manifest) == payload


@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutated_envelope(mint: Mint, edits: list[tuple[float, int, bytes]]) -> None:
    """An edited envelope is refused, or has one spelling."""
    raw = edited(bundle.unpack(mint.bundle("ci", "alice")).envelope, edits)
    with contextlib.suppress(ZdpatchError):
        assert bundle.encode_envelope(bundle.parse_envelope(raw)) == raw


@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutated_trust_file(mint: Mint, edits: list[tuple[float, int, bytes]]) -> None:
    """An edited trust file is refused, or is a policy that writes and reads as itself."""
    with contextlib.suppress(ZdpatchError):
        policy = TrustPolicy.load(edited(mint.policy().dump(), edits))
        assert TrustPolicy.load(policy.dump()) == policy


@given(
    envelope=st.binary(max_size=300),
    blobs=st.dictionaries(st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.binary(), max_size=5),
)
def test_any_content_round_trips(envelope: bytes, blobs: dict[str, bytes]) -> None:
    """The container carries any bytes, and gives them back."""
    container = bundle.unpack(bundle.pack(envelope, blobs))
    assert (container.envelope, container.blobs) == (envelope, blobs)


@given(st.binary(max_size=200))
@settings(max_examples=20)
def test_any_payload_round_trips_through_an_envelope(payload: bytes) -> None:
    """The envelope carries any payload, and its digest is of that payload alone."""
    signed = bundle.Envelope(payload, (("a" * 64, b"s"),))
    assert bundle.parse_envelope(bundle.encode_envelope(signed)) == signed
    assert signed.digest == bundle.Envelope(payload).digest
