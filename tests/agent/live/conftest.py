"""Real processes with real agents, and an operator at their sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pytest
import zmq

from zdpatch.agent import messages
from zdpatch.agent.home import AgentFile, read_agents
from zdpatch.agent.identity import start_ticks
from zdpatch.agent.protocol import AgentInfo  # noqa: TC001 - msgspec reads it
from zdpatch.patcher import bundle
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.conftest import Mint
    from zdpatch.agent.protocol import Header

T = TypeVar("T")
CHILD = Path(__file__).parent / "child.py"
DAY = 86400


def shop_source(vat: int) -> bytes:
    """The application's module, with a function that returns `vat`."""
    return f"def vat():\n    return {vat}\n".encode()


class Answer(msgspec.Struct):
    """A reply, taken apart; `code` is "ok" or an error id."""

    agent: AgentInfo
    result: dict[str, Any]
    code: str
    cause: str


class Operator:
    """A person at the socket of one agent."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def ask(
        self,
        header: Header,
        blob: bytes | None = None,
        timeout_s: float = 20,
        unless: Child | None = None,
    ) -> Answer:
        """One request, one answer; none, and a TimeoutError, when `unless` has ended."""
        msgid = os.urandom(16)
        return self.raw(messages.encode_request(header, msgid, blob), msgid, timeout_s, unless)

    def raw(
        self,
        frames: list[bytes],
        msgid: bytes,
        timeout_s: float = 20,
        unless: Child | None = None,
    ) -> Answer:
        """Any frames, one answer."""
        self.socket.send_multipart(frames)
        deadline = time.monotonic() + timeout_s
        while not self.socket.poll(100 if unless else int(timeout_s * 1000)):
            ended = unless is not None and unless.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise TimeoutError("no answer")
        reply = messages.parse_reply(self.socket.recv_multipart(), msgid)
        result: dict[str, Any] = {}
        if reply.result is not None:
            result = msgspec.json.decode(reply.result)
        if reply.error is None:
            return Answer(reply.agent, result, "ok", "")
        return Answer(reply.agent, result, reply.error.code, reply.error.cause)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self._context.term()


class Child:
    """One process of the shop."""

    def __init__(
        self, site: Site, command: list[str], spec: dict[str, Any], env: Mapping[str, str]
    ) -> None:
        self.site = site
        self.log = site.root / "stderr"
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def read(self) -> Any:  # noqa: ANN401 - whatever the line was
        """The next line it prints; None when it is dead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def tell(self, line: str) -> Any:  # noqa: ANN401 - whatever the line was
        """Let it run a line; the value."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def kill(self) -> None:
        """From outside, without a word."""
        self.process.kill()
        self.process.wait(timeout=20)

    def end(self) -> int:
        """Let it end by itself; its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=20)

    def close(self) -> None:
        """End it and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(timeout=20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def door(self) -> AgentFile:
        """Its agent's file, once it is there."""
        return self.site.door(self.pid)


class Site:
    """One home, one tree of sources, and processes that share them."""

    def __init__(self, root: Path, mint: Mint) -> None:
        self.root, self.mint = root, mint
        self.home, self.tree = root / "home", root / "tree"
        self.home.mkdir(mode=0o700)
        (self.tree / "shop").mkdir(parents=True)
        (self.tree / "shop" / "__init__.py").write_bytes(b"")
        self.write(1)
        end = int(time.time()) + 365 * DAY
        keys = {mint.keyid(n): mint.trusted(n, not_after=end) for n in ("ci", "alice", "bob")}
        self.trust(keys=keys)
        self._keys = keys
        self.others: list[subprocess.Popen[bytes]] = []
        self._children: list[Child] = []
        self._operators: list[Operator] = []

    def write(self, vat: int) -> None:
        """Deploy another version of the module."""
        (self.tree / "shop" / "cart.py").write_bytes(shop_source(vat))

    def trust(self, **fields: object) -> None:
        """Write the trust file."""
        path = self.home / "trust.json"
        path.write_bytes(msgspec.json.encode(self.mint.policy(**fields)))
        path.chmod(0o600)

    def revoke(self, digest: str) -> None:
        """Revoke a bundle in the trust file."""
        self.trust(keys=self._keys, revoked=[digest])

    def fix(
        self, new: int = 2, base: int = 1, *, more: Iterable[bytes] = (), **fields: object
    ) -> tuple[str, bytes]:
        """A signed bundle that makes vat() return `new`, and its digest. `more`: blobs in it."""
        return self.patch(shop_source(base), shop_source(new), more=more, **fields)

    def patch(
        self, base: bytes, new: bytes, *, more: Iterable[bytes] = (), **fields: object
    ) -> tuple[str, bytes]:
        """A signed bundle that changes the module's source so, and its digest."""
        now = int(time.time())
        made: dict[str, object] = {"created": now - 60, "not_after": now + 30 * DAY, **fields}
        change = ModuleChange("shop.cart", "shop/cart.py", False, base, new)
        raw: bytes = self.mint.bundle("ci", changes=(change,), more=more, **made)
        return bundle.parse_envelope(bundle.unpack(raw).envelope).digest, raw

    def start(
        self,
        *,
        kill: str = "",
        full: str = "",
        now: bool = True,
        release: str = "1.4",
        env: Mapping[str, str] | None = None,
        command: list[str] | None = None,
        uid: int = 0,
        **settings: float,
    ) -> Child:
        """A process; it has read its first line when this returns (or died at a step)."""
        spec: dict[str, Any] = {
            "home": str(self.home),
            "tree": str(self.tree),
            "kill": kill,
            "full": full,
            "now": now,
            "release": release,
            "uid": uid,
            "settings": settings,
        }
        child = Child(self, command or [sys.executable, str(CHILD)], spec, env or {})
        self._children.append(child)
        child.read()
        return child

    def door(self, pid: int) -> AgentFile:
        """The file of the agent in process `pid`, once it is there."""
        return self.eventually(lambda: next((a for a in self.agents() if a.pid == pid), None))

    def agents(self) -> list[AgentFile]:
        """Every agent of the home whose process lives."""
        return [a for a in read_agents(self.home) if start_ticks(a.pid) == a.ticks]

    def operator(self, child: Child | AgentFile) -> Operator:
        """Someone who talks to the agent of `child`."""
        door = child if isinstance(child, AgentFile) else child.door()
        operator = Operator(door.endpoint)
        self._operators.append(operator)
        return operator

    def sees(self, pid: int) -> str:
        """What a telling child saw last."""
        path = self.tree / f"sees-{pid}"
        return path.read_text() if path.exists() else ""

    @staticmethod
    def eventually(look: Callable[[], T | None], within_s: float = 20) -> T:
        """The first true value of `look`."""
        end = time.monotonic() + within_s
        while not (value := look()):
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)
        return value

    def close(self) -> None:
        """End everything."""
        for operator in self._operators:
            operator.close()
        for child in self._children:
            child.close()
        for other in self.others:
            other.terminate()
            other.wait(timeout=20)


def run(code: str, **env: str) -> Any:  # noqa: ANN401 - whatever it printed
    """The last line that a fresh interpreter prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env},
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def site(tmp_path: Path, mint: Mint) -> Iterator[Site]:
    """A home and a tree of the application "shop"."""
    made = Site(tmp_path, mint)
    yield made
    made.close()


@pytest.fixture
def open_site(mint: Mint) -> Iterator[Site]:
    """A site that only the agent's own directories keep people out of: pytest's are private."""
    with tempfile.TemporaryDirectory(prefix="zdpatch-test-") as name:
        root = Path(name)
        root.chmod(0o711)
        made = Site(root, mint)
        yield made
        made.close()
