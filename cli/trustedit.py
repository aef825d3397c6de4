"""A trust file is replaced whole or not at all, and two people who change it at once both count."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zdpatch.agent.trustfile import load_trust, parse_trust, read_trust
from zdpatch.cli.home import private_directory
from zdpatch.patcher import roots
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from zdpatch.patcher.keyring import TrustPolicy
    from zdpatch.patcher.roots import Document, Rooted


def default_trust(home: Path) -> Path:
    """`ZDPATCH_TRUST`, else the trust file of the home: the one that an agent there reads."""
    given = os.environ.get("ZDPATCH_TRUST")
    return Path(given).expanduser().absolute() if given else home / "trust.json"


def reader_of(path: Path) -> int | None:
    """Whose agents use this file, when root looks at it: those of the directory's owner."""
    if os.geteuid() != 0:
        return None
    with suppress(OSError):
        return path.parent.stat().st_uid
    return None


def create(path: Path, policy: TrustPolicy) -> None:
    """Write a new trust file. Raises OperatorError ZDP-002 when there is one already."""
    policy.check()
    private_directory(path.parent)
    with _locked(path):
        if path.exists() or path.is_symlink():
            raise OperatorError(
                "ZDP-002", f"there is a trust file already: {path}", next="zdpatch trust show"
            )
        _replace(path, policy.dump())
    _check_written(path)


def change(path: Path, edit: Callable[[TrustPolicy], TrustPolicy]) -> TrustPolicy:
    """Read the file, let `edit` make the next policy, write it; nobody comes in between.

    Returns what is now in the file, its version raised when it differs. Raises OperatorError
    ZDP-113 or ZDP-114 for a file that no agent would use, and whatever `edit` raises.
    """
    reader = reader_of(path)
    load_trust(path, reader)
    with _locked(path):
        before, rooted = parse_trust(path, read_trust(path, reader))
        after = edit(before)
        if after == before:
            return before
        if rooted is None:
            after = msgspec.structs.replace(after, version=before.version + 1)
            after.check()
        _replace(path, after.dump() if rooted is None else _tightened(rooted, before, after))
    return after


def add_root(path: Path, document: Document) -> TrustPolicy:
    """Let the trust file go on with a root document. Returns the policy that it holds.

    Raises OperatorError ZDP-117 unless it is the next version and enough roots signed it.
    """
    reader = reader_of(path)
    load_trust(path, reader)
    with _locked(path):
        before, rooted = parse_trust(path, read_trust(path, reader))
        if rooted is None:
            if roots.check_step(None, document).trust.version != before.version + 1:
                raise roots.broken(f"the trust file is at version {before.version}")
            file = roots.Chain([document], before.revoked, before.min_seq)
        else:
            chain = [*rooted.file.chain, document][-roots.MAX_STEPS :]
            file = msgspec.structs.replace(rooted.file, chain=chain)
        if rooted is not None:
            roots.check_step(roots.content_of(rooted.file.chain[-1]), document)
        data = file.dump()
        after, _ = parse_trust(path, data)
        _replace(path, data)
    return after


def _tightened(rooted: Rooted, before: TrustPolicy, after: TrustPolicy) -> bytes:
    """A chain to which refusals were added: all else needs the roots. Raises ZDP-117."""
    same = msgspec.structs.replace(after, revoked=before.revoked, min_seq=before.min_seq)
    if same != before:
        raise OperatorError(
            "ZDP-117",
            "this trust file stands on roots: only they can say who is trusted",
            next="zdpatch trust rotate --help",
        )
    file = msgspec.structs.replace(rooted.file, revoked=after.revoked, min_seq=after.min_seq)
    return file.dump()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock beside the file: the file itself is replaced, and a lock on it with it."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _give(descriptor, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    """Durable before it is visible: after a crash the old file or the new one is there, whole."""
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(descriptor, 0o644)
                _give(descriptor, path)
                os.fsync(descriptor)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise _unwritable(path, error) from error


def _give(descriptor: int, path: Path) -> None:
    """What root writes into a home of somebody else is theirs: they change it later."""
    if (owner := reader_of(path)) is not None:
        os.fchown(descriptor, owner, -1)


def _check_written(path: Path) -> None:
    """A new file in a bad place would be refused by every agent: say so now."""
    try:
        load_trust(path, reader_of(path))
    except OperatorError as error:
        error.state = f"{path} was written, and no agent will use it."
        raise


def _unwritable(path: Path, error: OSError) -> OperatorError:
    return OperatorError("ZDP-002", f"{path} cannot be written: {error.strerror}")
