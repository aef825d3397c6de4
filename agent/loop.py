"""One thread waits for everything at once; a signal is one of the things it waits for."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Loop:
    """Calls what was given for each thing that can be read. Things have a `fileno`."""

    def __init__(self) -> None:
        self._selector: Final = selectors.DefaultSelector()
        self._watched: Final[dict[object, Callable[[], None]]] = {}

    def watch(self, one: Any, then: Callable[[], None]) -> None:  # noqa: ANN401 - has fileno
        """Call `then` whenever `one` can be read."""
        self._selector.register(one, selectors.EVENT_READ)
        self._watched[one] = then

    def unwatch(self, one: Any) -> None:  # noqa: ANN401 - has fileno
        """No more."""
        self._selector.unregister(one)
        del self._watched[one]

    def turn(self, patience: float | None) -> None:
        """Wait so long at most, and do what there is."""
        for key, _ in self._selector.select(patience):
            then = self._watched.get(key.fileobj)
            if then is not None:  # what came before may have closed it
                then()

    @contextmanager
    def signals(self, then: Callable[[set[int]], None]) -> Generator[None]:
        """Call `then` with the numbers of signals that came. Also process 1 gets them: it must ask.

        Only in the main thread.
        """
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _noted) for number in _SIGNALS}
        self.watch(woken, lambda: then(set(woken.recv(256))))
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.unwatch(woken)
            woken.close()
            wake.close()

    def close(self) -> None:
        """Forget all."""
        self._selector.close()


def reap_strangers(own: set[int]) -> None:
    """Process 1 has children that it never started; `own` ones are reaped elsewhere."""
    while True:
        try:
            status = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if status is None or status.si_pid in own:
            return
        os.waitid(os.P_PID, status.si_pid, os.WEXITED)


def _noted(number: int, frame: object) -> None:
    """Python needs a handler to write to the wakeup descriptor."""
