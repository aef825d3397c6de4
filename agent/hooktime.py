"""A hook has its time: it runs on a thread of its own, and nobody waits for it longer.

One that goes on is interrupted where it runs Python code. What it does later counts for nothing:
hooks only say what shall be, and nobody listens any more.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from zdpatch.agent.native import Alarm, original

if TYPE_CHECKING:
    from collections.abc import Callable

_GRACE_S: Final = 1.0


class _OverError(BaseException):
    """Raised in a hook whose time is over; no hook catches it by accident."""


def limited(call: Callable[[], None], limit_s: float) -> None:
    """Call it on another thread. Raises what it raises, and TimeoutError after `limit_s`."""
    done, raised = Alarm(), list[BaseException]()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed on to who waits
            raised.append(error)
        finally:
            done.ring()

    thread: int = original("start_new_thread")(run, ())
    if not done.wait(limit_s):
        _interrupt(thread)
        done.wait(_GRACE_S)
        raise TimeoutError
    if raised:
        raise raised[0]


def _interrupt(thread: int) -> None:
    with contextlib.suppress(ImportError):
        import ctypes  # noqa: PLC0415 - few processes ever need it

        ident = ctypes.c_ulong(thread)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_OverError))
