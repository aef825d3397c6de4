"""One native daemon thread owns socket and journal of a process; a fork never carries either over.

The thread holds `here.lock` while it works and not while it waits. A fork takes that lock first, so
a child never inherits half a transaction; the child then makes everything anew and touches nothing
of its parent's.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent import replay, transaction
from zdpatch.agent.here import LOG, Here
from zdpatch.agent.home import Home
from zdpatch.agent.identity import find_release, identify
from zdpatch.agent.journal import Journal
from zdpatch.agent.native import Alarm, Lock, spawn
from zdpatch.agent.transport import Transport
from zdpatch.agent.verbs import Counter
from zdpatch.agent.verifier import Verifier
from zdpatch.patcher.errors import OperatorError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.clock import Clock
    from zdpatch.agent.config import Config
    from zdpatch.agent.engine import Engine
    from zdpatch.agent.home import Door
    from zdpatch.agent.identity import Identity

_BUSY_AFTER_S: Final = 1.0  # a request waits so long for a transaction of another thread
_STOP_S: Final = 2.0

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
        self._home.prepare()
        identity = self._identify()
        self.here: Final = Here(
            identity=identity,
            journal=Journal(self._home.app_dir, identity, clock, config.settings, gate),
            engine=engine,
            verifier=Verifier(config.trust, identity),
            clock=clock,
            settings=config.settings,
            gate=gate,
            no_apply=config.no_apply,
        )
        self._reason = "not started"
        self._retire = False
        self._behind = False  # patches are wanted that were not brought up yet
        self._begin()

    def continue_from(self, stopped: Runtime) -> None:
        """What an agent that was stopped left in this process is in for the new one too."""
        if stopped.config.app == self.config.app and stopped.here.engine is self.here.engine:
            left = stopped.here.mine
            self.here.mine = {key: left[key] for key in left if stopped.here.runs(key)}

    def boot(self) -> None:
        """Bring this process up to what is wanted, or say why not."""
        here = self.here
        with here.lock:
            try:
                self._enter()
                replay.agree(here)
                self._behind = not replay.bring_up(here, here.settings.replay_limit_s)
            except ZdpatchError as error:
                here.say(f"no patch was brought up: {error}")
            here.journal.close()

    def _enter(self) -> None:
        replay.enter(self.here)
        self._entered = True

    def launch(self, delay_s: float) -> None:
        """Start the thread; it opens the socket `delay_s` later."""
        spawn(lambda: self._run(delay_s, inherited=False))

    def status(self) -> dict[str, Any]:
        """The handle's answer; asks neither thread nor journal."""
        me = self.here.identity
        return {
            "state": "off" if self._reason else "held" if self.here.no_apply else "ready",
            "reason": self._reason,
            "active": list(self.here.active()),
            "agent": me.agent,
            "app": me.app,
            "release": me.release,
            "pid": os.getpid(),
            "warnings": list(self.here.notices),
        }

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
        self.here.staged = {}
        self._begin()
        self._reason = "starting after a fork"
        if whole:
            spawn(lambda: self._run(self.here.settings.child_delay_s, inherited=True))
        else:
            self._reason = "the process forked in the middle of a transaction"
            self._done.ring()

    def _begin(self) -> None:
        self._entered = False  # this process has rows in the journal
        self._transport: Transport | None = None
        self._halt = Alarm()
        self._done = Alarm()

    # -- the thread -----------------------------------------------------------------------------

    def _run(self, delay_s: float, *, inherited: bool) -> None:
        door: Door | None = None
        try:
            if self._halt.wait(delay_s):
                return
            if inherited:
                self._move_in()
            self._home.sweep(self.here.identity.key)
            door = self._home.open_door(self.here.identity)
            self._open(door)
            # found from here on; what was decided since `boot` went by without this process
            self._behind = True
            self._loop()
            if self._retire:
                transaction.end_trials(self.here)
        except Exception as error:  # noqa: BLE001 - the thread has nobody to tell but the log
            self._reason = f"{type(error).__name__}: {error}"
            LOG.error("zdpatch is off in this process: %s", self._reason)
        finally:
            self._close(door)

    def _move_in(self) -> None:
        """A child is a process of its own, with what its parent's memory held."""
        here = self.here
        with here.lock:
            here.identity = identity = self._identify()
            here.journal = Journal(
                self._home.app_dir, identity, here.clock, here.settings, self._gate
            )
            here.verifier = Verifier(self.config.trust, identity)
            _leave_with_multiprocessing(self.stop)
            try:
                self._enter()
                replay.agree(here)
                self._behind = True
            except ZdpatchError as error:
                here.say(f"no patch was brought up: {error}")

    def _open(self, door: Door) -> None:
        self._transport = Transport(door, self.here.settings, self.here.clock)
        door.announce(self.here.identity)
        self._reason = ""

    def _loop(self) -> None:
        transport, here = self._transport, self.here
        assert transport is not None
        counter = Counter(here)
        while not self._halt.wait(0):
            self._tend()
            for message in transport.wait(self._patience()):
                if here.lock.acquire(_BUSY_AFTER_S):
                    try:
                        reply = counter.answer(message.peer, message.frames)
                    finally:
                        here.lock.release()
                else:
                    reply = counter.busy(message.frames)
                if reply is not None:
                    transport.reply(message, reply)

    def _tend(self) -> None:
        """What is due without being asked."""
        with self.here.lock:
            if self._behind:
                self._behind = False
                self._catch_up()
            try:
                transaction.expire(self.here)
            except Exception as error:  # noqa: BLE001 - the deadline was moved: it is tried again
                self.here.say(f"a trial could not be ended: {error}")

    def _catch_up(self) -> None:
        try:
            replay.agree(self.here)
            replay.bring_up(self.here, None)
        except ZdpatchError as error:
            self.here.say(f"what is wanted was not looked at again: {error}")

    def _patience(self) -> float | None:
        due = transaction.next_deadline(self.here)
        return None if due is None else max(0.0, due - self.here.clock.steady())

    def _close(self, door: Door | None) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        if door is not None:
            door.close()
        if self._entered:
            self._leave()
        self._reason = self._reason or "stopped"
        self._done.ring()

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
    context = sys.modules.get("multiprocessing.process")
    if util is not None and context is not None and context.parent_process() is not None:
        util.Finalize(None, stop, exitpriority=0)
