"""A push can replace workers: the patch is wanted first, and then every worker is new and has it,
or the patch is not wanted any more and the old workers serve.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import wire
from zdpatch.agent.protocol import Confirm, ConfirmResult, Revert, RevertResult, Want, WantResult
from zdpatch.agent.readiness import is_in_tree
from zdpatch.cli import fleet, report
from zdpatch.cli.fleet import Target
from zdpatch.cli.output import clean, count
from zdpatch.cli.replace import done_lines, phase_line
from zdpatch.cli.select import discover
from zdpatch.cli.supervisors import heard, shown
from zdpatch.patcher.errors import OperatorError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from zdpatch.agent.home import AgentFile
    from zdpatch.cli.bundlefile import BundleFile
    from zdpatch.cli.client import Client
    from zdpatch.cli.output import Output
    from zdpatch.cli.push import Push
    from zdpatch.patcher.errors import ZdpatchError

# what a process refuses for what is in it: a new one may take the patch
CURABLE: Final = frozenset(
    f"ZDP-{number}" for number in (201, 202, 203, 205, 207, 208, 210, 211, 214, 215)
)
_ANNOUNCED_S: Final = 15.0  # new agents are found soon after their workers serve
_LOOK_S: Final = 0.1  # and are looked for so often


def is_curable(targets: Iterable[Target]) -> bool:
    """Whether new processes may take what these refuse."""
    return all(target.error is None or target.error.code in CURABLE for target in targets)


def hint(push: Push, targets: Sequence[Target]) -> str:
    """The command that replaces the workers instead; "" where that would not help."""
    if push.wish.adopt or push.wish.put_back or not is_curable(targets):
        return ""
    try:
        services_of(push.output.home, targets)
    except OperatorError:
        return ""
    return f"zdpatch push {push.file.path} --replace-workers"


def services_of(home: Path, targets: Iterable[Target]) -> dict[str, wire.Shown]:
    """The services whose workers these processes are, by name. Raises ZDP-406 for one that is no
    worker: nobody could replace it.
    """
    fleets = shown(home)
    found: dict[str, wire.Shown] = {}
    for target in targets:
        pid = target.ref.pid
        service = next(
            (one for one in fleets if any(is_in_tree(pid, row.pid) for row in one.workers)), None
        )
        if service is None:
            raise OperatorError(
                "ZDP-406",
                f"pid {pid} is no worker of zdpatch run: nothing can replace it",
                next="zdpatch run --app APP ... -- CMD  starts a service whose workers can be",
            )
        found[service.name] = service
    return found


class Renewal:
    """One push by replacement, from what is wanted to the new workers that have it."""

    def __init__(
        self, output: Output, client: Client, file: BundleFile, services: dict[str, wire.Shown]
    ) -> None:
        self.services: Final = services
        self._output: Final = output
        self._client: Final = client
        self._file: Final = file
        self._home: Final = output.home

    def plan_lines(self, output: Output, file: BundleFile, targets: Sequence[Target]) -> list[str]:
        """What would be done."""
        lines = [
            line
            for line in report.plan_lines(output, file, targets)
            if not line.startswith("refused")
        ]
        for service in self.services.values():
            where, workers = ", ".join(service.binds), count(service.wanted, "worker")
            lines.append(f"replace   {clean(service.name)}: {workers} on {clean(where)}")
        causes = dict.fromkeys(target.error.cause for target in targets if target.error is not None)
        return [*lines, *(f"why       {clean(cause)}" for cause in causes)]

    def run(
        self, header: Want, targets: Sequence[Target], timeout_s: float
    ) -> tuple[dict[str, wire.Done], float | None]:
        """Replace the workers of these services; how, and until when the trial is. Raises ZDP-503,
        the old ones serve, and what the agents refuse; then the patch is wanted of nobody.
        """
        asked, until = self._want(header, targets, timeout_s)
        done: dict[str, wire.Done] = {}
        for name in self.services:
            ended = self._replace(name, [self._file.manifest.id])
            if not ended.ok:
                self._give_up(asked, list(done))
                lines = [ended.reason, *ended.output.splitlines()[-20:]]
                raise ProcessError(
                    "ZDP-503",
                    "\n".join(clean(line) for line in lines),
                    state=f"The old workers serve; {self._file.manifest.id} is wanted of nobody.",
                    next=f"zdpatch inspect {self._file.path}",
                )
            done[name] = ended
            for line in done_lines(ended):
                self._output.progress(clean(line))
        return done, until

    def _want(
        self, header: Want, targets: Sequence[Target], timeout_s: float
    ) -> tuple[list[AgentFile], float | None]:
        """One agent of each release is told."""
        by_release = {target.ref.release: target.ref for target in targets}
        asked = list(by_release.values())
        answers = self._client.ask(asked, header, WantResult, timeout_s=timeout_s)
        wrong = [answer.error for answer in answers if answer.error is not None]
        if wrong:
            self._give_up([a.ref for a in answers if a.error is None], [])
            raise wrong[0]
        return asked, min((a.need().until or 0.0 for a in answers), default=0.0) or None

    def _give_up(self, asked: Sequence[AgentFile], replaced: Sequence[str]) -> None:
        """Nobody is to have it; workers that have it already are replaced once more."""
        self._client.ask(asked, Revert(self._file.digest), RevertResult)
        for name in replaced:
            self._output.progress(f"{clean(name)}: its workers are replaced back")
            self._replace(name, [])

    def _replace(self, name: str, needs: list[str]) -> wire.Done:
        place = wire.Place(self._home / "run" / name)
        try:
            for message in heard(place, wire.Ask("replace", wait=True, needs=needs)):
                if isinstance(message, wire.Done):
                    return message
                if isinstance(message, wire.Event):
                    self._output.progress(clean(phase_line(message)))
        except OSError:
            pass
        return wire.Done(False, 0, reason=f"the supervisor of {name} does not answer")

    def newcomers(self, until: float | None) -> list[Target]:
        """The processes that have it now, as soon as they can be found. Raises ZDP-402."""
        end = time.monotonic() + _ANNOUNCED_S
        while True:
            now = {one.name: one for one in shown(self._home)}
            workers = [
                row.pid
                for name in self.services
                if name in now
                for row in now[name].workers
                if row.generation == now[name].generation and row.state == "serving"
            ]
            agents = [
                ref
                for ref in discover(self._home)
                if ref.app == self._file.manifest.target.app
                and any(is_in_tree(ref.pid, pid) for pid in workers)
            ]
            states = fleet.patch_states(self._client, self._file.digest, agents)
            have = [Target(ref, "applied", state, ends=until) for ref, state in states if state]
            covered = all(any(is_in_tree(t.ref.pid, pid) for t in have) for pid in workers)
            over = time.monotonic() >= end
            if have and (over or covered):
                return have
            if over:
                raise OperatorError(
                    "ZDP-402",
                    "the new workers said that they have it, and no agent of theirs can be found",
                    state=f"{self._file.manifest.id} is on trial.",
                    next="zdpatch status",
                )
            time.sleep(_LOOK_S)

    def confirm(self, targets: Sequence[Target]) -> list[Target]:
        """Keep it."""
        confirmed: list[Target] = []
        answers = self._client.ask(
            [target.ref for target in targets], Confirm(self._file.digest), ConfirmResult
        )
        by_agent = {answer.ref.agent: answer for answer in answers}
        for target in targets:
            error: ZdpatchError | None = by_agent[target.ref.agent].error
            state = "confirmed" if error is None else target.state
            confirmed.append(replace(target, state=state, error=error))
        return confirmed


def services_json(done: dict[str, wire.Done]) -> list[dict[str, object]]:
    """The replaced services, as `--json` shows them."""
    return [{"name": name, "done": msgspec.to_builtins(one)} for name, one in done.items()]
