"""What came of a file in the inbox is a file of its own: there whole, or not there.

`results/` is in the inbox, or in the application's own directory when the inbox cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any, Final

import msgspec

from zdpatch.agent.here import LOG
from zdpatch.agent.protocol import AgentInfo, ErrorBody  # noqa: TC001 - msgspec reads them

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SCHEMA: Final = "zdpatch.inbox/v1"
NAME: Final = "results"
_PLACE: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result file. `sha256` is of the bytes that were read, `at` unix seconds."""

    schema: str
    file: str
    sha256: str
    at: float
    agent: AgentInfo
    result: Any = None
    error: ErrorBody | None = None


class Results:
    """Where the outcomes of one agent go; `keep_s` and `most` bound what is kept of all agents."""

    def __init__(self, places: tuple[Path, ...], gid: int | None, keep_s: float, most: int) -> None:
        self._places: Final = places
        self._gid: Final = gid
        self._keep_s: Final = keep_s
        self._most: Final = most
        self._pruned = False

    def write(self, outcome: Outcome) -> None:
        """Put the result where people look for it. Raises OSError when that cannot be done."""
        name = f"{outcome.file}.{outcome.agent.agent}.json"
        data = msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n"
        failure: OSError | None = None
        for place in self._places:
            try:
                with self._opened(place) as directory:
                    if not self._pruned:
                        self._prune(directory, outcome.at - self._keep_s)
                        self._pruned = True
                    self._put(directory, name, data)
            except OSError as error:
                failure = failure or error
            else:
                return
        assert failure is not None
        raise failure

    def _put(self, directory: int, name: str, data: bytes) -> None:
        """A new file, renamed over what has its name: nothing is ever written through a link."""
        partial = f".{name}.part"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=directory)
        mode = 0o600 if self._gid is None else 0o640
        with os.fdopen(os.open(partial, _NEW, mode, dir_fd=directory), "wb") as file:
            try:
                os.fchmod(file.fileno(), mode)
                if self._gid is not None:
                    os.fchown(file.fileno(), -1, self._gid)
                file.write(data)
                file.flush()
                os.rename(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial, dir_fd=directory)
                raise

    @contextlib.contextmanager
    def _opened(self, place: Path) -> Generator[int]:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
            if self._gid is not None:
                os.chown(place, -1, self._gid)
                place.chmod(0o750)
        directory = os.open(place, _PLACE)
        try:
            found = os.fstat(directory)
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
                raise PermissionError(f"others can write to {place}")
            yield directory
        finally:
            os.close(directory)

    def _prune(self, directory: int, oldest: float) -> None:
        """Results of processes that are long gone, and the oldest of too many."""
        ages: list[tuple[float, str]] = []
        with os.scandir(directory) as names:
            for one in names:
                with contextlib.suppress(OSError):
                    found = one.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and one.name.endswith((".json", ".part")):
                        ages.append((found.st_mtime, one.name))
        ages.sort(reverse=True)
        for number, (written, name) in enumerate(ages):
            if number >= self._most or written < oldest:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory)


class Unsaid:
    """Outcomes that could not be written yet: the disk is full. The newest of each file is kept."""

    def __init__(self, results: Results) -> None:
        self._results: Final = results
        self._waiting: Final[dict[str, Outcome]] = {}

    def tell(self, outcome: Outcome) -> None:
        """Write it, now or when there is room."""
        self._waiting.pop(outcome.file, None)
        self._waiting[outcome.file] = outcome
        self.again()

    def again(self) -> bool:
        """Write what waits; False when something waits still."""
        for name, outcome in list(self._waiting.items()):
            try:
                self._results.write(outcome)
            except OSError as error:
                LOG.error("the result for %s cannot be written: %s", name, error)
                return False
            del self._waiting[name]
        return True

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting)
