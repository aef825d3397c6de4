"""Peers and shortages cost a connection, never the service."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from zdpatch.agent import zmtp
from zdpatch.agent.messages import encode_request
from zdpatch.agent.protocol import Apply, Hello, Stage

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.agent.live.conftest import Child, Site

pytestmark = pytest.mark.e2e

MIB = 1 << 20


@contextlib.contextmanager
def connected(child: Child) -> Generator[socket.socket]:
    """A peer that speaks the protocol byte by byte."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(child.door().endpoint.removeprefix("ipc://"))
        stream.settimeout(10)
        stream.sendall(zmtp.GREETING + zmtp.READY.replace(b"ROUTER", b"DEALER"))
        yield stream


def megabytes(child: Child) -> float:
    """What the process holds."""
    return psutil.Process(child.pid).memory_info().rss / MIB


def test_no_descriptors_left(site: Site) -> None:
    """A service that ran out of open files lives on, and answers when it has some again."""
    child = site.start()
    operator = site.operator(child)
    assert operator.ask(Hello()).code == "ok"
    child.tell("import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
    child.tell("held = []")
    child.tell("exec('try:\\n while 1: held.append(os.dup(0))\\nexcept OSError: pass')")
    late = site.operator(child)
    with pytest.raises(TimeoutError):
        late.ask(Hello(), timeout_s=1)
    assert child.tell("1 + 1") == 2
    child.tell("[os.close(number) for number in held] and None")
    assert site.operator(child).ask(Hello()).code == "ok"


@pytest.mark.parametrize("name", ["agent.json", "s"])
def test_somebody_cleans_up(site: Site, name: str) -> None:
    """A patched process that lost its socket, or the file that tells of it, makes both anew."""
    child = site.start()
    digest, raw = site.fix()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    operator.ask(Apply(digest, confirm=True))
    listing = site.home / "agents" / child.door().agent
    (listing / name).unlink()
    site.eventually(lambda: all((listing / each).exists() for each in ("agent.json", "s")))
    assert site.operator(child).ask(Hello()).agent.pid == child.pid


STARTS = """
import os, resource, sys, time
from zdpatch import agent
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
held = []
try:
    while True:
        held.append(os.open("/dev/null", 0))
except OSError:
    pass
for _ in range(int(sys.argv[2])):
    os.close(held.pop())
handle = agent.start("shop", release="1.4", home=sys.argv[1], now=True)
print(handle.status()["state"], flush=True)
child = os.fork() if sys.argv[3:] else 0
for number in held:
    os.close(number)
end = time.monotonic() + 20
while handle.status()["state"] != "ready" and time.monotonic() < end:
    time.sleep(0.05)
print(handle.status()["state"], flush=True)
handle.stop()
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("left", [0, 1, 2, 4])
def test_no_descriptors_at_the_start(tmp_path: Path, left: int) -> None:
    """The start never raises; the agent is there as soon as there is something to start with."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS, str(tmp_path / "home"), str(left)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    first, last = done.stdout.split()
    assert first in {"retrying", "starting"}
    assert last == "ready", done.stderr


@pytest.mark.parametrize("left", [0, 2])
def test_no_descriptors_at_a_fork(tmp_path: Path, left: int) -> None:
    """A worker that is forked meanwhile has an agent too, as soon as there is enough for one."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS, str(tmp_path / "home"), str(left), "fork"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # two processes write at once, and their lines may run together
    assert "".join(done.stdout.split()) == "retryingreadyready", done.stderr


def test_no_descriptors_for_long(site: Site) -> None:
    """The log hears once that nobody can come in, not at each attempt."""
    child = site.start(accept_pause_s=0.01)
    assert site.operator(child).ask(Hello()).code == "ok"
    child.tell("import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
    child.tell("held = []")
    child.tell("exec('try:\\n while 1: held.append(os.dup(0))\\nexcept OSError: pass')")
    late = site.operator(child)
    with pytest.raises(TimeoutError):
        late.ask(Hello(), timeout_s=1)
    assert child.log.read_text().count("nobody can reach the agent") == 1


def test_many_connections_of_one_user(site: Site) -> None:
    """One user holds so many connections and no more; the process has room for its own work."""
    child = site.start()
    operator = site.operator(child)
    assert operator.ask(Hello()).code == "ok"
    before = psutil.Process(child.pid).num_fds()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(OSError):
                stack.enter_context(connected(child))
        assert operator.ask(Hello()).code == "ok"
        assert psutil.Process(child.pid).num_fds() <= before + 32
    site.eventually(lambda: site.operator(child).ask(Hello(), timeout_s=5).code == "ok")


def test_a_connection_that_says_nothing_ends(site: Site) -> None:
    """Who does not say what it is within two seconds is let go."""
    child = site.start()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(child.door().endpoint.removeprefix("ipc://"))
        stream.settimeout(10)
        while stream.recv(4096):
            pass


def test_a_message_without_end(site: Site) -> None:
    """Frame after frame of one message: nothing is stored, and the connection ends."""
    child = site.start()
    operator = site.operator(child)
    operator.ask(Hello())
    before = megabytes(child)
    frame = b"\x03" + (4 * MIB).to_bytes(8) + bytes(4 * MIB)
    with connected(child) as stream, contextlib.suppress(OSError):
        for _ in range(50):
            stream.sendall(frame)
    assert megabytes(child) < before + 48
    assert operator.ask(Hello()).code == "ok"


def test_a_peer_that_never_reads(site: Site) -> None:
    """Requests without end from a peer that takes no answer fill its own buffers, not ours."""
    child = site.start()
    operator = site.operator(child)
    operator.ask(Hello())
    before = megabytes(child)
    digest, _ = site.fix()
    request = zmtp.encode(encode_request(Stage(digest), os.urandom(16), bytes(7 * MIB)))
    with connected(child) as stream:
        stream.setblocking(False)
        end = time.monotonic() + 3
        # The agent may also drop such a peer: that is as good.
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end and select.select([], [stream], [], 0.5)[1]:
                with contextlib.suppress(BlockingIOError):
                    stream.send(request)
        assert operator.ask(Hello()).code == "ok"
    assert megabytes(child) < before + 64


NOBODY, OPERATORS = 65534, 61234
HOLD = """
import os, socket, sys
from zdpatch.agent import zmtp
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]))
held = []
for _ in range(4):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(sys.argv[1])
    held.append(stream)
    try:
        stream.sendall(zmtp.GREETING + zmtp.READY.replace(b"ROUTER", b"DEALER"))
        stream.sendall(b"\\x02" + (8 << 20).to_bytes(8) + bytes((8 << 20) - 10))
    except OSError:
        pass
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_one_user_holds_all_it_can(open_site: Site) -> None:
    """An operator whose requests never end shuts nobody out, nor fills the memory."""
    site = open_site
    child = site.start(env={"ZDPATCH_GROUP": str(OPERATORS)})
    operator = site.operator(child)
    digest, _ = site.fix()
    assert operator.ask(Stage(digest), bytes(8 * MIB)).code.startswith("ZDP-10")
    before = megabytes(child)
    endpoint = child.door().endpoint.removeprefix("ipc://")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, endpoint, str(OPERATORS), str(NOBODY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        assert site.operator(child).ask(Hello()).code == "ok"
        assert site.operator(child).ask(Stage(digest), bytes(8 * MIB)).code.startswith("ZDP-10")
        assert megabytes(child) < before + 48
        holder.kill()
    assert operator.ask(Hello()).code == "ok"


def test_requests_that_never_end(site: Site) -> None:
    """They end by themselves, though their peers stay."""
    child = site.start(step_s=0.5)
    site.operator(child).ask(Hello())
    with connected(child) as stream:
        stream.sendall(b"\x02" + (8 * MIB).to_bytes(8) + bytes(7 * MIB))
        with contextlib.suppress(ConnectionError):
            while stream.recv(4096):
                pass
