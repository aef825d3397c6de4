"""Ctrl-C ends the command quietly from its first instant, while it is still being loaded."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

INTERRUPTED = 130  # the same as `errors.DETACHED`, which is not loaded yet


def main() -> int:
    """Run `zdpatch` and return its exit code; afterwards Ctrl-C ends the interpreter's own end."""
    try:
        from zdpatch.cli.main import main as run  # noqa: PLC0415 - it takes most of the start

        code = run()
    except KeyboardInterrupt:
        with suppress(OSError):  # it may be closed
            os.write(2, b"interrupted\n")
        code = INTERRUPTED
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code
