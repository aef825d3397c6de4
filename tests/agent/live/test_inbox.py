"""Real processes with an inbox: at the start, without a socket, after a fork, in a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.protocol import Revert, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.live.conftest import Child, Site

pytestmark = pytest.mark.e2e


def inbox_of(site: Site) -> Path:
    """A directory that only this user can write to."""
    path = site.root / "inbox"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def put(box: Path, name: str, data: bytes, ago_s: float = 0.0) -> None:
    """Hand a file in, by a rename; it was written `ago_s` ago, by its own clock."""
    (box / f".{name}").write_bytes(data)
    written = time.time() - ago_s
    os.utime(box / f".{name}", (written, written))
    (box / f".{name}").rename(box / name)


def result(site: Site, name: str, pid: int | None = None) -> dict[str, Any]:
    """The newest result for a file, once it is there: of one process, or of any."""

    def look() -> dict[str, Any] | None:
        for path in (inbox_of(site) / "results").glob(f"{name}.*.json"):
            found: dict[str, Any] = json.loads(path.read_bytes())
            if pid in (None, found["agent"]["pid"]):
                return found
        return None

    return site.eventually(look)


def start(site: Site, **env: str) -> Child:
    """A process with an inbox."""
    return site.start(env={"ZDPATCH_INBOX": str(inbox_of(site)), **env})


def test_in_before_start_returns(site: Site) -> None:
    """A patch that lies there is in when `start` returns, in each process of an empty home."""
    put(inbox_of(site), "fix.zdp", site.fix()[1])
    child = site.start(now=False, env={"ZDPATCH_INBOX": str(inbox_of(site))})
    assert child.tell("cart.vat()") == 2
    assert child.tell("list(handle.status()['active'])") == ["FIX-1"]
    assert result(site, "fix.zdp", child.pid)["result"]["state"] == "trial"


def test_while_it_runs(site: Site) -> None:
    """Handed in, confirmed and taken out, by files alone."""
    child = start(site)
    box = inbox_of(site)
    put(box, "fix.zdp", site.fix()[1])
    assert result(site, "fix.zdp")["result"]["state"] == "trial"
    assert child.tell("cart.vat()") == 2
    put(box, "keep.order.json", b'{"verb": "confirm", "patch": "FIX-1"}')
    assert result(site, "keep.order.json")["result"]["state"] == "confirmed"
    put(box, "out.order.json", b'{"verb": "revert", "patch": "FIX-1"}')
    assert result(site, "out.order.json")["result"]["state"] == "reverted"
    assert child.tell("cart.vat()") == 1


def test_consistently(site: Site) -> None:
    """What is handed in waits for what has begun, when its options or the order say so."""
    child = start(site)
    box = inbox_of(site)
    child.tell("from zdpatch import agent; held = agent.request('user-7'); held.__enter__()")
    put(box, "fix.zdp.json", b'{"consistent": {"limit_s": 60}}')
    put(box, "fix.zdp", site.fix()[1], ago_s=1)
    told = result(site, "fix.zdp")["result"]
    assert (told["state"], told["way"]["blockers"]) == ("applying", ["request user-7"])
    child.tell("held.__exit__(None, None, None); del held")
    operator = site.operator(child)
    site.eventually(lambda: operator.ask(Status()).result["patches"][0]["state"] == "trial")
    assert child.tell("cart.vat()") == 2
    # an order is written after what it is about, by the clock of the files, which is a coarse one
    put(box, "out.order.json", b'{"verb": "revert", "patch": "FIX-1", "consistent": {}}')
    assert result(site, "out.order.json")["result"]["state"] == "reverted"


def test_rolled_back_stays_out_after_a_restart(site: Site) -> None:
    """What somebody took out does not come back because its file lies there still."""
    put(inbox_of(site), "fix.zdp", site.fix()[1])
    first = start(site)
    assert site.operator(first).ask(Revert("FIX-1")).code == "ok"
    first.end()
    second = start(site)
    assert second.tell("cart.vat()") == 1
    assert result(site, "fix.zdp", second.pid)["error"]["code"] == "ZDP-213"


NO_SOCKET = """
import runpy, socket, sys
sys.modules["zmq"] = None
class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        raise PermissionError(1, "Operation not permitted")
socket.socket = Refused
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_zeromq_and_without_a_socket(site: Site) -> None:
    """Where neither can be had, the inbox is the way in, out and of asking."""
    from tests.agent.live.conftest import CHILD  # noqa: PLC0415 - its path only

    box = inbox_of(site)
    child = site.start(
        command=[sys.executable, "-c", NO_SOCKET, str(CHILD)], env={"ZDPATCH_INBOX": str(box)}
    )
    put(box, "fix.zdp", site.fix()[1])
    assert result(site, "fix.zdp")["result"]["state"] == "trial"
    assert child.tell("cart.vat()") == 2
    assert child.tell("handle.status()['state']") == "retrying"
    put(box, "state.order.json", b'{"verb": "status", "detail": true}')
    assert result(site, "state.order.json")["result"]["patches"][0]["state"] == "trial"
    put(box, "out.order.json", b'{"verb": "revert", "patch": "FIX-1"}')
    assert result(site, "out.order.json")["result"]["state"] == "reverted"


def test_forked_workers(site: Site) -> None:
    """Each worker has a result of its own; one that was born before gets the patch itself."""
    master = start(site)
    worker = master.tell("fork()")
    site.door(worker)
    put(inbox_of(site), "fix.zdp", site.fix()[1])
    for pid in (master.pid, worker):
        assert result(site, "fix.zdp", pid)["result"]["state"] == "trial"
    site.eventually(lambda: site.sees(worker) == "2")
    born_patched = master.tell("fork()")
    site.eventually(lambda: site.sees(born_patched) == "2")
    assert result(site, "fix.zdp", born_patched)["result"]["state"] == "trial"


def test_nothing_is_imported_for_it(site: Site) -> None:
    """What the inbox needs of the standard library is there since the start."""
    child = start(site)
    child.door()
    child.tell("later.need(later.ENGINE) and later.need(later.SIGNATURES) and None")
    child.tell("before = set(sys.modules)")
    put(inbox_of(site), "fix.zdp", site.fix()[1])
    result(site, "fix.zdp")
    new = "[m.partition('.')[0] for m in set(sys.modules) - before]"
    assert child.tell(f"sorted(set({new}) & sys.stdlib_module_names)") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_read_only_inbox_and_an_empty_home(site: Site, tmp_path: Path) -> None:
    """As in a container: trust and patches from a read-only volume, everything else thrown away."""
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o777)
    put(volume, "fix.zdp", site.fix()[1])
    put(volume, "fix.zdp.json", b'{"confirm": true}')
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "--bind", str(volume), str(mounted)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no mounts here")
    try:
        remount = ["mount", "-o", "remount,bind,ro", str(mounted)]
        subprocess.run(remount, check=True, capture_output=True)
        for _ in range(2):
            child = site.start(env={"ZDPATCH_INBOX": str(mounted)})
            assert child.tell("cart.vat()") == 2
            status = site.operator(child).ask(Status()).result
            assert [row["state"] for row in status["patches"]] == ["confirmed"]
            assert status["warnings"] == []
            results = list((site.home / "apps" / "shop" / "results").glob("fix.zdp.*"))
            assert results
            os.kill(child.pid, signal.SIGKILL)
            child.process.wait(timeout=20)
            subprocess.run(["rm", "-r", str(site.home / "apps")], check=True)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
