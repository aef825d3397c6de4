"""A trust file is used only if nobody but root and this process's own user can have written it.

Checked on the open files themselves, so nothing can be exchanged between the check and the read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.patcher import roots
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.keyring import MAX_TRUST, TrustPolicy

if TYPE_CHECKING:
    from zdpatch.patcher.roots import Rooted

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load_trust(path: Path | str, reader: int | None = None) -> TrustPolicy:
    """The trust policy in the file `path`, as an agent of the user `reader` reads it (None: of this
    process's user).

    Raises OperatorError ZDP-113 when there is none, ZDP-114 when it is malformed, or when its owner
    or mode, or those of its directory, let somebody else decide whom that user trusts.
    """
    return parse_trust(path, read_trust(path, reader))[0]


def parse_trust(path: Path | str, raw: bytes) -> tuple[TrustPolicy, Rooted | None]:
    """The policy in a trust file's bytes, and the chain of roots it stands on, if it has one.

    Raises OperatorError ZDP-114, ZDP-117.
    """
    try:
        rooted = roots.load(raw)
        return (TrustPolicy.load(raw), None) if rooted is None else (rooted.policy, rooted)
    except OperatorError as error:
        error.cause = f"{path}: {error.cause.removeprefix(f'{path}: ')}"
        error.next = f"put back a copy of {path}, or  rm {path}; zdpatch trust init"
        raise


def read_trust(path: Path | str, reader: int | None = None) -> bytes:
    """The bytes of the trust file, after the checks of `load_trust` on file and directory."""
    where = Path(path).absolute()
    try:
        return _read(where, os.geteuid() if reader is None else reader)
    except (FileNotFoundError, NotADirectoryError):
        raise OperatorError(
            "ZDP-113",
            f"there is no trust file {where}: no signature counts here",
            next="zdpatch trust init",
        ) from None
    except OSError as error:
        raise _unsafe(f"{where} cannot be read: {error.strerror}", f"ls -l {where}") from error


def _read(where: Path, reader: int) -> bytes:
    directory = os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(os.fstat(directory), where.parent, "go-w", reader)
        _check_above(where.parent, reader)
        # A link's target would lie in a directory that was not checked. Not blocking: a FIFO would.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if stat.S_ISLNK(os.stat(where.name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise _unsafe(f"{where} is a symbolic link", "put a copy of the file in its place")
        file = os.open(where.name, flags, dir_fd=directory)
    finally:
        os.close(directory)
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _unsafe(f"{where} is not a plain file", f"rm {where}; zdpatch trust init")
        _check(found, where, "644", reader)
        return stream.read(MAX_TRUST + 1)


def _check(found: os.stat_result, path: Path, mode: str, reader: int) -> None:
    if found.st_uid not in {0, reader}:
        raise _unsafe(
            f"{path} belongs to uid {found.st_uid}, neither root nor the user of the agent "
            f"(uid {reader})",
            f"chown {reader} {path}",
        )
    if found.st_mode & _OTHERS_WRITE:
        raise _unsafe(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):o})",
            f"chmod {mode} {path}",
        )


def _check_above(directory: Path, reader: int) -> None:
    """Whoever can rename a directory above can replace it: its owner always, others unless a sticky
    bit forbids it. Groups are the administrator's: `~/.local` often belongs to the user's own.
    """
    for above in directory.resolve().parents:
        found = above.stat()
        mode = found.st_mode
        if found.st_uid not in {0, reader}:
            raise _unsafe(
                f"{above}, above the trust file, belongs to uid {found.st_uid}, neither root nor "
                f"the user of the agent (uid {reader})",
                f"chown {reader} {above}, or keep the trust file elsewhere (ZDPATCH_TRUST)",
            )
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _unsafe(
                f"{above}, above the trust file, can be written by anybody "
                f"(mode {stat.S_IMODE(mode):o})",
                f"chmod o-w {above}",
            )


def _unsafe(cause: str, mend: str) -> OperatorError:
    return OperatorError("ZDP-114", cause, next=mend)
