"""Real ROUTER sockets that speak the wire and keep the states of patches, without an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import zmq

from zdpatch.agent import messages, protocol
from zdpatch.agent.home import AgentFile
from zdpatch.agent.identity import ProcessKey, boot_name, creation_time, own_key, start_ticks
from zdpatch.agent.protocol import AgentInfo, PatchRow
from zdpatch.cli.main import main
from zdpatch.patcher.errors import ProcessError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import Mint
    from zdpatch.agent.messages import Request

SILENT: Final = b""
Reply = msgspec.Struct | ZdpatchError | bytes


class PlanSummary(msgspec.Struct):
    """What the engine's plan looks like on the wire."""

    patch: str = "FIX-1"
    verdicts: list[dict[str, object]] = []
    modules: list[str] = []
    functions: int = 1
    steps: int = 1
    heap_scan: bool = False
    notices: list[str] = []
    deferred: list[str] = []


class FakeAgent:
    """Answers every verb as an agent does; `script` replaces the answer to a verb.

    A script returns a result, an error, raw bytes for the body, or `SILENT`.
    """

    def __init__(
        self, home: Path, name: str, app: str, labels: Mapping[str, str], key: ProcessKey
    ) -> None:
        self.name = name
        self.folder = home / "agents" / name
        self.folder.mkdir(parents=True)
        self.script: dict[str, Callable[[Request], Reply]] = {}
        self.heard: list[str] = []
        self.patches: dict[str, PatchRow] = {}
        endpoint = f"ipc://{self.folder / 's'}"
        self.card = AgentFile(
            agent=name,
            app=app,
            release="1.4",
            pid=key.pid,
            started=creation_time(key.ticks),
            ticks=key.ticks,
            boot=key.boot,
            endpoint=endpoint,
            labels=dict(labels),
            python="cp311",
            host="testhost",
        )
        self._stop = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.announce()

    def announce(self) -> None:
        """Write agent.json."""
        (self.folder / "agent.json").write_bytes(msgspec.json.encode(self.card))

    def info(self) -> AgentInfo:
        """What it says about itself."""
        return AgentInfo(
            agent=self.name,
            app=self.card.app,
            release=self.card.release,
            pid=self.card.pid,
            python=self.card.python,
            labels=self.card.labels,
            host=self.card.host,
            user="tester",
            state="ready",
            started=self.card.started,
            zdpatch="0.1.0",
        )

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            sender, *frames = self._socket.recv_multipart()
            request = messages.parse_request(frames)
            self.heard.append(request.verb)
            answer = self.script.get(request.verb, self._answer)(request)
            if answer is SILENT:
                continue
            self._socket.send_multipart([sender, *self._encoded(request, answer)])

    def _encoded(self, request: Request, answer: Reply) -> list[bytes]:
        if isinstance(answer, bytes):
            return [b"ok", request.msgid, answer]
        if isinstance(answer, ZdpatchError):
            return messages.encode_error(self.info(), request.msgid, answer)
        return messages.encode_ok(self.info(), request.msgid, answer)

    def _answer(self, request: Request) -> Reply:
        try:
            return getattr(self, f"on_{request.verb}")(request)  # type: ignore[no-any-return]
        except ZdpatchError as error:
            return error

    def on_status(self, _request: Request) -> Reply:
        """The patches there are."""
        return protocol.StatusResult(list(self.patches.values()), None, [])

    def on_stage(self, request: Request) -> Reply:
        """Keep it, or say that it is here."""
        header = request.header
        assert isinstance(header, protocol.Stage)
        assert request.blob
        row = self.patches.get(header.digest)
        if row is None or row.state not in {"trial", "confirmed"}:
            row = self.put(header.digest, "staged")
        return protocol.StageResult(header.digest, row.id, row.state, until=row.until)

    def on_plan(self, _request: Request) -> Reply:
        """One edit, in place."""
        verdict: dict[str, object] = {
            "path": "shop.cart:price",
            "line": 3,
            "edit": "body",
            "row": "A",
            "reason": "body of a function",
            "remedy": "",
        }
        return PlanSummary(
            verdicts=[verdict],
            modules=["shop.cart"],
            notices=["1 function flips at one instant"],
        )

    def on_apply(self, request: Request) -> Reply:
        """On trial, or confirmed."""
        header = request.header
        assert isinstance(header, protocol.Apply)
        state = "confirmed" if header.confirm else "trial"
        until = None if header.confirm else time.time() + (header.trial_s or 600)
        row = self.put(header.digest, state, until)
        return protocol.ApplyResult(header.digest, row.id, state, until, 12.0, 1, {}, [])

    def on_confirm(self, request: Request) -> Reply:
        """It stays."""
        header = request.header
        assert isinstance(header, protocol.Confirm)
        row = self.put(self.find(header.patch), "confirmed")
        return protocol.ConfirmResult(row.digest, row.id, row.state)

    def on_revert(self, request: Request) -> Reply:
        """It is out."""
        header = request.header
        assert isinstance(header, protocol.Revert)
        row = self.put(self.find(header.patch), "reverted")
        return protocol.RevertResult(row.digest, row.id, row.state, 9.0, {})

    def on_hold(self, request: Request) -> Reply:
        """Held or not."""
        header = request.header
        assert isinstance(header, protocol.Hold)
        return protocol.HoldResult(header.on)

    def on_history(self, request: Request) -> Reply:
        """One row of each kind."""
        header = request.header
        assert isinstance(header, protocol.History)
        row: dict[str, Any] = {"n": 1, "at": 1_700_000_000.0, "pid": 7, "digest": "ab" * 32}
        if header.audit:
            row |= {"user": "anna", "verb": "apply", "patch": "FIX-1", "outcome": "ok"}
            return protocol.HistoryResult([row], intact=True)
        row |= {"id": "FIX-1", "old": "staged", "new": "trial", "by": "anna", "reason": "now"}
        return protocol.HistoryResult([row])

    def find(self, patch: str) -> str:
        """The digest that a patch's id or digest means."""
        for digest, row in self.patches.items():
            if patch in {digest, row.id}:
                return digest
        raise ProcessError("ZDP-212", f"no patch {patch}")

    def put(
        self, digest: str, state: str, until: float | None = None, fixes: str = "CVE-2026-1"
    ) -> PatchRow:
        """Have a patch in this state."""
        row = PatchRow(
            id="FIX-1",
            digest=digest,
            seq=7,
            state=state,
            since=time.time(),
            until=until,
            wanted=state,
            fixes=[fixes],
            origin={"base": "directory", "new": "directory"},
            modules=["shop.cart"],
            signed_by={"ci": ["ab" * 32]},
            reason="",
        )
        self.patches[digest] = row
        return row

    @property
    def states(self) -> list[str]:
        """The states of its patches."""
        return [row.state for row in self.patches.values()]

    def close(self) -> None:
        """Stop answering."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._context.term()


@dataclass
class Fleet:
    """The fake agents of one home."""

    home: Path
    agents: list[FakeAgent] = field(default_factory=list[FakeAgent])

    def add(self, name: str = "", app: str = "shop", **labels: str) -> FakeAgent:
        """One more agent that answers."""
        return self._add(name or f"{app}-{len(self.agents) + 1}", app, labels, own_key())

    def add_for(self, child: subprocess.Popen[bytes]) -> FakeAgent:
        """One that speaks for another process."""
        ticks = start_ticks(child.pid)
        assert ticks is not None
        key = ProcessKey(child.pid, ticks, boot_name())
        return self._add(f"shop-{child.pid}", "shop", {}, key)

    def _add(self, name: str, app: str, labels: Mapping[str, str], key: ProcessKey) -> FakeAgent:
        agent = FakeAgent(self.home, name, app, labels, key)
        self.agents.append(agent)
        return agent

    def add_dead(self, name: str = "dead-1") -> Path:
        """The announcement of a process that has ended."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            ticks = start_ticks(child.pid)
            assert ticks is not None
            pid = child.pid
            child.communicate(b"\n")
        folder = self.home / "agents" / name
        folder.mkdir(parents=True)
        card = AgentFile(
            agent=name,
            app="shop",
            release="1.4",
            pid=pid,
            started=creation_time(ticks),
            ticks=ticks,
            boot=boot_name(),
            endpoint=f"ipc://{folder / 's'}",
            labels={},
            python="cp311",
            host="testhost",
        )
        (folder / "agent.json").write_bytes(msgspec.json.encode(card))
        return folder


@dataclass(frozen=True)
class Ran:
    """What one run of the command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on stdout."""
        value: dict[str, Any] = json.loads(self.out)
        return value

    @property
    def error(self) -> dict[str, Any]:
        """The error object on stdout."""
        value: dict[str, Any] = self.json["error"]
        return value


class Cli:
    """Runs `zdpatch` with a home: in this process, or as a process of its own."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ran:
        """Run it here."""
        code = main(["--home", str(self.home), *(str(one) for one in arguments)])
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def process(self, *arguments: str | Path, cwd: Path | None = None, **env: str) -> Ran:
        """Run it as a process, without a terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "zdpatch.cli.main", *(str(one) for one in arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env={**os.environ, "ZDPATCH_HOME": str(self.home), **env},
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="zdp-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fleet(home: Path) -> Iterator[Fleet]:
    """Fake agents; stopped at the end."""
    made = Fleet(home)
    yield made
    for agent in made.agents:
        agent.close()


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command."""
    return Cli(home, capsys)


@pytest.fixture
def bundle(mint: Mint, tmp_path: Path) -> Path:
    """A signed bundle for `shop`."""
    path = tmp_path / "fix.zdp"
    path.write_bytes(mint.bundle("ci"))
    return path
