"""Trust changes hands in a chain only: the roots before a document sign it, and its own do.

A root document holds a whole policy, the next version after the one before. Threshold signatures of
both root roles are needed, so neither a stolen key nor who carries the documents can change whom an
agent trusts. Expiry plays no part along the chain: an expired end is healed by the next document.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from zdpatch.patcher import signing
from zdpatch.patcher.attached import Hex  # noqa: TC001 - msgspec reads it at run time
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.keyring import MAX_TRUST, TrustPolicy
from zdpatch.patcher.manifest import LAST_SECOND, MAX_SEQ, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLE: Final = "root"
PAYLOAD_TYPE: Final = "application/vnd.zdpatch.root+json"
MAX_STEPS: Final = 64
MAX_SIGNATURES: Final = 16


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By one key, in base64."""

    keyid: Hex
    sig: Annotated[str, Meta(max_length=128)]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One root document and its signatures; `payload` is canonical JSON of `Content`, in base64."""

    payload: Annotated[str, Meta(max_length=MAX_TRUST)]
    signatures: Annotated[list[Signature], Meta(max_length=MAX_SIGNATURES)]

    @property
    def raw(self) -> bytes:
        """The signed bytes. Raises OperatorError ZDP-117."""
        try:
            return base64.b64decode(self.payload, validate=True)
        except (ValueError, binascii.Error):
            raise broken("a root document is not base64") from None

    @property
    def digest(self) -> str:
        """What it is called, whoever signed it."""
        return hashlib.sha256(self.raw).hexdigest()


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed: a whole policy, and the second after which it lets nothing new in."""

    expires: Annotated[int, Meta(ge=0, le=LAST_SECOND)]
    trust: TrustPolicy


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trust file with roots. `revoked` and `min_seq` need no signature: they only refuse."""

    chain: Annotated[list[Document], Meta(min_length=1, max_length=MAX_STEPS)]
    revoked: list[Hex] = msgspec.field(default_factory=list[str])
    min_seq: dict[str, Annotated[int, Meta(ge=0, le=MAX_SEQ)]] = msgspec.field(
        default_factory=dict[str, int]
    )

    def dump(self) -> bytes:
        """The file's bytes."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Rooted:
    """A chain that holds: the policy at its end, and the digest of each version in it."""

    file: Chain
    policy: TrustPolicy
    expires: int
    digests: dict[int, str]

    @property
    def version(self) -> int:
        """Of the last document."""
        return max(self.digests)


def make(trust: TrustPolicy, expires: int) -> Document:
    """An unsigned document. Raises OperatorError ZDP-117 for a policy that no agent would take."""
    payload = canonical(msgspec.to_builtins(Content(expires, trust)))
    document = Document(base64.b64encode(payload).decode(), [])
    content_of(document)
    return document


def message(document: Document) -> bytes:
    """The bytes to sign: a signature for a bundle is none for a root document, nor the reverse."""
    return signing.pae(PAYLOAD_TYPE, document.raw)


def signed(document: Document, keyid: str, signature: bytes) -> Document:
    """The same document with one more signature; one by the same key is replaced."""
    others = [one for one in document.signatures if one.keyid != keyid]
    if len(others) >= MAX_SIGNATURES:
        raise broken(f"a root document has {MAX_SIGNATURES} signatures at most")
    mine = Signature(keyid, base64.b64encode(signature).decode())
    return Document(document.payload, sorted([*others, mine], key=lambda one: one.keyid))


def content_of(document: Document) -> Content:
    """What a document says, in its one spelling. Raises OperatorError ZDP-117."""
    raw = document.raw
    try:
        content = msgspec.json.decode(raw, type=Content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise broken(f"a root document is malformed: {error}"[:300]) from None
    if canonical(msgspec.to_builtins(content)) != raw:
        raise broken("a root document is not in canonical form")
    content.trust.check()
    if ROLE not in content.trust.roles or content.trust.usable(ROLE) < _needed(content.trust):
        raise broken(f"root document {content.trust.version} has too few keys of the role root")
    return content


def count(document: Document, trust: TrustPolicy) -> tuple[int, int]:
    """How many distinct root keys of `trust` signed the document, and how many must."""
    role, bytes_ = trust.roles[ROLE], message(document)
    keys: set[str] = set()
    for one in document.signatures:
        known = trust.keys.get(one.keyid)
        if known is None or one.keyid not in role.keyids or one.keyid in trust.revoked:
            continue
        if signing.verify_signature(known.public, bytes_, _bytes_of(one)):
            keys.add(known.public)  # by key bytes: two ids for one key are one
    return len(keys), role.threshold


def check_step(before: Content | None, document: Document) -> Content:
    """The content of the document that follows `before` (None: that begins a chain).

    Raises OperatorError ZDP-117 unless it is the very next version and both have signed it.
    """
    content = content_of(document)
    version = content.trust.version
    sides = [(content.trust, "its own roots")]
    if before is not None:
        if version != before.trust.version + 1:
            raise broken(f"root document {version} does not follow {before.trust.version}")
        sides.insert(0, (before.trust, f"the roots of version {before.trust.version}"))
    for trust, whose in sides:
        got, needed = count(document, trust)
        if got < needed:
            raise broken(f"root document {version} is signed by {got} of {needed} of {whose}")
    return content


def walk(documents: Sequence[Document]) -> tuple[Content, dict[int, str]]:
    """The end of a chain, each step checked, and its digests by version. Raises ZDP-117."""
    content: Content | None = None
    digests: dict[int, str] = {}
    for document in documents:
        content = check_step(content, document)
        digests[content.trust.version] = document.digest
    assert content is not None
    return content, digests


@functools.lru_cache(maxsize=4)  # it is read at each decision, and hardly ever changes
def load(raw: bytes) -> Rooted | None:
    """The chain in the bytes of a trust file; None when it is a plain policy.

    Raises OperatorError ZDP-117 (the chain does not hold), ZDP-114 (malformed).
    """
    try:
        parsed: Any = json.loads(raw, object_pairs_hook=_distinct)
        if not isinstance(parsed, dict) or "chain" not in parsed or len(raw) > MAX_TRUST:
            return None
        file = msgspec.convert(parsed, Chain)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise OperatorError("ZDP-114", f"the trust file is malformed: {error}"[:300]) from None
    content, digests = walk(file.chain)
    floors = {**content.trust.min_seq}
    for app, least in file.min_seq.items():
        floors[app] = max(least, floors.get(app, 0))
    revoked = sorted({*content.trust.revoked, *file.revoked})
    policy = msgspec.structs.replace(content.trust, revoked=revoked, min_seq=floors)
    return Rooted(file, policy, content.expires, digests)


def check_pinned(found: Rooted | None, version: int, digest: str) -> None:
    """Hold a trust file against the last root document that was accepted here.

    Raises OperatorError ZDP-117: it went back, was exchanged, or its chain begins after that one.
    """
    if found is None:
        raise broken(f"root document {version} was accepted here, and the file has no roots now")
    if found.version < version:
        raise broken(f"root document {version} was accepted here; the file ends at {found.version}")
    have = found.digests.get(version)
    if have != digest:
        what = "is another one in the file" if have else "is not in the chain of the file"
        raise broken(f"root document {version}, which was accepted here, {what}")


def broken(cause: str) -> OperatorError:
    """ZDP-117."""
    return OperatorError("ZDP-117", cause, next="zdpatch trust show")


def _needed(trust: TrustPolicy) -> int:
    return trust.roles[ROLE].threshold


def _bytes_of(signature: Signature) -> bytes:
    try:
        return base64.b64decode(signature.sig, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is written twice in one object")
    return found
