"""A key in a KMS, a vault or a hardware token signs where it is, through securesystemslib.

That library is loaded only here, and what a key service returns counts only as a signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zdpatch.patcher import signing
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """The private half of `public`, at the URI `name`."""

    name: str
    public: str
    signer: Any  # of securesystemslib, whose module names none of its classes as its own

    @property
    def keyid(self) -> str:
        """The id of the key."""
        return signing.keyid(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`. Raises OperatorError ZDP-006."""
        try:
            return bytes.fromhex(self.signer.sign(message).signature)
        except Exception as error:
            raise _unusable(self.name, error) from error


def schemes() -> list[str]:
    """What a URI may begin with."""
    return sorted(_library().SIGNER_FOR_URI_SCHEME)


def find(uri: str, public: str, secret: Callable[[str], str]) -> RemoteKey:
    """The key at `uri` with the public half `public`; `secret` is asked for PINs and passphrases.

    Raises OperatorError ZDP-006 when a library is missing or the service does not have it.
    """
    library = _library()
    key = library.SSlibKey(signing.keyid(public), "ed25519", "ed25519", {"public": public})
    try:
        return RemoteKey(uri, public, library.Signer.from_priv_key_uri(uri, key, secret))
    except Exception as error:
        raise _unusable(uri, error) from error


def _library() -> Any:  # noqa: ANN401 - a module
    return import_module("securesystemslib.signer")


def _unusable(uri: str, error: Exception) -> OperatorError:
    """Each service has exceptions of its own; its words are all there is to show."""
    words = " ".join(str(part) for part in error.args) or type(error).__name__
    missing = type(error).__name__ == "UnsupportedLibraryError"
    mend = "pip install 'securesystemslib[all extras that the text names]'" if missing else ""
    return OperatorError(
        "ZDP-006",
        f"{uri}: {type(error).__name__}: {words}"[:500],
        next=mend or "zdpatch sign --help",
    )
