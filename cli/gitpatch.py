"""The text of a patch as git reads it: applies with `git apply` and `git am`, byte for byte."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")
_LITERAL_BYTES: Final = 52  # of deflated data in a line
_NONE: Final = "0" * 40


@dataclass(frozen=True, slots=True)
class Change:
    """One file before and after; None: it is not there."""

    path: str
    base: bytes | None
    new: bytes | None


def mail(
    subject: str, body: Sequence[str], digest: str, at: int, changes: Iterable[Change]
) -> bytes:
    """A whole patch, in the form of `git format-patch`."""
    head = [
        f"From {digest[:40]} Mon Sep 17 00:00:00 2001",
        "From: zdpatch <zdpatch@localhost>",
        f"Date: {formatdate(at)}",
        f"Subject: [PATCH] {subject}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        *body,
        "---",
        "",
    ]
    text = b"".join(part.encode("latin-1") for one in changes for part in _change(one))
    return "\n".join(head).encode() + b"\n" + text + b"-- \nzdpatch\n"


def _change(change: Change) -> Iterator[str]:
    """One file; each byte is a character of Latin-1 here."""
    old_name, new_name = _quoted(f"a/{change.path}"), _quoted(f"b/{change.path}")
    yield f"diff --git {old_name} {new_name}\n"
    if change.base is None:
        yield "new file mode 100644\n"
    if change.new is None:
        yield "deleted file mode 100644\n"
    yield f"index {_blob_id(change.base)}..{_blob_id(change.new)}\n"
    sides = change.base or b"", change.new or b""
    if any(b"\0" in side for side in sides):
        yield from _binary(*sides)
        return
    old, new = (_LINE.findall(side.decode("latin-1")) for side in sides)
    lines = list(difflib.unified_diff(old, new))
    if lines:
        yield f"--- {'/dev/null' if change.base is None else _ended(old_name)}\n"
        yield f"+++ {'/dev/null' if change.new is None else _ended(new_name)}\n"
    for line in lines[2:]:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _binary(old: bytes, new: bytes) -> Iterator[str]:
    yield "GIT binary patch\n"
    for side in (new, old):
        yield f"literal {len(side)}\n"
        packed = zlib.compress(side)
        for start in range(0, len(packed), _LITERAL_BYTES):
            part = packed[start : start + _LITERAL_BYTES]
            size = (
                chr(ord("A") + len(part) - 1) if len(part) <= 26 else chr(ord("a") + len(part) - 27)
            )
            yield f"{size}{base64.b85encode(part, pad=True).decode()}\n"
        yield "\n"


def _blob_id(data: bytes | None) -> str:
    """The name of a file's content in git's object store, which `--3way` looks for."""
    if data is None:
        return _NONE
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


def _quoted(name: str) -> str:
    """As git writes names with bytes that do not print."""
    if _PLAIN.fullmatch(name):
        return name
    parts = (
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in name.encode()
    )
    return f'"{"".join(parts)}"'


def _ended(name: str) -> str:
    """A name with a space ends at a tab."""
    return f"{name}\t" if " " in name else name
