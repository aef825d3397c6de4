"""As a service: its listeners, its configuration, and what it says of itself."""

from __future__ import annotations

import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.handoff.fleet import running
from tests.e2e.handoff.load import answer
from zdpatch.agent import passing, wire
from zdpatch.agent.readiness import NotifySocket

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.e2e
UVICORN = (sys.executable, "-m", "uvicorn", "--no-access-log", "service:asgi")
BOTH = ["serving", "serving"]


def heard(notify: NotifySocket, word: str) -> Mapping[str, str]:
    """The next notice with that field."""
    while True:
        assert select.select([notify], [], [], 30)[0]
        notice = notify.receive()
        if notice is not None and word in notice.fields:
            return notice.fields


def test_what_the_service_manager_hears(tmp_path: Path) -> None:
    """Ready when all serve, reloading, ready again with the reason when it failed, stopping."""
    notify = NotifySocket()
    with running(tmp_path, *UVICORN, NOTIFY_SOCKET=notify.environ_value) as fleet:
        assert heard(notify, "READY")["STATUS"] == "generation 1, 2 workers"
        fleet.process.send_signal(signal.SIGHUP)
        assert heard(notify, "RELOADING")["MONOTONIC_USEC"].isdecimal()
        assert heard(notify, "READY")["STATUS"] == "generation 2, 2 workers"
        fleet.wait([*BOTH, "stopped", "stopped"])
        fleet.fault("raise")
        fleet.process.send_signal(signal.SIGHUP)
        heard(notify, "RELOADING")
        assert "generation 3 is not used" in heard(notify, "READY")["STATUS"]
        fleet.process.send_signal(signal.SIGTERM)
        assert heard(notify, "STOPPING")
        assert fleet.process.wait(30) == 0
    notify.close()


def test_several_listeners(tmp_path: Path) -> None:
    """IPv4, IPv6 and a path; the path is there as long as the supervisor, not as its workers."""
    path = tmp_path / "s"
    options = ("--bind", f"unix:{path}", "--bind", "[::1]:0", "--warm", "1s")
    with running(tmp_path, *UVICORN, options=options) as fleet:
        for _ in range(2):
            shown = fleet.wait(BOTH)
            port = int(shown.binds[2].rpartition(":")[2])
            for where in (fleet.where, ("::1", port), str(path)):
                assert answer(where).startswith(f"{shown.generation}-")
            fleet.replace()
            fleet.wait(BOTH)
    assert not path.exists()


def test_a_file_says_what_is_wanted(tmp_path: Path) -> None:
    """Flags count before the environment, and that before the file."""
    (tmp_path / "z.toml").write_text(
        '[run]\nworkers = 5\nwarm = "1s"\nname = "filed"\ncommand = "sleep 1"\n'
    )
    options = ("--config", "z.toml", "--workers", "1")
    with running(tmp_path, *UVICORN, options=options, ZDPATCH_RUN_NAME="named") as fleet:
        shown = fleet.wait(["serving"])
        assert (shown.name, shown.wanted) == ("named", 1)
        fleet.replace()
        fleet.wait(["serving"])


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    """The second one changes nothing."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        second = fleet.zdpatch("run", "--bind", "127.0.0.1:0", "--", "true")
        assert second.returncode == 2
        assert "ZDP-009" in second.stderr
        fleet.wait(BOTH)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """Nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken, running(tmp_path, *UVICORN) as fleet:
        port = taken.getsockname()[1]
        words = ("run", "--name", "other", "--bind", f"127.0.0.1:{port}", "--", "true")
        done = fleet.zdpatch(*words)
        assert done.returncode == 2
        assert "ZDP-008" in done.stderr


def test_status_shows_the_workers(tmp_path: Path) -> None:
    """In words, and as JSON."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        words = fleet.zdpatch("status").stdout
        assert "default: generation 1 on 127.0.0.1:" in words
        assert words.count("serving") == 2
        assert '"adapter": "uvicorn"' in fleet.zdpatch("status", "--json").stdout
        assert fleet.zdpatch("replace", "nobody").returncode == 5


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_own_processes_of_a_server_are_refused(tmp_path: Path, server: str) -> None:
    """The text says what to do instead."""
    command = (sys.executable, "-m", server, "service:asgi", "--workers", "2")
    with running(tmp_path, *command) as fleet:
        while "zdpatch run --workers N" not in fleet.log:
            fleet.shown()


def test_nothing_is_left_of_a_replacement(tmp_path: Path) -> None:
    """The supervisor has as many descriptors after many as after one."""
    command = (sys.executable, "service.py", "PORT")
    with running(tmp_path, *command, workers=1, options=("--warm", "0.1s")) as fleet:
        fleet.wait(["serving"])
        descriptors = Path(f"/proc/{fleet.process.pid}/fd")
        counts: set[int] = set()
        for _ in range(10):
            fleet.replace()
            fleet.wait(["serving"])
            counts.add(len(list(descriptors.iterdir())))
        assert max(counts) - min(counts) <= 1, counts  # whoever asked for the status may be there


def test_without_descriptors(tmp_path: Path) -> None:
    """New workers cannot be started: that is said, the old ones serve, and it works afterwards."""
    with running(tmp_path, *UVICORN) as fleet:
        fleet.wait(BOTH)
        pid = fleet.process.pid
        used = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, before[1]))
        fleet.process.send_signal(signal.SIGHUP)
        while "could not be started" not in fleet.log:
            assert answer(fleet.where).startswith("1-")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert fleet.replace()["done"]["ok"]


def test_a_program_without_an_adapter(tmp_path: Path) -> None:
    """It is ready when it says so, and ended when the new one is; nobody says that it is gated."""
    (tmp_path / "plain.py").write_text("import service, threading; threading.Event().wait()")
    command = (sys.executable, "plain.py")
    with running(tmp_path, *command, workers=1, TELLS="1") as fleet:
        fleet.wait(["serving"])
        assert fleet.replace()["done"]["ok"], fleet.log
        (worker,) = fleet.wait(["serving"]).workers
        assert (worker.generation, worker.adapter) == (2, "")


def test_an_application_that_says_ready_too_early(tmp_path: Path) -> None:
    """What it tells the service manager while it is imported is not what the server says."""
    (tmp_path / "early.py").write_text("import service; asgi = service.asgi; 1 / 0")
    command = (sys.executable, "-m", "uvicorn", "early:asgi")
    with running(tmp_path, *command, workers=1, TELLS="1") as fleet:
        while "ZeroDivisionError" not in fleet.log:
            assert not [one for one in fleet.shown().workers if one.state == "serving"]


@pytest.mark.parametrize(
    "words",
    [wire.encode(wire.Hello(unit=1, adapter="x")), wire.encode(wire.Go()), b"[", b"\xff"],
)
def test_strangers(tmp_path: Path, words: bytes) -> None:
    """Who is no process of that worker, or says what nobody understands, is not listened to."""
    with running(tmp_path, *UVICORN) as fleet:
        with wire.Place(tmp_path / "h/run/default").connect() as channel:
            passing.send(channel, words)
            with passing.receive(channel) as packet:
                assert packet.ended
        fleet.wait(BOTH)
