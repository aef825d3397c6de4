"""The only module that knows the algorithm: Ed25519 over the DSSE pre-authentication encoding.

A key is its 32 bytes, written as 64 lower-case hexadecimal digits; its id is the sha256 of those
bytes, always computed, never read. Private keys are the command line's business.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Final

SIGNATURE_BYTES: Final = 64
_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")
_PRIME: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME
# y of the points whose order divides 8. Under such a "key" a signature can be made by anybody.
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's encoding, which binds the type to the payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@functools.lru_cache(maxsize=1024)  # a trust file is read often, and its keys are checked each time
def keyid(public: str) -> str:
    """The id of a key, from its bytes. Raises ValueError when `public` is not a key."""
    check_public(public)
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()


def check_public(public: str) -> None:
    """Raise ValueError unless `public` is a point of the curve, spelt the one way, and not weak.

    Weak points accept signatures nobody made; a second spelling would let one key count twice.
    """
    if not _PUBLIC.fullmatch(public):
        raise ValueError("a public key is 64 lower-case hexadecimal digits")
    y = int.from_bytes(bytes.fromhex(public), "little") & ((1 << 255) - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        raise ValueError("this public key is weak: anybody could sign for it")
    # x squared = (y^2 - 1) / (d y^2 + 1) must have a root.
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _PRIME) % _PRIME
    if pow(square, (_PRIME - 1) // 2, _PRIME) != 1:
        raise ValueError("this public key is not a point of the curve")


def verify_signature(public: str, message: bytes, signature: bytes) -> bool:
    """Whether the holder of `public` signed exactly `message`; False for any bad signature."""
    # loaded by the first signature: most processes never see one
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
