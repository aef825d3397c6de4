"""A process that is none: real journal and trust file, an engine in memory, a clock by hand."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zdpatch.agent import intake, replay, transaction, trials, undo
from zdpatch.agent.audit import Actor
from zdpatch.agent.config import Config, Settings
from zdpatch.agent.here import Here
from zdpatch.agent.home import Home
from zdpatch.agent.identity import Identity, ProcessKey, identify
from zdpatch.agent.journal import Journal
from zdpatch.agent.protocol import Apply, Confirm, Revert, Stage
from zdpatch.agent.verifier import Verifier
from zdpatch.patcher import bundle
from zdpatch.patcher.adoption import NOTHING, Adoption
from zdpatch.patcher.errors import ProcessError, Refused
from zdpatch.patcher.left import Left
from zdpatch.patcher.running import Running
from zdpatch.patcher.source import ModuleChange, Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.conftest import Mint
    from zdpatch.patcher.upkeep import Damage

ALICE = Actor(1000, "alice", 4242)
DAY = 86400


class Clock:
    """Stands still until it is told to go on; both readings move together, unless it is set."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._steady = at - 1_000_000

    def wall(self) -> float:
        """Unix time."""
        return self._at

    def steady(self) -> float:
        """The same steps from another origin."""
        return self._steady

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self._at += seconds
        self._steady += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the time of the day."""
        self._at += seconds


class Gate:
    """Runs something at a named step, or notes the steps that were passed."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}

    def __call__(self, step: str) -> None:
        self.passed.append(step)
        if step in self.at:
            self.at.pop(step)()


@dataclass(frozen=True)
class MemoryPlan:
    """Knows its patch."""

    patch: Patch

    def summary(self) -> msgspec.Struct:
        """As the real one, nearly empty."""
        return msgspec.defstruct("Summary", [("patch", str)], namespace={})(self.patch.id)


@dataclass(frozen=True)
class MemoryOutcome:
    """Of an apply and of a revert."""

    flip_us: float = 1.0
    functions: int = 1
    outstanding: Mapping[str, int] = field(default_factory=dict[str, int])
    born_on_trial: Mapping[str, int] = field(default_factory=dict[str, int])
    notices: Sequence[str] = ()


class MemoryWay(msgspec.Struct, frozen=True):
    """A patch on its way."""

    patch: Patch
    leaves: bool
    group: list[str]
    together: list[str] = []
    turned: bool = False


class MemoryEngine:
    """An engine whose live modules are bytes in a dict: it checks the base, flips and undoes."""

    def __init__(self, modules: Mapping[str, bytes]) -> None:
        self.modules = dict(modules)
        self.fails: Exception | None = None
        self.adoptions: list[Adoption] = []
        self._in: dict[str, Patch] = {}
        self.waits_for: list[str] = []  # what is in the way of a patch that is on its way
        self._way: MemoryWay | None = None

    def plan(
        self, patch: Patch, *, drain_s: float | None = 1.0, adoption: Adoption = NOTHING
    ) -> MemoryPlan:
        """Refuses what is not at its base."""
        del drain_s
        self.adoptions.append(adoption)
        if self.standing(patch) != "base":
            raise Refused("ZDP-201", f"{patch.id}: running code differs from the base")
        return MemoryPlan(patch)

    def apply(self, plan: Any) -> MemoryOutcome:  # noqa: ANN401 - as the protocol says
        """All modules at once."""
        if self.fails is not None:
            raise self.fails
        patch: Patch = plan.patch
        self.modules.update({c.name: c.new for c in patch.changes if c.new is not None})
        self._in[patch.id] = patch
        return MemoryOutcome()

    def revert(self, patch_id: str) -> MemoryOutcome:
        """All modules back."""
        if self.fails is not None:
            raise self.fails
        if patch_id not in self._in:
            raise ProcessError("ZDP-215", f"{patch_id} is not in")
        patch = self._in.pop(patch_id)
        self.modules.update({c.name: c.base for c in patch.changes if c.base is not None})
        return MemoryOutcome()

    def foresee(self, plan: Any) -> MemoryWay:  # noqa: ANN401 - as the protocol says
        """All modules."""
        return MemoryWay(plan.patch, leaves=False, group=[c.name for c in plan.patch.changes])

    def begin(self, plan: Any) -> MemoryWay:  # noqa: ANN401 - as the protocol says
        """Only noted."""
        if self.fails is not None:
            raise self.fails
        self._way = self.foresee(plan)
        return self._way

    def begin_revert(self, patch_id: str) -> MemoryWay:
        """Only noted."""
        if self.fails is not None:
            raise self.fails
        self._way = MemoryWay(self._in[patch_id], leaves=True, group=[])
        return self._way

    def moving(self) -> str | None:
        """As it was noted."""
        return None if self._way is None else self._way.patch.id

    def blockers(self) -> list[str]:
        """As the test says."""
        return list(self.waits_for)

    def finish(self, *, force: bool = False) -> MemoryOutcome | None:
        """All modules at once."""
        way = self._way
        assert way is not None
        if self.waits_for and not force:
            raise ProcessError("ZDP-205", f"{self.waits_for[0]} has not left")
        self._way = None
        if way.turned:
            return None
        return self.revert(way.patch.id) if way.leaves else self.apply(MemoryPlan(way.patch))

    def turn(self) -> None:
        """Only noted."""
        assert self._way is not None
        self._way = msgspec.structs.replace(self._way, turned=True)

    def abort(self) -> None:
        """Nothing was changed."""
        self._way = None

    def active(self) -> tuple[str, ...]:
        """In order."""
        return tuple(self._in)

    def below(self, patch: Patch) -> tuple[str, ...]:
        """By the names of the modules."""
        names = {change.name for change in patch.changes}
        older = list(self._in.values())
        if patch.id in self._in:
            older = older[: list(self._in).index(patch.id)]
        return tuple(p.id for p in older if names & {change.name for change in p.changes})

    def outstanding(self, patch_id: str) -> dict[str, int]:
        """Nothing runs, so nothing is old."""
        assert patch_id in self._in
        return {}

    def left(self, patch_id: str) -> Left:
        """Nothing is left of anything."""
        return Left(runs=[patch_id] if patch_id in self._in else [])

    waits = False

    def set_back(self) -> dict[str, list[str]]:
        """Nobody changes anything."""
        return {}

    def damaged(self) -> Sequence[Damage]:
        """No patch of these has data files."""
        return ()

    mend = damaged

    def settle(self) -> None:
        """Nothing is ever in flight."""

    def running(self, name: str, offered: bytes | None = None, since: float = 0.0) -> Running:
        """What is offered runs."""
        del since
        return Running(name, "no source" if offered is None else "verified", source=offered)

    def standing(self, patch: Patch, adoption: Adoption = NOTHING, since: float = 0.0) -> str:
        """By the bytes."""
        del adoption, since
        have = {change.name: self.modules.get(change.name) for change in patch.changes}
        if all(have[change.name] == change.base for change in patch.changes):
            return "base"
        if all(have[change.name] == change.new for change in patch.changes):
            return "absorbed"
        return "superseded"


BASE = b"VAT = 1\n"
FIXED = b"VAT = 2\n"


@dataclass
class Desk:
    """An operator's desk at one process: what a request would do, without the wire."""

    home: Path
    mint: Mint
    clock: Clock
    engine: MemoryEngine
    gate: Gate
    here: Here
    opened: list[Here] = field(default_factory=list[Here])

    @property
    def vat(self) -> bytes:
        """What the application's one module is now."""
        return self.engine.modules["shop.cart"]

    def fix(self, new: bytes = FIXED, *, base: bytes = BASE, **fields: object) -> bytes:
        """A bundle that brings shop.cart from `base` to `new`."""
        now = int(self.clock.wall())
        made: dict[str, object] = {"created": now - 60, "not_after": now + 30 * DAY, **fields}
        change = ModuleChange("shop.cart", "shop/cart.py", False, base, new)
        return self.mint.bundle("ci", changes=(change,), more=(), **made)

    def stage(self, raw: bytes) -> str:
        """Stage; the digest."""
        digest = bundle.parse_envelope(bundle.unpack(raw).envelope).digest
        return intake.stage(self.here, Stage(digest), raw, ALICE).digest

    def push(self, raw: bytes, *, confirm: bool = False, trial_s: int | None = None) -> str:
        """Stage and apply; the digest."""
        digest = self.stage(raw)
        self.apply(digest, confirm=confirm, trial_s=trial_s)
        return digest

    def apply(self, digest: str, *, confirm: bool = False, trial_s: int | None = None) -> Any:  # noqa: ANN401
        """Apply; the answer."""
        return transaction.apply(self.here, Apply(digest, trial_s, confirm), ALICE)

    def confirm(self, ref: str) -> str:
        """Confirm; the state."""
        return trials.confirm(self.here, Confirm(ref), ALICE).state

    def revert(self, ref: str) -> str:
        """Revert; the state."""
        return undo.revert(self.here, Revert(ref), ALICE).state

    def wanted(self, digest: str) -> str:
        """The state wanted for the application."""
        with self.here.journal.read() as ledger:
            patch = ledger.find(digest)
        return "nothing" if patch is None else patch.state

    def state(self, digest: str) -> str:
        """The state in this process."""
        mine = self.here.mine.get(digest)
        return "nothing" if mine is None else mine.state

    def leave(self) -> None:
        """The process says that it ends."""
        with self.here.journal.write("leave") as ledger:
            ledger.drop_process(self.here.identity.key)
        self.here.journal.close()

    def another(
        self,
        modules: Mapping[str, bytes] | None = None,
        *,
        release: str = "1.4",
        key: ProcessKey | None = None,
        replayed: bool = True,
    ) -> Desk:
        """Another process of the application: a new one, at the start of its life."""
        engine = MemoryEngine({"shop.cart": BASE} if modules is None else modules)
        here = build(self.home, self.clock, engine, self.gate, release, key)
        self.opened.append(here)
        desk = replace(self, engine=engine, here=here)
        if replayed:
            replay.enter(here)
            replay.bring_up(here, 5)
        return desk

    def restart(self, modules: Mapping[str, bytes] | None = None, release: str = "1.4") -> Desk:
        """This process is killed, and starts again."""
        here, key = self.here, self.here.identity.key
        with here.journal.write("leave") as ledger:
            # the row becomes that of a process that is gone
            db: Any = ledger.__dict__["_db"]
            for table in ("processes", "applied"):
                db.execute(f"UPDATE {table} SET ticks = 1 WHERE ticks = ?", (key.ticks,))
        here.journal.close()
        return self.another(modules, release=release)


def build(  # noqa: PLR0917 - the parts of a process
    home: Path,
    clock: Clock,
    engine: MemoryEngine,
    gate: Gate,
    release: str,
    key: ProcessKey | None = None,
) -> Here:
    """One process's parts, with a real journal."""
    identity: Identity = replace(identify("shop", release, {"zone": "a"}), python="cp311")
    if key is not None:
        identity = replace(identity, key=key)
    settings = Settings()
    journal = Journal(home / "apps" / "shop", identity, clock, settings, gate)
    return Here(
        identity=identity,
        journal=journal,
        engine=engine,
        verifier=Verifier(home / "trust.json", identity, journal),
        clock=clock,
        settings=settings,
        gate=gate,
    )


@contextlib.contextmanager
def opened(home: Path, mint: Mint) -> Generator[Desk]:
    """One process of the application "shop", started and entered, in a new home."""
    Home(Config("shop", home, home / "trust.json")).prepare()
    trust = home / "trust.json"
    trust.write_bytes(msgspec.json.encode(mint.policy()))
    trust.chmod(0o600)
    clock, gate = Clock(mint.now), Gate()
    engine = MemoryEngine({"shop.cart": BASE})
    here = build(home, clock, engine, gate, "1.4")
    replay.enter(here)
    replay.bring_up(here, 5)
    made = Desk(home, mint, clock, engine, gate, here, [here])
    try:
        yield made
    finally:
        for one in made.opened:
            one.journal.close()


@pytest.fixture
def desk(tmp_path: Path, mint: Mint) -> Iterator[Desk]:
    """One process of the application "shop", started and entered."""
    with opened(tmp_path / "home", mint) as made:
        yield made


@pytest.fixture
def new_desk(tmp_path: Path, mint: Mint) -> Callable[[], contextlib.AbstractContextManager[Desk]]:
    """Desks, each in a home of its own."""
    return lambda: opened(tmp_path / os.urandom(8).hex(), mint)
