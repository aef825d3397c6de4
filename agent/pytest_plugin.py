"""A team's own suite in a process that was patched while it ran: `pytest --zdpatch fix.zdp`.

Every run begins as the base: what the patch changes is imported from the patch's base source,
whatever is installed. In mode "live" those modules are then patched in place; in mode "fresh" they
come from the new source, as after a restart. Either way the suite runs on what is there then. The
bundle is taken as it is, like the tests themselves: nobody's signature is asked for.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import pytest

from zdpatch.agent import local
from zdpatch.patcher import bundle, manifest
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zdpatch.agent.local import Tree
    from zdpatch.patcher.engine import Applied
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import Patch

MODES: Final = ("live", "fresh")
_LEADER: Final = "ZDPATCH_PYTEST_LEADER"  # in the environment: the process whose workers these are
_STATE: Final = pytest.StashKey["_Session"]()
HotPatch = "Callable[..., Applied]"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --zdpatch and what belongs to it."""
    group = parser.getgroup("zdpatch", "run the suite in a process that was hot-patched")
    group.addoption("--zdpatch", metavar="BUNDLE", help="Patch this process with a .zdp bundle.")
    group.addoption(
        "--zdpatch-mode",
        choices=MODES,
        default="live",
        help="live: from base to new in place (default); fresh: new from the start.",
    )
    group.addoption(
        "--zdpatch-when",
        choices=("start", "collected"),
        default="start",
        help="Patch before test modules are imported (default), or after: they hold old names.",
    )
    group.addoption("--zdpatch-report", metavar="FILE", help="Write what happened there, as JSON.")
    group.addoption("--zdpatch-seed", type=int, metavar="N", help="The seed of pytest-randomly.")


@dataclass(eq=False)
class _Session:
    """One run: what it was asked for, and what became of it.

    `leads`: workers of xdist run the tests, and this process what they tell of them.
    """

    patch: Patch
    mode: str
    when: str
    report: Path | None
    leads: bool
    plan: Plan | None = None
    told: dict[str, object] = field(default_factory=dict[str, object])
    outcomes: dict[str, str] = field(default_factory=dict[str, str])

    def begin(self) -> None:
        """Import what the patch changes, from the side that this run begins with."""
        live = self.mode == "live"
        local.serve(self.patch, new=not live)
        if live:
            self.told["not_imported"] = _import_all(self.patch)

    def go_live(self, when: str) -> None:
        """Patch in place, if this is when. Raises pytest.UsageError when the patch is refused."""
        if self.mode != "live" or self.when != when:
            return
        try:
            self.plan = local.plan(self.patch)
            applied = local.apply(self.plan)
        except ZdpatchError as error:
            self.told["refused"] = _refusal(error)
            self.write()
            raise pytest.UsageError(f"{error.code}: {error.cause}") from error
        self.told["applied"] = {
            "functions": applied.functions,
            "flip_us": applied.flip_us,
            "outstanding": applied.outstanding,
            "notices": applied.notices,
        }

    def write(self) -> None:
        """Write the report, if one is wanted."""
        if self.report is None:
            return
        stale = {} if self.plan is None else local.engine().left(self.patch.id).functions
        told = {"mode": self.mode, "stale": stale, "outcomes": self.outcomes, **self.told}
        if self.leads:
            told |= _of_workers(self.report)
        self.report.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def _of_workers(report: Path) -> dict[str, object]:
    """What the workers of a run wrote beside its report, as if they were one process."""
    one: dict[str, object] = {}
    stale: dict[str, int] = {}
    for path in sorted(report.parent.glob(f"{report.name}.*")):
        told = json.loads(path.read_text())
        path.unlink()
        stale |= told["stale"]
        one |= {key: told[key] for key in ("applied", "refused", "not_imported") if key in told}
    return {**one, "stale": stale}


def _refusal(error: ZdpatchError) -> dict[str, object]:
    verdicts = [
        {"path": one.path, "line": one.line, "row": one.row, "reason": one.reason}
        for one in getattr(error, "verdicts", ())
        if one.row != "A"
    ]
    return {"code": error.code, "cause": error.cause, "verdicts": verdicts}


def _import_all(patch: Patch) -> dict[str, str]:
    """Import every base module of `patch`; those which cannot be imported here, with the reason."""
    failed: dict[str, str] = {}
    for change in patch.changes:
        if change.base is None or change.name.rpartition(".")[2] == "__main__":
            continue
        try:
            import_module(change.name)
        except Exception as error:  # noqa: BLE001 - an optional dependency of the module is not here
            failed[change.name] = f"{type(error).__name__}: {error}"
    return failed


def _read(path: Path) -> Patch:
    try:
        claimed, container = bundle.read_unverified(path.read_bytes())
    except (OSError, ZdpatchError) as error:
        raise pytest.UsageError(f"--zdpatch: {path}: {error}") from error
    return manifest.patch_of(claimed, container.blobs)


def _worker() -> str:
    """The name of this worker of xdist, which tells it before arguments are read; "" for others,
    those that a worker's tests start too.
    """
    led = os.environ.get(_LEADER) == str(os.getppid())
    return os.environ.get("PYTEST_XDIST_WORKER", "") if led else ""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Take the base's place before any conftest imports it."""
    wanted = early_config.known_args_namespace
    if wanted.zdpatch is None:
        return
    worker = _worker()
    leads = not worker and bool(getattr(wanted, "numprocesses", None))
    if leads:
        os.environ[_LEADER] = str(os.getpid())
    report: str | None = wanted.zdpatch_report
    state = early_config.stash[_STATE] = _Session(
        _read(Path(wanted.zdpatch)),
        wanted.zdpatch_mode,
        wanted.zdpatch_when,
        None if report is None else Path(f"{report}.{worker}" if worker else report).absolute(),
        leads=leads,
    )
    state.begin()
    state.go_live("start")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Listen to the results of this run; give the order of its tests the seed that is wanted."""
    seed = config.getoption("zdpatch_seed")
    if seed is not None and config.getoption("randomly_seed", None) == "default":
        config.option.randomly_seed = seed
    if (state := config.stash.get(_STATE, None)) is not None:
        config.pluginmanager.register(_Listener(state), "zdpatch-listener")


class _Listener:
    """Hooks of a run with --zdpatch."""

    def __init__(self, state: _Session) -> None:
        self._state = state

    def pytest_collection_finish(self) -> None:
        """Patch now, when the test modules shall hold names of the base."""
        self._state.go_live("collected")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be collected counts like a failed test."""
        if report.failed:
            self._state.outcomes[report.nodeid] = "error"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of set-up, call and tear-down."""
        outcomes = self._state.outcomes
        known = outcomes.get(report.nodeid, "passed")
        if report.when == "call" or report.outcome != "passed":
            outcomes[report.nodeid] = str(report.outcome) if known == "passed" else known

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Look what still runs old code at the end, and write all of it down."""
        self._state.write()

    def pytest_report_header(self) -> str:
        """Say what this process runs."""
        state = self._state
        return f"zdpatch: {state.patch.id} ({state.mode})"


@pytest.fixture
def hot_patch() -> Iterator[Callable[..., Applied]]:
    """Patches this very process: `hot_patch(base, new)` with two import roots, or
    `hot_patch("fix.zdp")`. What it did is taken back after the test, the last patch first.

    Raises Refused with verdicts, and ProcessError; then nothing was changed.
    """
    active: list[str] = []

    def go(base: Tree, new: Tree | None = None, *, id: str = "TEST") -> Applied:
        patch = _read(Path(cast("str", base))) if new is None else None
        patch = patch or local.make_patch(base, cast("Tree", new), id=f"{id}-{len(active) + 1}")
        applied = local.apply(local.plan(patch))
        active.append(patch.id)
        return applied

    yield go
    for one in reversed(active):
        if one in local.engine().active():  # a test may have taken it back itself
            local.revert(one)
