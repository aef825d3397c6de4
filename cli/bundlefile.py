"""A bundle file is read once; what it claims is shown and checked, never believed or executed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdpatch.cli.home import private_directory
from zdpatch.cli.output import count
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher import manifest as manifests
from zdpatch.patcher.errors import AuthorError, OperatorError, ZdpatchError

if TYPE_CHECKING:
    from pathlib import Path

    from zdpatch.patcher.manifest import Manifest
    from zdpatch.patcher.source import Patch


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle as a file holds it. `digest` is the identity of the patch, whoever signed it."""

    path: Path
    raw: bytes
    digest: str
    manifest: Manifest
    blobs: dict[str, bytes]
    signatures: int

    def patch(self) -> Patch:
        """The patch that it claims to be."""
        return manifests.patch_of(self.manifest, self.blobs)


def read_bundle(path: Path) -> BundleFile:
    """Read and check the form of a bundle. Raises ZDP-007 when unreadable, else ZDP-101 to 106."""
    try:
        with path.open("rb") as file:
            raw = file.read(bundles.LIMITS.bundle + 1)
    except OSError as error:
        raise OperatorError("ZDP-007", f"{path} cannot be read: {error.strerror}") from error
    try:
        manifest, container = bundles.read_unverified(raw)
        envelope = bundles.parse_envelope(container.envelope)
    except AuthorError as error:
        error.cause = f"{path.name}: {error.cause}"
        raise
    return BundleFile(
        path, raw, envelope.digest, manifest, container.blobs, len(envelope.signatures)
    )


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a whole file or nothing; `mode` at most, whatever the umask allows. Raises ZDP-007."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OperatorError("ZDP-007", f"{path} cannot be written: {error.strerror}") from error


def kept_path(home: Path, digest: str) -> Path:
    """Where the copy of a pushed bundle is kept, so that `diff` can show it later."""
    return home / "cache" / "bundles" / f"{digest}.zdp"


def is_kept(home: Path, digest: str) -> bool:
    """Whether there is a copy that this user may read."""
    return os.access(kept_path(home, digest), os.R_OK)


def keep_copy(home: Path, bundle: BundleFile) -> None:
    """Keep a copy of a pushed bundle; a home that cannot be written is no reason to fail, and one
    of another user gets no directory that they cannot use.
    """
    path = kept_path(home, bundle.digest)
    with contextlib.suppress(ZdpatchError, OSError):
        if home.stat().st_uid == os.geteuid() and not path.exists():
            private_directory(path.parent)
            write_atomically(path, bundle.raw, 0o600)


def contents(claim: Manifest) -> str:
    """How much is in a bundle: "3 modules, 1 data file"."""
    modules, data = count(len(claim.modules), "module"), count(len(claim.data), "data file")
    return f"{modules}, {data}" if claim.data else modules
