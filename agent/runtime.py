"""One native daemon thread owns socket and journal of a process; a fork never carries either over.

The thread holds `here.lock` while it works and not while it waits. A fork takes that lock first, so
a child never inherits half a transaction; the child then makes everything anew and touches nothing
of its parent's.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Literal

from zdpatch.agent import trials
from zdpatch.agent.duties import Backoff, Duties
from zdpatch.agent.handed import watch
from zdpatch.agent.here import LOG, Here
from zdpatch.agent.home import Home
from zdpatch.agent.identity import find_release, identify
from zdpatch.agent.journal import Journal
from zdpatch.agent.native import Alarm, Lock, spawn
from zdpatch.agent.patience import is_shortage
from zdpatch.agent.told import Told, file_of
from zdpatch.agent.transport import Transport
from zdpatch.agent.verbs import Counter
from zdpatch.agent.verifier import Verifier
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Config
    from zdpatch.agent.engine import Engine
    from zdpatch.agent.home import Door
    from zdpatch.agent.identity import Identity

_BUSY_AFTER_S: Final = 1.0  # a request waits so long for a transaction of another thread
_STOP_S: Final = 2.0
_PASSING: Final = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
Phase = Literal["starting", "retrying", "open", "off"]

_abandoned: Final[list[object]] = []
"""What a child inherited and must neither use nor let the collector close."""


class Runtime:
    """The agent of one process, from `boot` over forks to `stop`."""

    def __init__(
        self, config: Config, engine: Engine, clock: Clock, gate: Callable[[str], None]
    ) -> None:
        self.config: Final = config
        self._home: Final = Home(config)
        self._release: Final = config.release or find_release(config.app)
        self._gate: Final = gate
        self._prepare()
        identity = self._identify()
        journal = Journal(self._home.app_dir, identity, clock, config.settings, gate)
        self.here: Final = Here(
            identity=identity,
            journal=journal,
            engine=engine,
            verifier=Verifier(config.trust, identity, journal),
            clock=clock,
            settings=config.settings,
            gate=gate,
            no_apply=config.no_apply,
        )
        self._retire = False
        self._phase: Phase
        self._told = Told()
        self._begin()

    def continue_from(self, stopped: Runtime) -> None:
        """What an agent that was stopped left in this process is in for the new one too."""
        if stopped.config.app == self.config.app and stopped.here.engine is self.here.engine:
            left = stopped.here.mine
            self.here.mine = {key: left[key] for key in left if stopped.here.runs(key)}

    def _prepare(self) -> None:
        """Raises OperatorError and OSError; a disk without room is the thread's to wait for."""
        try:
            self._home.prepare()
        except OSError as error:
            if error.errno not in _PASSING:
                raise

    def boot(self) -> None:
        """Bring this process up to what is wanted, or say why not."""
        with self.here.lock:
            self._listen()
            limit_s = self.here.settings.replay_limit_s
            end = self.here.clock.steady() + limit_s
            self._duties.catch_up(limit_s)
            if self._handed is not None:
                self._handed.at_start(end - self.here.clock.steady())
            self.here.journal.close()

    def launch(self, delay_s: float) -> None:
        """Start the thread; it opens the socket `delay_s` later."""
        spawn(lambda: self._run(delay_s, inherited=False))

    def status(self) -> dict[str, Any]:
        """The handle's answer; asks neither thread nor journal."""
        me = self.here.identity
        return {
            "state": self._state(),
            "reason": self._reason or self._duties.trouble,
            "active": list(self.here.active()),
            "agent": me.agent,
            "app": me.app,
            "release": me.release,
            "pid": os.getpid(),
            "warnings": list(self.here.notices),
        }

    def _state(self) -> str:
        if self._phase != "open":
            return self._phase
        if self._duties.trouble:
            return "retrying"
        return "held" if self.here.no_apply else "ready"

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return not self._done.wait(0)

    def retire(self) -> None:
        """Stop while the process goes on: nobody would end a trial any more, so all end now."""
        self._retire = True
        self.stop()

    def stop(self) -> None:
        """End the thread, leave the journal and remove the socket."""
        self._halt.ring()
        transport = self._transport
        if transport is not None:
            transport.wake()
        if not self._done.wait(_STOP_S):
            LOG.warning("the agent's thread did not end within %s s", _STOP_S)
            return
        self._told.close()

    # -- fork ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """No transaction is in progress while the process is copied."""
        here = self.here
        if here.lock.acquire(here.settings.fork_wait_s) and here.lock.depth == 1:
            here.journal.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self.here.lock.owned:
            self.here.lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's socket and journal, and start an agent of this process's own."""
        whole = self.here.lock.owned and self.here.lock.depth == 1
        _abandoned.extend((self._transport, self.here.journal, self.here.lock))
        if self._transport is not None:
            self._transport.abandon()
        self.here.lock = Lock()
        self.here.staged, self.here.owed = {}, {}
        self._told = self._told.again()
        self._begin()
        if whole:
            spawn(lambda: self._run(self.here.settings.child_delay_s, inherited=True))
        else:
            self._phase = "off"
            self._reason = "the process forked in the middle of a transaction"
            self._done.ring()

    def _begin(self) -> None:
        self._duties = Duties(self.here)
        self._counter = Counter(self.here)
        self._handed = watch(self.here, self.config, self._home, self._counter)
        self._transport: Transport | None = None
        self._door: Door | None = None
        self._halt = Alarm()
        self._done = Alarm()
        self._phase = "starting"
        self._reason = "the socket opens within a second or two"

    # -- the thread -----------------------------------------------------------------------------

    def _run(self, delay_s: float, *, inherited: bool) -> None:
        reason = "stopped"
        try:
            if self._halt.wait(delay_s):
                return
            if inherited and not self._move_in_at_last():
                return
            while self._open() and not self._serve():
                LOG.warning("somebody removed the agent's socket or its file; it makes them anew")
                self._shut()
            if self._retire:
                trials.end_trials(self.here)
        except Exception as error:  # noqa: BLE001 - the thread has nobody to tell but the log
            reason = f"{type(error).__name__}: {error}"
            LOG.error("zdpatch is off in this process: %s", reason)
        finally:
            self._shut()
            if self._duties.entered:
                self._leave()
            self._phase, self._reason = "off", reason
            self._done.ring()

    def _move_in_at_last(self) -> bool:
        """Move in, however long there is not enough to do so; False when the agent is stopped."""
        backoff = Backoff(self.here.settings)
        while True:
            try:
                self._move_in()
            except Exception as error:
                if not is_shortage(error):
                    raise
                self._say_closed(error)
                if self._halt.wait(backoff.pause()):
                    return False
            else:
                return True

    def _move_in(self) -> None:
        """A child is a process of its own, with what its parent's memory held."""
        here = self.here
        with here.lock:
            here.parent = here.identity.key
            here.identity = identity = self._identify()
            here.journal = Journal(
                self._home.app_dir, identity, here.clock, here.settings, self._gate
            )
            here.verifier = Verifier(self.config.trust, identity, here.journal)
            _leave_with_multiprocessing(self.stop)
            self._listen()
            self._duties.catch_up(None)

    def _listen(self) -> None:
        """How this process may end without having crashed."""
        file = file_of(self._home.app_dir, self.here.identity.key)
        self._told.write_to(file)
        process = sys.modules.get("multiprocessing.process")
        # a daemonic worker (of a Pool) is ended by a signal as soon as nobody needs it
        if process is not None and _of_multiprocessing() and process.current_process().daemon:
            self._told.excuse(file)

    def _open(self) -> bool:
        """Open the socket, however long that takes; False when the agent is stopped before."""
        backoff = Backoff(self.here.settings)
        while True:
            try:
                self._open_now()
            except (OSError, OperatorError) as error:
                self._shut()
                self._say_closed(error)
                if not self._wait(backoff.pause()):
                    return False
            else:
                self._phase, self._reason = "open", ""
                # found from here on; what was decided since `boot` went by without this process
                self._duties.look_again()
                return True

    def _open_now(self) -> None:
        self._home.prepare()
        self._home.sweep(self.here.identity.key)
        self._door = self._home.open_door(self.here.identity)
        self._transport = Transport(self._door, self.here.settings, self.here.clock)
        self._door.announce(self.here.identity)

    def _say_closed(self, error: Exception) -> None:
        reason = f"nobody can reach the agent, it tries again: {type(error).__name__}: {error}"
        if reason != self._reason:
            LOG.error("%s", reason)
        self._phase, self._reason = "retrying", reason

    def _wait(self, pause_s: float) -> bool:
        """What is due is done also while there is no socket; False when the agent is stopped."""
        clock = self.here.clock
        end = clock.steady() + pause_s
        while (left := end - clock.steady()) > 0:
            self._tend()
            patience = self._patience()
            if self._halt.wait(left if patience is None else min(left, max(patience, 0.01))):
                return False
        return True

    def _serve(self) -> bool:
        """Answer until the agent is stopped; False when nobody can find it any more."""
        transport, door, here = self._transport, self._door, self.here
        assert transport is not None
        assert door is not None
        patience: float | None = 0.0
        while not self._halt.wait(0):
            messages = transport.wait(patience)
            # before any answer: what is asked is answered as of now
            self._tend()
            for message in messages:
                if here.lock.acquire(_BUSY_AFTER_S):
                    try:
                        reply = self._counter.answer(message.peer, message.frames)
                    finally:
                        here.lock.release()
                else:
                    reply = self._counter.busy(message.frames)
                if reply is not None:
                    transport.reply(message, reply)
            if not door.intact():
                return False
            patience = self._patience()
        return True

    def _patience(self) -> float | None:
        """Seconds until something is due without being asked; None when nothing ever is."""
        patience = self._duties.patience()
        if self._handed is None:
            return patience
        looks = self._handed.patience()
        return looks if patience is None else min(looks, patience)

    def _tend(self) -> None:
        """What is due without being asked."""
        if self.here.lock.acquire(_BUSY_AFTER_S):
            try:
                self._duties.tend()
                if self._handed is not None:
                    self._handed.tend()
                clock, settings = self.here.clock, self.here.settings
                self._told.tend(clock.steady(), settings.told_s)
            finally:
                self.here.lock.release()

    def _shut(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        door, self._door = self._door, None
        if door is not None:
            door.close()

    def _leave(self) -> None:
        """An end that was announced is no crash."""
        try:
            with self.here.lock:
                with self.here.journal.write("leave") as ledger:
                    ledger.drop_process(self.here.identity.key)
                self.here.journal.close()
        except OperatorError as error:
            LOG.warning("the journal does not know that this process ended: %s", error)

    def _identify(self) -> Identity:
        return identify(self.config.app, self._release, dict(self.config.labels))


def _leave_with_multiprocessing(stop: Callable[[], None]) -> None:
    """Children of multiprocessing end without the interpreter's exit functions, but run these."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _of_multiprocessing():
        util.Finalize(None, stop, exitpriority=0)


def _of_multiprocessing() -> bool:
    """Whether this process is a worker that multiprocessing made."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
