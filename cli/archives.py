"""An archive is read in memory, bounded, and never unpacked: no name, link or size of it can harm.

Only plain files are taken. A link or a device is remembered by its name, so that whoever needs what
should be there can refuse; elsewhere (a link in a folder of docs) it means nothing.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final, cast

from zdpatch.cli import import_root
from zdpatch.cli.import_root import Budget, SourceError

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVES: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_DAMAGED: Final = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


@dataclass(slots=True)
class Archive:
    """The plain files of an archive by path, and the names of what is none (links)."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    odd: set[str] = field(default_factory=set[str])

    def put(self, name: str, data: bytes) -> None:
        """Keep one file. Raises ZDP-004 for a second one of this name."""
        if name in self.files:
            raise SourceError("ZDP-004", f"{self.name} holds one name twice: {name!r}")
        self.files[name] = data


def read_archive(path: Path) -> Archive:
    """Read a tar or zip archive. Raises `SourceError` for what is damaged, hostile or too large."""
    found = Archive(path.name)
    try:
        if path.name.endswith((".zip", ".whl")):
            _read_zip(path, found)
        else:
            _read_tar(path, found)
    except FileNotFoundError:
        raise SourceError("ZDP-004", f"{path} does not exist") from None
    except _DAMAGED as error:
        raise SourceError("ZDP-004", f"{path.name} is not a readable archive: {error}") from error
    return found


def _read_zip(path: Path, found: Archive) -> None:
    budget = Budget(path.name)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = _checked(info.filename, path.name)
            budget.spend(info.file_size)
            kind = stat.S_IFMT(info.external_attr >> 16)
            _refuse_device(name, path.name, device=kind in {stat.S_IFCHR, stat.S_IFBLK})
            if kind in {0, stat.S_IFREG}:
                with archive.open(info) as member:  # no more than it says that it holds
                    found.put(name, member.read(info.file_size))
            else:
                found.odd.add(name)


def _read_tar(path: Path, found: Archive) -> None:
    budget = Budget(path.name)
    with (
        path.open("rb") as raw,
        _Bounded(_unpacked(raw, path.name), path.name) as bounded,
        tarfile.open(
            fileobj=cast("IO[bytes]", bounded), mode="r:", encoding="utf-8", errors="strict"
        ) as archive,
    ):
        for info in archive:
            budget.spend(0 if info.isdir() else info.size)
            if info.isdir():
                continue
            name = _checked(info.name, path.name)
            _refuse_device(name, path.name, device=info.isdev())
            if info.isreg() and not info.issparse():
                file = archive.extractfile(info)
                assert file is not None
                found.put(name, file.read())
            else:
                found.odd.add(name)
        _check_end(bounded, int(archive.offset))


def _check_end(stream: _Bounded, end: int) -> None:
    """`tarfile` takes a damaged header for the end; what follows the last member is zeros."""
    stream.seek(end)
    rest = stream.read(tarfile.BLOCKSIZE)
    if len(rest) < tarfile.BLOCKSIZE:
        raise EOFError("it is cut short")
    while rest:
        if rest.strip(b"\0"):
            raise ValueError("it holds something behind its end")
        rest = stream.read(tarfile.RECORDSIZE)


def _unpacked(raw: IO[bytes], name: str) -> IO[bytes]:
    if name.endswith((".gz", ".tgz")):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    return cast("IO[bytes]", bz2.BZ2File(raw) if name.endswith(".bz2") else lzma.LZMAFile(raw))


class _Bounded:
    """A stream that ends in an error where more comes out of it than any import root may hold.

    Members are counted by their headers, but a header itself can be of any size.
    """

    def __init__(self, stream: IO[bytes], what: str) -> None:
        self._stream = stream
        self._what = what
        self._limit = 2 * import_root.MAX_BYTES

    def read(self, size: int) -> bytes:
        self._bound(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        self._bound(place)
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()

    def _bound(self, place: int) -> None:
        if not 0 <= place <= self._limit:
            raise SourceError("ZDP-004", f"{self._what} unpacks to more than any source needs")

    def __enter__(self) -> _Bounded:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _checked(name: str, what: str) -> str:
    """`name` as a plain relative path. Raises ZDP-004 for one that leaves the archive."""
    plain = name.removeprefix("./")
    path = PurePosixPath(plain)
    odd = path.is_absolute() or ".." in path.parts or "\\" in plain or "\0" in plain
    if odd or not plain.isprintable() or path.as_posix() != plain or plain == ".":
        raise SourceError("ZDP-004", f"{what} holds a file outside of itself: {name!r}")
    return plain


def _refuse_device(name: str, what: str, *, device: bool) -> None:
    if device:
        raise SourceError("ZDP-004", f"{what} holds a device: {name!r}")
