"""A bundle has one spelling: it is refused unless packing its content again gives the same bytes.

The container is a zip of stored entries, written and read here byte by byte: nothing to inflate,
nothing to extract, no field that the content does not fix. `docs/protocol.md` has the layout.
Reading is bounded by `LIMITS` before anything is parsed, and says nothing about trust.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from zdpatch.patcher import manifest as manifests
from zdpatch.patcher import signing
from zdpatch.patcher.errors import AuthorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zdpatch.patcher.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Limits:
    """What a bundle may measure, checked before the work it would cause."""

    bundle: int = 8 << 20  # bytes of the whole file
    envelope: int = 1 << 20  # bytes of bundle.dsse.json
    blobs: int = 1024  # entries beside the envelope
    signatures: int = 16


LIMITS: Final = Limits()
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
ENVELOPE_NAME: Final = "bundle.dsse.json"
BLOB_PREFIX: Final = "blobs/sha256/"

_BLOB_NAME: Final = re.compile(r"blobs/sha256/([0-9a-f]{64})")
# Version 2.0, no flags, stored, 1980-01-01 00:00, a plain file rw-r--r-- made on Unix.
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_DOS_DATE: Final = 1 << 5 | 1
_MADE_BY: Final = 3 << 8 | 20
_NEEDS: Final = 20
_MODE: Final = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Container:
    """The parts of a bundle file: envelope JSON, and blobs by their claimed sha256."""

    envelope: bytes
    blobs: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope: the signed payload, and (key id, signature) pairs sorted by key id."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of the payload: the identity of the patch, whoever signed it."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def message(self) -> bytes:
        """The bytes to sign or to verify."""
        return signing.pae(PAYLOAD_TYPE, self.payload)


def _damaged(cause: str) -> AuthorError:
    return AuthorError("ZDP-102", cause, next="copy or build the bundle again")


def _too_large(cause: str) -> AuthorError:
    return AuthorError("ZDP-101", cause, next="zdpatch build --only PACKAGE, or deploy large files")


def pack(envelope: bytes, blobs: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle file. Raises AuthorError ZDP-101 beyond `LIMITS`."""
    if len(envelope) > LIMITS.envelope or len(blobs) > LIMITS.blobs:
        raise _too_large(f"{len(blobs)} blobs and {len(envelope)} bytes of envelope are too much")
    entries = [(ENVELOPE_NAME, envelope)]
    entries += [(BLOB_PREFIX + digest, blobs[digest]) for digest in sorted(blobs)]
    if sum(len(data) for _, data in entries) > LIMITS.bundle:
        raise _too_large(f"a bundle has at most {LIMITS.bundle} bytes")
    body: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, data in entries:
        local, central = _headers(name.encode("ascii"), data, offset)
        body += (local, data)
        directory.append(central)
        offset += len(local) + len(data)
    index = b"".join(directory)
    end = _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(index), offset, 0)
    raw = b"".join((*body, index, end))
    if len(raw) > LIMITS.bundle:
        raise _too_large(f"a bundle has at most {LIMITS.bundle} bytes")
    return raw


def _headers(name: bytes, data: bytes, offset: int) -> tuple[bytes, bytes]:
    """The two zip headers of one entry."""
    crc, size = zlib.crc32(data), len(data)
    local = _LOCAL.pack(
        b"PK\3\4", _NEEDS, 0, 0, 0, _DOS_DATE, crc, size, size, len(name), 0
    )  # fmt: skip
    central = _CENTRAL.pack(
        b"PK\1\2", _MADE_BY, _NEEDS, 0, 0, 0, _DOS_DATE, crc, size, size,
        len(name), 0, 0, 0, 0, _MODE, offset,
    )  # fmt: skip
    return local + name, central + name


def unpack(raw: bytes) -> Container:
    """Take a bundle file apart. Raises AuthorError ZDP-101 (too large) or ZDP-102 (damaged)."""
    if len(raw) > LIMITS.bundle:
        raise _too_large(f"the file has {len(raw)} bytes; a bundle has at most {LIMITS.bundle}")
    count, start = _end_record(raw)
    names: list[str] = []
    parts: list[bytes] = []
    position = 0
    for _ in range(count):
        name, data, position = _entry(raw, position, start)
        names.append(name)
        parts.append(data)
    if names[0] != ENVELOPE_NAME:
        raise _damaged(f"the first entry is not {ENVELOPE_NAME}")
    blobs: dict[str, bytes] = {}
    for name, data in zip(names[1:], parts[1:], strict=True):
        match = _BLOB_NAME.fullmatch(name)
        if match is None:
            raise _damaged(f"an entry is called {name[:80]!a}")
        blobs[match[1]] = data
    if pack(parts[0], blobs) != raw:
        raise _damaged("packed again, it gives other bytes: something was added or changed")
    return Container(parts[0], blobs)


def _end_record(raw: bytes) -> tuple[int, int]:
    """(number of entries, offset of the directory), from the last 22 bytes: before any walk."""
    if len(raw) < _END.size:
        raise _damaged(f"{len(raw)} bytes are too few for a bundle")
    magic, _, _, _, count, size, start, _ = _END.unpack_from(raw, len(raw) - _END.size)
    if magic != b"PK\5\6":
        raise _damaged("the file does not end like a bundle: it is cut short, or something else")
    if not 1 <= count <= LIMITS.blobs + 1 or start + size != len(raw) - _END.size:
        raise _damaged("the end record does not fit the file")
    return count, start


def _entry(raw: bytes, position: int, end: int) -> tuple[str, bytes, int]:
    """(name, data, next position) of the entry at `position`; entries fill the file to `end`."""
    body = position + _LOCAL.size
    if body > end:
        raise _damaged("an entry reaches into the directory")
    *_, size, name_length, _extra = _LOCAL.unpack_from(raw, position)
    first, last = body + name_length, body + name_length + size
    if last > end:
        raise _damaged("an entry reaches into the directory")
    return raw[body:first].decode("latin-1"), raw[first:last], last


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    sig: Annotated[str, Meta(max_length=1024)]


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: Annotated[list[_Signature], Meta(max_length=LIMITS.signatures)]


_DECODER: Final = msgspec.json.Decoder(_Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope's one spelling."""
    return manifests.canonical(
        {
            "payload": base64.b64encode(envelope.payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}
                for keyid, signature in sorted(envelope.signatures)
            ],
        }
    )


def parse_envelope(raw: bytes) -> Envelope:
    """Raises AuthorError ZDP-101 (too large) or ZDP-104 (not an envelope in canonical form)."""
    if len(raw) > LIMITS.envelope:
        raise _too_large(f"the envelope has {len(raw)} bytes, at most {LIMITS.envelope} are read")
    try:
        parsed = _DECODER.decode(raw)
        payload = base64.b64decode(parsed.payload, validate=True)
        signatures = tuple(
            (one.keyid, base64.b64decode(one.sig, validate=True)) for one in parsed.signatures
        )
    except (msgspec.MsgspecError, ValueError, RecursionError, binascii.Error) as error:
        raise AuthorError("ZDP-104", f"the envelope is malformed: {error}"[:300]) from None
    if parsed.payload_type != PAYLOAD_TYPE:
        raise AuthorError(
            "ZDP-104", f"the envelope carries {parsed.payload_type[:80]!a}, not a statement"
        )
    envelope = Envelope(payload, signatures)
    keyids = [keyid for keyid, _ in signatures]
    if len(set(keyids)) != len(keyids):
        raise AuthorError("ZDP-104", "the envelope holds two signatures under one key id")
    if encode_envelope(envelope) != raw:
        raise AuthorError("ZDP-104", "the envelope is not in canonical form")
    return envelope


def build_statement(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The payload to sign: `manifest` with lists sorted and blob sizes taken from `files`.

    `files` maps sha256 to bytes. Raises AuthorError ZDP-105 or ZDP-106 for what no agent accepts.
    """
    complete = msgspec.structs.replace(
        manifest,
        modules=sorted(manifest.modules, key=lambda entry: entry.name),
        blobs={digest: manifests.Blob(size=len(data)) for digest, data in files.items()},
        **{
            name: sorted(set(getattr(manifest, name)))
            for name in ("python", "requires", "conflicts", "supersedes", "fixes")
        },
    )
    payload = manifests.encode(complete)
    check_blobs(manifests.decode(payload), files)
    return payload


def assemble(
    manifest: Manifest, files: Mapping[str, bytes], signatures: Sequence[tuple[str, bytes]] = ()
) -> bytes:
    """A whole bundle file, unsigned unless (key id, signature) pairs are given. Raises as above."""
    payload = build_statement(manifest, files)
    return pack(encode_envelope(Envelope(payload, tuple(signatures))), files)


def add_signature(raw: bytes, keyid: str, signature: bytes) -> bytes:
    """The same bundle with one more signature; others are kept, one by the same key replaced."""
    container = unpack(raw)
    envelope = parse_envelope(container.envelope)
    kept = tuple(pair for pair in envelope.signatures if pair[0] != keyid)
    if len(kept) >= LIMITS.signatures:
        raise AuthorError("ZDP-101", f"the bundle already has {len(kept)} signatures")
    signed = Envelope(envelope.payload, (*kept, (keyid, signature)))
    return pack(encode_envelope(signed), container.blobs)


def check_blobs(manifest: Manifest, blobs: Mapping[str, bytes]) -> None:
    """Blobs are exactly those that were signed: set, sizes, digests. Raises AuthorError ZDP-106."""
    odd = set(manifest.blobs) ^ set(blobs)
    if odd:
        first = min(odd)
        what = "is missing" if first in manifest.blobs else "was not signed for"
        raise AuthorError("ZDP-106", f"blob {first[:12]} {what} ({len(odd)} differ in all)")
    for digest, data in blobs.items():
        if len(data) != manifest.blobs[digest].size:
            raise AuthorError("ZDP-106", f"blob {digest[:12]} has another size than was signed")
        if hashlib.sha256(data).hexdigest() != digest:
            raise AuthorError("ZDP-106", f"blob {digest[:12]} has other content than was signed")


def read_unverified(raw: bytes) -> tuple[Manifest, Container]:
    """Everything a bundle claims, not to be believed: to show, check offline, or sign it."""
    container = unpack(raw)
    manifest = manifests.decode(parse_envelope(container.envelope).payload)
    check_blobs(manifest, container.blobs)
    return manifest, container
