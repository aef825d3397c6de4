"""Printing never fails: what could not be written is remembered, and the command goes on.

An order must be carried out and answered for by its exit code, whatever became of the terminal, the
pipe or the disk that its words go to.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Buffer


class Lossy(io.RawIOBase):
    """A descriptor that takes everything; `lost` is the first error of writing to it."""

    def __init__(self, number: int, *, closed: bool) -> None:
        self._number: Final = number
        self.lost: OSError | None = OSError("it is closed") if closed else None
        self._closed: Final = closed

    def write(self, data: Buffer, /) -> int:
        """Write, or lose, all or the first part of `data`."""
        view = memoryview(data)
        if self.lost is not None:
            return view.nbytes
        try:
            return os.write(self._number, view)
        except BlockingIOError:
            select.select([], [self._number], [])
            return 0
        except OSError as error:
            self.lost = error
            return view.nbytes

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return not self._closed and os.isatty(self._number)

    def fileno(self) -> int:
        """The descriptor. Raises OSError when it was closed: its number may be another file's."""
        if self._closed:
            raise OSError("it is closed")
        return self._number


@contextmanager
def lossy_streams() -> Generator[Lossy | None]:
    """Stand in for the process's own stdout and stderr; stdout, or None where others do already."""
    before = sys.stdout, sys.stderr
    if before != (sys.__stdout__, sys.__stderr__):
        yield None
        return
    out, err = (Lossy(n, closed=one is None) for n, one in enumerate(before, start=1))
    sys.stdout, sys.stderr = _text(out, before[0]), _text(err, before[1])
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _text(raw: Lossy, like: TextIO | None) -> TextIO:
    encoding = "utf-8" if like is None else like.encoding
    errors = "replace" if like is None else like.errors
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
