"""What a push has to say, in words and as JSON: which targets, what changes, how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from zdpatch.cli import fleet
from zdpatch.cli.bundlefile import contents
from zdpatch.cli.client import label
from zdpatch.cli.errors import FleetError
from zdpatch.cli.output import Output, clean, count, table
from zdpatch.cli.verdicts import ROWS
from zdpatch.patcher.errors import UNCHANGED, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zdpatch.cli.bundlefile import BundleFile
    from zdpatch.cli.fleet import Target
    from zdpatch.patcher.errors import ZdpatchError

    Lines: TypeAlias = Callable[[Output, BundleFile, Sequence[Target]], Iterable[str]]

_WRONG: Final = frozenset({"failed", "unknown", "stuck", "ended"})
MAX_ROWS: Final = 40  # of one list; the rest is counted


def bundle_json(file: BundleFile) -> dict[str, object]:
    """The bundle of a push as `--json` shows it."""
    manifest = file.manifest
    return {
        "id": manifest.id,
        "digest": file.digest,
        "seq": manifest.seq,
        "app": manifest.target.app,
        "fixes": list(manifest.fixes),
        "modules": [entry.name for entry in manifest.modules],
        "data": [entry.path for entry in manifest.data],
        "origin": {"base": manifest.origin.base, "new": manifest.origin.new},
    }


def plan_lines(output: Output, file: BundleFile, targets: Sequence[Target]) -> list[str]:
    """The plan for people: what goes where, edit by edit."""
    manifest = file.manifest
    facts = [
        manifest.id,
        f"seq {manifest.seq}",
        f"sha256:{file.digest[:12]}",
        contents(manifest),
        *(["fixes " + ", ".join(manifest.fixes)] if manifest.fixes else []),
    ]
    pids = ", ".join(str(target.ref.pid) for target in targets[:8])
    more = f" and {len(targets) - 8} more" if len(targets) > 8 else ""
    lines = [
        f"bundle    {clean('  '.join(facts))}",
        f"from      {clean(manifest.origin.base)} -> {clean(manifest.origin.new)}",
        f"targets   {count(len(targets), 'process', 'processes')}"
        f" of {clean(manifest.target.app)}: pid {pids}{more}",
    ]
    rows = _shortened(table(_plan_rows(targets)))
    lines += [f"{'plan' if i == 0 else '':10}{row}" for i, row in enumerate(rows)]
    for state in sorted({target.state for target in targets if target.outcome == "already"}):
        number = sum(t.outcome == "already" and t.state == state for t in targets)
        lines.append(f"already   {state} in {number} of {len(targets)}")
    for target in targets:
        if target.error is not None:
            refused = f"{label(target.ref)}  {target.error.code}  {clean(target.error.cause)}"
            lines.append(output.paint(f"refused   {refused}", "red"))
    return lines


def _plan_rows(targets: Sequence[Target]) -> list[tuple[str, str, str]]:
    """Rows over all targets, each once: (what, where, words)."""
    rows: dict[tuple[str, str, str], None] = {}
    for target in targets:
        if target.plan is None:
            continue
        for verdict in target.plan.verdicts:
            words = ROWS.get(verdict.row, verdict.row)
            rows[words, verdict.path, verdict.edit] = None
        for module in target.plan.deferred:
            rows["at import", module, "not imported yet; served patched when it is"] = None
        for notice in (*target.plan.notices, *target.warnings):
            rows["note", notice, ""] = None
    scans = [t.plan for t in targets if t.plan is not None and t.plan.heap_scan]
    if scans:
        most = max(scans, key=lambda plan: plan.heap_ms)
        words = f"{most.heap_objects:,} objects looked at; all threads stop for {most.heap_ms} ms"
        rows["heap", words, ""] = None
    for target in targets:
        for row in _consistent_rows(target):
            rows[row] = None
    return list(rows)


def _consistent_rows(target: Target) -> Iterable[tuple[str, str, str]]:
    """What a consistent push has to say of a plan."""
    found = None if target.plan is None else target.plan.consistent
    if found is None:
        return
    yield "dispatched", ", ".join(found.group), "until what runs the old code has ended"
    for why in found.together:
        yield "together", why, "all flips in one instant in which nobody is inside"
    for path, names in found.callers.items():
        yield "called by", f"{path}: {', '.join(names)}", "may see both, outside of requests"


def outcome_lines(output: Output, file: BundleFile, targets: Sequence[Target]) -> list[str]:
    """How a push ended, for people."""
    lines: list[str] = []
    applied = [target for target in targets if target.outcome == "applied"]
    if applied:
        flips = [target.applied.flip_us for target in applied if target.applied is not None]
        took = f"  flip {max(flips):.0f} µs" if flips else ""
        done = f"applied   {len(applied)}/{len(targets)}{took}"
        lines.append(output.paint(done, "green", bold=True))
    already = fleet.count_of(targets, "already")
    if already:
        lines.append(f"already   {already}/{len(targets)}")
    for target in targets:
        if target.error is not None:
            code, cause = target.error.code, clean(target.error.cause)
            lines.append(output.paint(f"{target.outcome:10}{code}  {cause}", "red"))
        if target.applied is not None and target.applied.outstanding:
            lines.append(f"still old {label(target.ref)}: {_outstanding(target)}")
    lines += [f"note      {clean(notice)}" for notice in _notices(targets)]
    on_trial = [target for target in targets if target.state == "trial"]
    if on_trial:
        ends = [target.until for target in on_trial if target.until is not None]
        until = f" until {clock(min(ends))}" if ends else ""
        lines.append(f"trial     {len(on_trial)}/{len(targets)}{until}, then it reverts by itself")
        patch = file.manifest.id
        keep, out = f"zdpatch confirm {patch}", f"zdpatch rollback {patch}"
        lines += ["", f"Keep it:  {keep}        Take it out:  {out}"]
    return lines


def _outstanding(target: Target) -> str:
    assert target.applied is not None
    running = sorted(target.applied.outstanding.items())
    return ", ".join(f"{clean(path)} ({number})" for path, number in running[:6])


def _notices(targets: Sequence[Target]) -> list[str]:
    """What agents remarked when they applied and had not said in the plan."""
    said = {notice for target in targets if target.plan for notice in target.plan.notices}
    notices = [n for target in targets if target.applied for n in target.applied.notices]
    return [notice for notice in dict.fromkeys(notices) if notice not in said]


def untouched_lines(_output: Output, _file: BundleFile, _targets: Sequence[Target]) -> list[str]:
    """The person said no."""
    return [UNCHANGED]


def state_line(target: Target) -> str:
    """One change of state, as a line for logs."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    return f"{now} {label(target.ref)} state={target.state or target.outcome}"


def clock(second: float) -> str:
    """A time of day here, with the date when it is not today."""
    then = datetime.fromtimestamp(second).astimezone()
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def refusal(file: BundleFile, targets: Sequence[Target], *, otherwise: str = "") -> ZdpatchError:
    """The error for a push that some target refused before anything was changed anywhere.

    `otherwise`: the command that goes another way.
    """
    refused = [target for target in targets if target.error is not None]
    willing = len(targets) - len(refused)
    state = UNCHANGED if willing == 0 else f"{UNCHANGED} {willing} of {len(targets)} would take it."
    partial = f"zdpatch push {file.path} --partial" if fleet.count_of(targets, "planned") else ""
    return _combined(targets, refused, state=state, next=otherwise or partial)


def failure(file: BundleFile, targets: Sequence[Target]) -> ZdpatchError:
    """The error for a push that failed somewhere while it was applied and was undone elsewhere."""
    # one that answered late was taken out with the others, and is why they were
    failed = [t for t in targets if t.outcome in _WRONG or t.error is not None]
    stuck = fleet.count_of(targets, "stuck")
    reverted = fleet.count_of(targets, "reverted")
    follow = f"zdpatch status; zdpatch rollback {file.manifest.id}"
    if stuck:
        where = ", ".join(label(target.ref) for target in targets if target.outcome == "stuck")
        state = f"Old everywhere but in {where}: what runs there must be looked at."
        return _combined(targets, failed, state=state, code="ZDP-305", next=follow)
    said = " ".join(_said(failed))
    if reverted == 0:
        return _combined(targets, failed, state=said or _before(targets), next="zdpatch status")
    state = f"Taken out again of {count(reverted, 'process', 'processes')}"
    if said:
        state = f"{state}. {said}"
        return _combined(targets, failed, state=state, code="ZDP-305", next=follow)
    state = f"{state}; old code everywhere."
    return _combined(targets, failed, state=state, code="ZDP-502", next="zdpatch history")


def _said(failed: Sequence[Target]) -> list[str]:
    """What processes that failed say of their state, where that is not as it was before."""
    errors = [target.error for target in failed if target.error is not None]
    states = [error.state for error in errors if error.code != fleet.NO_ANSWER]
    return [clean(state) for state in dict.fromkeys(states) if state not in ("", UNCHANGED)]


def _before(targets: Sequence[Target]) -> str:
    if ended := fleet.count_of(targets, "ended"):
        number = count(ended, "process", "processes")
        return f"{number} ended; what is started instead is as the journal says."
    already = fleet.count_of(targets, "already")
    return f"As before: in {already} of {len(targets)}." if already else UNCHANGED


def ended_badly(file: BundleFile, targets: Sequence[Target]) -> ZdpatchError:
    """The error for a trial that ended with the patch taken out."""
    out = [target for target in targets if target.outcome == "reverted"]
    here = fleet.count_of(targets, "applied", "already") - sum(t.state == "trial" for t in targets)
    where = ", ".join(label(target.ref) for target in out)
    if here:
        return FleetError(
            "ZDP-305",
            f"{file.manifest.id} was taken out of {where}, and stays in {here} others",
            [fleet.target_json(target) for target in targets],
            state="Some processes run old code, some new.",
            next="zdpatch status",
        )
    return FleetError(
        "ZDP-501",
        f"nobody confirmed {file.manifest.id}, or it was taken out: {where}",
        [fleet.target_json(target) for target in targets],
        state="Old code everywhere.",
        next=f"zdpatch history   and again:  zdpatch push {file.path}",
    )


def all_ended(file: BundleFile, targets: Sequence[Target]) -> ZdpatchError:
    """The error for a trial of which no process is left."""
    patch, where = file.manifest.id, ", ".join(label(target.ref) for target in targets)
    return FleetError(
        "ZDP-305",
        f"every process that had {patch} on trial ended: {where}",
        [fleet.target_json(target) for target in targets],
        state="A process that starts before the trial is over brings it up again, on trial.",
        next=f"zdpatch status   and  zdpatch rollback {patch}",
    )


def _combined(
    targets: Sequence[Target],
    wrong: Sequence[Target],
    *,
    state: str,
    code: str = "",
    next: str = "",
) -> ZdpatchError:
    """One error out of many: causes grouped, the id of the first by number unless one is given."""
    causes: dict[tuple[str, str], list[Target]] = {}
    for target in wrong:
        assert target.error is not None
        causes.setdefault((target.error.code, target.error.cause), []).append(target)
    order = sorted(causes)
    first = causes[order[0]][0].error
    assert first is not None
    title = code or first.code
    lines: list[str] = []
    for one_code, cause in order:
        group = causes[one_code, cause]
        who = ", ".join(label(target.ref) for target in group[:6])
        rest = f" and {len(group) - 6} more" if len(group) > 6 else ""
        prefix = "" if one_code == title else f"{one_code}: "
        if len(targets) > 1:
            lines.append(f"{len(group)} of {len(targets)}: {who}{rest}")
        lines.append(f"{prefix}{clean_lines(cause)}")
    return FleetError(
        title,
        "\n".join(lines),
        [fleet.target_json(target) for target in targets],
        verdicts=first.verdicts if isinstance(first, Refused) else (),
        state=state,
        next=next or first.next,
    )


def clean_lines(text: str) -> str:
    """`text` cleaned line by line."""
    return "\n".join(clean(line) for line in text.splitlines())


def _shortened(rows: list[str]) -> list[str]:
    if len(rows) <= MAX_ROWS:
        return rows
    return [*rows[:MAX_ROWS], f"and {len(rows) - MAX_ROWS} more (--json has all)"]
