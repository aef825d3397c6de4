"""A key that ssh-agent holds signs there: neither its private half nor its passphrase comes here.

The protocol is that of draft-ietf-sshm-ssh-agent: a length, a type, fields with a length each.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from zdpatch.patcher import signing
from zdpatch.patcher.errors import OperatorError

SCHEME: Final = "ssh-agent"
_LIST: Final = b"\x0b"
_LISTED: Final = 12
_SIGN: Final = b"\x0d"
_SIGNED: Final = 14
_KIND: Final = b"ssh-ed25519"
_MAX_ANSWER: Final = 256 * 1024
_WAIT_S: Final = 60.0  # somebody may have to confirm the use of the key


@dataclass(frozen=True, slots=True)
class AgentKey:
    """One Ed25519 key in the agent at `socket`; `name` is how it was asked for."""

    name: str
    comment: str
    blob: bytes
    public: str
    socket: str

    @property
    def keyid(self) -> str:
        """The id of the key."""
        return signing.keyid(self.public)

    @property
    def fingerprint(self) -> str:
        """As `ssh-add -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`. Raises OperatorError ZDP-006 when the agent makes none."""
        request = _SIGN + _field(self.blob) + _field(message) + struct.pack(">I", 0)
        answer = _ask(self.socket, request)
        if answer[0] != _SIGNED:
            raise _unusable(
                f"ssh-agent did not sign with {self.comment}: it is locked, or somebody said no",
                "ssh-add -l",
            )
        fields = _Fields(answer[1:])
        inner = _Fields(fields.take())
        kind, signature = inner.take(), inner.take()
        if kind != _KIND:
            raise _unusable(f"ssh-agent signed as {kind!r}, not {_KIND.decode()}", "ssh-add -l")
        return signature


def find(text: str) -> AgentKey:
    """The key that `ssh-agent:` (the only one), or `ssh-agent:WHICH` names.

    WHICH is a comment, a fingerprint or a key id, or the beginning of one of the last two. Raises
    OperatorError ZDP-006, naming the keys that are there.
    """
    wish = text.partition(":")[2]
    place = os.environ.get("SSH_AUTH_SOCK")
    if not place:
        raise _unusable("no ssh-agent is here: SSH_AUTH_SOCK is not set", "eval $(ssh-agent)")
    keys, others = _keys(place, text)
    found = [key for key in keys if _is(key, wish)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{key.comment} ({key.fingerprint[:15]})" for key in keys) or "none"
    if others:
        there += f"; {others} of other kinds, which cannot sign bundles"
    which = f"{len(found)} keys" if found else "no Ed25519 key"
    raise _unusable(f"{which} in ssh-agent for {text!r}; there: {there}", "ssh-add -l")


def _is(key: AgentKey, wish: str) -> bool:
    if not wish or wish == key.comment:
        return True
    return len(wish) >= 8 and (key.fingerprint.startswith(wish) or key.keyid.startswith(wish))


def _keys(place: str, name: str) -> tuple[list[AgentKey], int]:
    """The Ed25519 keys, and how many others there are."""
    answer = _ask(place, _LIST)
    if answer[0] != _LISTED or len(answer) < 5:
        raise _unusable("ssh-agent does not list its keys", "ssh-add -l")
    (number,) = struct.unpack(">I", answer[1:5])
    fields = _Fields(answer[5:])
    found: list[AgentKey] = []
    for _ in range(number):
        blob, comment = fields.take(), fields.take().decode("utf-8", "replace")
        parts = _Fields(blob)
        if parts.take() == _KIND:
            public = parts.take().hex()
            signing.check_public(public)
            found.append(AgentKey(name, comment, blob, public, place))
    return found, number - len(found)


class _Fields:
    """Byte strings one after the other, each after its length."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self) -> bytes:
        """The next one. Raises OperatorError ZDP-006 when the data end before it."""
        size = int.from_bytes(self._data[:4], "big")
        if len(self._data) < 4 + size:
            raise _unusable("ssh-agent gave an answer that is cut short", "ssh-add -l")
        taken, self._data = self._data[4 : 4 + size], self._data[4 + size :]
        return taken


def _ask(place: str, message: bytes) -> bytes:
    """One request, one answer, never empty."""
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(_WAIT_S)
            stream.connect(place)
            stream.sendall(_field(message))
            with stream.makefile("rb") as reader:
                size = int.from_bytes(reader.read(4), "big")
                answer = reader.read(size) if 0 < size <= _MAX_ANSWER else b""
    except OSError as error:
        raise _unusable(
            f"ssh-agent at {place} (SSH_AUTH_SOCK) does not answer: {error.strerror or error}",
            "eval $(ssh-agent)",
        ) from error
    if not answer or len(answer) != size:
        raise _unusable(f"what is at {place} (SSH_AUTH_SOCK) is no ssh-agent", "ssh-add -l")
    return answer


def _field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _unusable(cause: str, mend: str) -> OperatorError:
    return OperatorError("ZDP-006", cause, next=mend)
