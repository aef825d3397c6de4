"""One order to many processes: those it concerns carry it out, and the report names each.

`confirm`, `rollback` and `hold` share this. Some succeeded and some failed is ZDP-305 (exit 9);
all failed is the first one's own error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from zdpatch.agent.lifecycle import WANTED_IN
from zdpatch.agent.protocol import Status, StatusResult
from zdpatch.cli.client import Answer, Client, label
from zdpatch.cli.errors import FleetError, error_json
from zdpatch.cli.fleet import IN_PLACE, facts
from zdpatch.cli.output import Output, clean
from zdpatch.cli.select import chosen, discover, parse_selector
from zdpatch.patcher.errors import OperatorError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.home import AgentFile
    from zdpatch.agent.protocol import PatchRow
    from zdpatch.patcher.errors import ZdpatchError

R = TypeVar("R", bound=msgspec.Struct)
MIN_DIGEST = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A patch at one process."""

    ref: AgentFile
    patch: PatchRow


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, and which processes did not answer: these must not stop the others."""

    found: list[Found]
    silent: list[Answer[StatusResult]]


def find_agents(output: Output, selector: str) -> list[AgentFile]:
    """The living agents that the selector names. Raises ZDP-401 when there is none."""
    everyone = discover(output.home)
    agents = chosen(everyone, parse_selector(selector))
    if not agents:
        raise no_agents(output, selector, everyone)
    return agents


def no_agents(output: Output, selector: str, everyone: Sequence[AgentFile]) -> OperatorError:
    """ZDP-401: of `everyone` none is meant."""
    what = f"none of {len(everyone)} agents is {selector}" if everyone else "no agents"
    return OperatorError("ZDP-401", f"{what} in {output.home}", next="zdpatch status")


def look(client: Client, agents: Sequence[AgentFile]) -> Survey:
    """Every patch of every process. Raises the first error when none of them answers."""
    found: list[Found] = []
    silent: list[Answer[StatusResult]] = []
    for answer in client.ask(agents, Status(), StatusResult):
        if answer.result is None:
            silent.append(answer)
        else:
            found += [Found(answer.ref, patch) for patch in answer.result.patches]
    if len(silent) == len(agents):
        silent[0].need()
    return Survey(found, silent)


def named(patch: PatchRow, name: str) -> bool:
    """Whether `name` means this patch: its id, or 8 or more characters of its digest."""
    by_digest = len(name) >= MIN_DIGEST and patch.digest.startswith(name.lower())
    return patch.id == name.upper() or by_digest


def only(found: Sequence[Found], name: str) -> list[Found]:
    """The places of the patch `name`. Raises ZDP-212 if nowhere, ZDP-001 if it means several.

    Of several builds under one id the one that is in place is meant, else the one that is wanted.
    """
    places = [one for one in found if named(one.patch, name)]
    if not places:
        raise ProcessError("ZDP-212", f"no process has a patch {name}", next="zdpatch status")
    active = {one.patch.digest for one in places if one.patch.state in IN_PLACE}
    wanted = {one.patch.digest for one in places if one.patch.wanted in WANTED_IN}
    digests = active or wanted or {one.patch.digest for one in places}
    if len(digests) > 1:
        raise OperatorError(
            "ZDP-001",
            f"{name} means several patches: {', '.join(sorted(one[:12] for one in digests))}",
            next="name one by its digest",
        )
    return [one for one in places if one.patch.digest in digests]


class Tally(Generic[R]):
    """The answers of one order."""

    def __init__(
        self,
        verb: str,
        answers: Sequence[Answer[R]],
        silent: Sequence[Answer[StatusResult]] = (),
    ) -> None:
        self.verb = verb
        unasked: list[Answer[R]] = [Answer(a.ref, a.agent, error=a.error) for a in silent]
        self.answers = [*answers, *unasked]

    def need(self) -> None:
        """Raise when any process did not carry it out."""
        failed = [answer for answer in self.answers if answer.error is not None]
        if not failed:
            return
        errors = [answer.error for answer in failed if answer.error is not None]
        if len(self.answers) == 1:
            raise errors[0]
        if len(failed) == len(self.answers) and len({error.code for error in errors}) == 1:
            raise self._same(errors)
        lines = [f"{label(answer.ref)}: {_words(answer)}" for answer in failed]
        done = len(self.answers) - len(failed)
        raise FleetError(
            "ZDP-305",
            "\n".join([f"{self.verb} failed in {len(failed)} of {len(self.answers)}:", *lines]),
            self.json(),
            state=f"Done in {done} of {len(self.answers)}.",
            next="zdpatch status",
        )

    def _same(self, errors: Sequence[ZdpatchError]) -> ZdpatchError:
        """The one error that every process had."""
        first = errors[0]
        causes = dict.fromkeys(error.cause for error in errors)
        states = dict.fromkeys(error.state for error in errors if error.state)
        where = ", ".join(label(answer.ref) for answer in self.answers)
        return FleetError(
            first.code,
            "\n".join([f"in each of {len(errors)}: {where}", *causes]),
            self.json(),
            state=" ".join(states),
            next=first.next,
        )

    def json(self) -> list[dict[str, object]]:
        """Each process with its result or error."""
        return [
            {
                **facts(answer.ref, answer.agent),
                "result": None if answer.result is None else msgspec.to_builtins(answer.result),
                "error": None if answer.error is None else error_json(answer.error)["error"],
            }
            for answer in self.answers
        ]


def _words(answer: Answer[R]) -> str:
    return "" if answer.error is None else f"{answer.error.code} {clean(answer.error.cause)}"
