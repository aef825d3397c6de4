"""`push` leaves every target on the new code, or every target as it was, or says which are not.

Exit codes: 0 in (or was already), 10 `--plan` has changes, 11 the person said no, 6 reverted again,
9 targets differ, 8 `--wait` ran out of time, 130 detached; refusals by their id.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from zdpatch.agent.protocol import MAX_TRIAL_S, Apply, Want
from zdpatch.cli import arrivals, errors, fleet, pushworkers, report
from zdpatch.cli.bundlefile import BundleFile, keep_copy, read_bundle
from zdpatch.cli.client import DEFAULT_TIMEOUT_S, Client
from zdpatch.cli.interrupts import terminated_like_interrupted, uninterrupted
from zdpatch.cli.options import (
    Duration,
    consistent_options,
    consistently,
    on_limit_option,
    reason_option,
    show_duration,
    to_option,
)
from zdpatch.cli.output import Command, Output, clean, count, pass_output
from zdpatch.cli.select import Selector, chosen, discover, parse_selector
from zdpatch.patcher.attached import probes_s
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.home import AgentFile
    from zdpatch.agent.protocol import Consistently, OnLimit
    from zdpatch.agent.wire import Done
    from zdpatch.cli.fleet import Target

SCHEMA: Final = "zdpatch.push/v1"
_PATH: Final = re.compile(r"[^:\s]+:[^:\s]+")
BIRTH_S: Final = 3.0  # from the start of a process until it can be found, at most


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for. Times are seconds."""

    plan_only: bool
    partial: bool
    yes: bool
    wait: bool
    confirm: bool
    trial_s: float
    prolong: bool  # what is on trial already is so for `trial_s` from now
    timeout_s: float | None
    reason: str
    adopt: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()
    consistent: Consistently | None = None
    renew: bool = False  # workers are replaced; those that run stay as they are

    @property
    def trial_whole_s(self) -> int:
        """Of a trial, in whole seconds."""
        return max(1, round(self.trial_s))

    @property
    def request_s(self) -> float:
        """How long one agent may take for one answer, probes aside."""
        return min(DEFAULT_TIMEOUT_S, self.timeout_s or DEFAULT_TIMEOUT_S)


@click.command(
    "push",
    cls=Command,
    short_help="Put a bundle into running processes.",
    examples=[
        "zdpatch push fix.zdp --plan",
        "zdpatch push fix.zdp --to app=shop,zone=a --trial 10m",
        "zdpatch push fix.zdp --yes --confirm --json",
        "zdpatch push fix.zdp --consistent --limit 1m --on-limit abort",
    ],
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False))
@to_option
@click.option("--plan", "plan_only", is_flag=True, help="Stop after the plan (exit 10: changes).")
@click.option("--partial", is_flag=True, help="Apply where it can be, even if others refuse.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed without a terminal.")
@click.option("--wait", is_flag=True, help="Stay until the trial ended: confirmed or reverted.")
@click.option("--confirm", is_flag=True, help="Keep it at once, without a trial.")
@click.option(
    "--trial",
    "trial_s",
    type=Duration(),
    default=600.0,
    show_default="10m",
    help="Silence for so long reverts it.",
)
@click.option(
    "--adopt", multiple=True, metavar="PATH", help="Leave alone what was replaced there (m:f)."
)
@click.option(
    *("--replace", "put_back"),
    multiple=True,
    metavar="PATH",
    help="Put back what the base has there, then patch it.",
)
@click.option(
    *("--replace-workers", "renew"),
    is_flag=True,
    help="Replace the workers of `zdpatch run` with new ones that have it.",
)
@consistent_options
@on_limit_option
@click.option("--timeout", "timeout_s", type=Duration(), help="How long the whole push may take.")
@reason_option
@pass_output
def push(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    bundle: Path,
    selector: str,
    plan_only: bool,
    partial: bool,
    yes: bool,
    wait: bool,
    confirm: bool,
    trial_s: float,
    timeout_s: float | None,
    reason: str,
    adopt: tuple[str, ...],
    put_back: tuple[str, ...],
    renew: bool,
    consistent: bool,
    limit_s: float | None,
    on_limit: OnLimit | None,
) -> None:
    """Put BUNDLE into running processes.

    It is staged and planned on every target first; if one refuses, none applies. Then all apply at
    once, on trial: unless somebody confirms, the patch is taken out again when the trial is over.
    With --consistent nothing that has begun before sees both versions.
    """
    wish = Wish(
        plan_only=plan_only,
        partial=partial,
        yes=yes,
        wait=wait,
        confirm=confirm,
        trial_s=trial_s,
        prolong=not confirm and _was_said("trial_s"),
        timeout_s=timeout_s,
        reason=reason,
        adopt=adopt,
        put_back=put_back,
        consistent=consistently(limit_s, on_limit, wanted=consistent),
        renew=renew,
    )
    _check_paths((*adopt, *put_back))
    if renew and (adopt or put_back or partial or consistent):
        raise errors.usage(
            "--replace-workers goes with none of --adopt, --replace, --partial and --consistent"
        )
    if trial_s > MAX_TRIAL_S:
        raise errors.usage(f"a trial lasts at most {show_duration(MAX_TRIAL_S)}")
    if not (yes or plan_only or _can_ask()):
        raise errors.usage(
            "push asks before it changes anything, and there is no terminal to ask on",
            next=f"zdpatch push {bundle} --yes",
        )
    file = read_bundle(bundle)
    agents = find_targets(output, file, selector)
    with Client(timeout_s=wish.request_s) as client:
        output.exit(Push(output, client, file, wish).run(agents))


def _was_said(name: str) -> bool:
    """Whether an option is on the command line."""
    default = click.core.ParameterSource.DEFAULT
    return click.get_current_context().get_parameter_source(name) is not default


def _can_ask() -> bool:
    stdin: IO[str] | None = sys.stdin  # None when it was closed
    return stdin is not None and stdin.isatty()


def _check_paths(paths: tuple[str, ...]) -> None:
    for path in paths:
        if not _PATH.fullmatch(path) or len(path) > 300 or len(paths) > 100:
            raise errors.usage(f"{path!r} is not a path like shop.cart:Cart.total")


def find_targets(output: Output, file: BundleFile, selector: str) -> list[AgentFile]:
    """The agents of the bundle's application that the selector names. Raises ZDP-401."""
    target = file.manifest.target
    parsed = parse_selector(selector)
    wanted = dict(parsed.wanted)
    if "app" not in wanted:
        wanted["app"] = (target.app,)
    if not selector:
        wanted.update({key: (value,) for key, value in target.labels.items()})
    everyone = discover(output.home)
    agents = chosen(everyone, Selector(wanted))
    if not agents and newly_entered(output.home, target.app):
        output.progress(f"waiting   a process of {clean(target.app)} may have just started")
        end = time.monotonic() + BIRTH_S
        while not agents and time.monotonic() < end:
            time.sleep(0.1)
            everyone = discover(output.home)
            agents = chosen(everyone, Selector(wanted))
    if not agents:
        words = ",".join(f"{key}={value}" for key, values in wanted.items() for value in values)
        raise OperatorError(
            "ZDP-401",
            f"of {count(len(everyone), 'agent')} in {output.home}, none is {words}",
            next="zdpatch status",
        )
    return agents


def newly_entered(home: Path, app: str) -> bool:
    """Whether a process may have entered the journal and not opened its socket yet."""
    folder = home / "apps" / app
    newest = 0.0
    for path in (folder, folder / "journal.db", folder / "journal.db-wal"):
        with suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return abs(time.time() - newest) < BIRTH_S


class Push:
    """One push, from the plan to the last word about it."""

    def __init__(self, output: Output, client: Client, file: BundleFile, wish: Wish) -> None:
        self.output = output
        self.client = client
        self.file = file
        self.wish = wish
        self.begun = time.monotonic()
        self.request_s = wish.request_s + probes_s(file.manifest.probes)
        self.services: dict[str, Done] = {}  # whose workers were replaced

    def run(self, agents: Sequence[AgentFile]) -> int:
        """The whole way. Returns the exit code; raises what was refused or failed."""
        targets = fleet.prepare(
            self.client,
            self.file.digest,
            self.file.raw,
            agents,
            adopt=self.wish.adopt,
            put_back=self.wish.put_back,
            consistent=self.wish.consistent is not None,
            timeout_s=self.request_s,
        )
        planned = fleet.count_of(targets, "planned")
        refused = fleet.count_of(targets, "refused")
        if self.wish.renew and (planned or refused):
            return self._renew(targets)
        if refused and (not self.wish.partial or planned == 0):
            raise report.refusal(self.file, targets, otherwise=pushworkers.hint(self, targets))
        if self.wish.plan_only:
            self._result("planned" if planned else "already", targets, report.plan_lines)
            return errors.HAS_CHANGES if planned else errors.DONE
        for line in report.plan_lines(self.output, self.file, targets):
            self.output.progress(line)
        if not planned:
            return self._already(targets)
        if not self._agreed(f"Apply to {count(planned, 'process', 'processes')}"):
            self._result("aborted", targets, report.untouched_lines)
            return errors.ABORTED
        return self._apply(targets)

    def _agreed(self, what: str) -> bool:
        if self.wish.yes:
            return True
        how = "to keep" if self.wish.confirm else f"on trial for {show_duration(self.wish.trial_s)}"
        return click.confirm(f"? {what}, {how}?", default=False, err=True)

    def _renew(self, targets: Sequence[Target]) -> int:
        """New workers have it; what runs now is not touched."""
        if not pushworkers.is_curable(targets):
            raise report.refusal(self.file, targets)
        services = pushworkers.services_of(self.output.home, targets)
        renewal = pushworkers.Renewal(self.output, self.client, self.file, services)
        if self.wish.plan_only:
            self._result("planned", targets, renewal.plan_lines)
            return errors.HAS_CHANGES
        for line in renewal.plan_lines(self.output, self.file, targets):
            self.output.progress(line)
        if not self._agreed(f"Replace the workers of {clean(', '.join(services))}"):
            self._result("aborted", targets, report.untouched_lines)
            return errors.ABORTED
        header = Want(self.file.digest, self.wish.trial_whole_s, self.wish.reason)
        with uninterrupted():
            self.services, until = renewal.run(header, targets, self.request_s)
            keep_copy(self.output.home, self.file)
            targets = renewal.newcomers(until)
            if self.wish.confirm:
                targets = renewal.confirm(targets)
        return self._follow("applied", targets)

    def _already(self, targets: Sequence[Target]) -> int:
        if self.wish.confirm:
            targets = fleet.confirm(self.client, self.file.digest, targets)
        elif self.wish.prolong:
            targets = fleet.prolong(self.client, self._header(), targets)
        if fleet.count_of(targets, "failed"):
            raise report.failure(self.file, targets)
        return self._follow("already", targets)

    def _apply(self, targets: Sequence[Target]) -> int:
        header = self._header()
        with uninterrupted():
            targets = fleet.apply(self.client, header, targets, timeout_s=self.request_s)
            self._check(header, targets)
        if any(target.state == arrivals.ON_THE_WAY for target in targets):
            try:
                with terminated_like_interrupted():
                    told = self.output.progress
                    targets = arrivals.arrive(self.client, header.digest, targets, told)
            except KeyboardInterrupt:
                self.output.progress("Detached; it goes on: zdpatch status --detail")
                return errors.DETACHED
            with uninterrupted():
                self._check(header, targets)
        keep_copy(self.output.home, self.file)
        return self._follow("applied", targets)

    def _check(self, header: Apply, targets: Sequence[Target]) -> None:
        """Raises what failed somewhere, the patch taken out elsewhere."""
        failed = fleet.count_of(targets, "failed", "unknown", "ended")
        if failed and not self.wish.partial:
            raise report.failure(self.file, fleet.undo(self.client, header, targets))

    def _header(self) -> Apply:
        return Apply(
            digest=self.file.digest,
            trial_s=None if self.wish.confirm else self.wish.trial_whole_s,
            confirm=self.wish.confirm,
            reason=self.wish.reason,
            adopt=list(self.wish.adopt),
            replace=list(self.wish.put_back),
            consistent=self.wish.consistent,
        )

    def _follow(self, state: str, targets: Sequence[Target]) -> int:
        code = errors.DONE
        if self.wish.wait and any(target.state == "trial" for target in targets):
            limit = self.wish.timeout_s or 10 * MAX_TRIAL_S
            try:
                with terminated_like_interrupted():
                    targets = fleet.follow(
                        self.client,
                        self.file.digest,
                        targets,
                        deadline=self.begun + limit,
                        changed=lambda target: self.output.progress(report.state_line(target)),
                    )
            except KeyboardInterrupt:
                self.output.progress("Detached; the trial goes on.")
                code = errors.DETACHED
            if fleet.count_of(targets, "reverted"):
                raise report.ended_badly(self.file, targets)
            if code == errors.DONE and any(target.state == "trial" for target in targets):
                code = errors.STILL_GOING
        # A worker that ended during the trial was recycled, unless none is left.
        if fleet.count_of(targets, "ended") == len(targets):
            raise report.all_ended(self.file, targets)
        if any(target.error is not None for target in targets):
            state, code = "partial", errors.DEGRADED
        self._result(state, targets, report.outcome_lines)
        return code

    def _result(self, state: str, targets: Sequence[Target], lines: report.Lines) -> None:
        data: dict[str, object] = {
            "state": state,
            "bundle": report.bundle_json(self.file),
            "targets": [fleet.target_json(target) for target in targets],
            "services": pushworkers.services_json(self.services),
            "took_ms": round((time.monotonic() - self.begun) * 1000, 1),
        }
        self.output.result(SCHEMA, data, lines(self.output, self.file, targets))
