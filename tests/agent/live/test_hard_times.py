"""A full disk, a stop in the middle, an end that was asked for: the agent comes right by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.config import Settings
from zdpatch.agent.protocol import Apply, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Child, Site

pytestmark = pytest.mark.e2e

CHILD = Path(__file__).parent / "child.py"
NO_ROOM = ["/bin/sh", "-c", 'ulimit -S -f 0; exec "$@"', "sh", sys.executable, str(CHILD)]
GET_ROOM = (
    "__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (2**40, -1)) and None"
)


def push(site: Site, child: Child, digest: str, raw: bytes, *, confirm: bool) -> None:
    """Stage and apply in one process."""
    operator = site.operator(child)
    assert operator.ask(Stage(digest), raw).code == "ok"
    assert operator.ask(Apply(digest, confirm=confirm)).code == "ok"


def state(child: Child) -> str:
    """What its handle says."""
    found: str = child.tell("handle.status()")["state"]
    return found


def test_no_room_at_the_start(site: Site) -> None:
    """Nothing can be written when the process starts: it serves, says so, and catches up later."""
    digest, raw = site.fix()
    first = site.start()
    push(site, first, digest, raw, confirm=True)
    first.kill()
    child = site.start(command=NO_ROOM)
    site.eventually(lambda: state(child) == "retrying")
    status = child.tell("handle.status()")
    assert "tries again" in status["reason"]
    assert any("no patch was brought up" in said for said in status["warnings"])
    assert child.tell("cart.vat()") == 1
    child.tell(GET_ROOM)
    site.eventually(lambda: child.tell("cart.vat()") == 2)
    site.eventually(lambda: state(child) == "ready")
    answer = site.operator(child).ask(Status())
    assert (answer.agent.state, answer.result["warnings"]) == ("ready", [])


def test_no_room_for_an_outcome(site: Site) -> None:
    """The intent is on disk and nothing more fits: out again, said, and settled with room."""
    digest, raw = site.fix()
    child = site.start(full="apply.outcome.begin")
    operator = site.operator(child)
    assert operator.ask(Stage(digest), raw).code == "ok"
    refused = operator.ask(Apply(digest, confirm=True))
    assert refused.code == "ZDP-301"
    assert child.tell("cart.vat()") == 1
    (row,) = operator.ask(Status()).result["patches"]
    assert (row["state"], row["wanted"]) == ("staged", "applying")
    assert operator.ask(Revert(digest)).code == "ZDP-301"
    child.tell("SPEC.update(full=None)")

    def wanted() -> bool:
        (row,) = operator.ask(Status()).result["patches"]
        return (row["state"], row["wanted"]) == ("staged", "staged")

    site.eventually(wanted)
    assert child.tell("handle.status()")["warnings"] == []
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    assert operator.ask(Revert(digest)).code == "ok"
    assert child.tell("cart.vat()") == 1


def stop(child: Child) -> None:
    """Stop a process, and wait until it stands still."""
    os.kill(child.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{child.pid}/stat")
    child.site.eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")


def test_stopped_during_a_rollback(site: Site) -> None:
    """A process that was stopped meanwhile takes the patch out when it goes on, by itself."""
    one, two = site.start(), site.start()
    digest, raw = site.fix()
    for child in (one, two):
        push(site, child, digest, raw, confirm=True)
    stop(two)
    assert site.operator(one).ask(Revert(digest)).code == "ok"
    os.kill(two.pid, signal.SIGCONT)
    begun = time.monotonic()
    site.eventually(lambda: two.tell("cart.vat()") == 1)
    assert time.monotonic() - begun < 10
    (row,) = site.operator(two).ask(Status()).result["patches"]
    assert (row["state"], row["wanted"]) == ("reverted", "reverted")


def test_asked_before_it_noticed(site: Site) -> None:
    """The first answer after a stop is about the state as it is wanted now."""
    one, two = site.start(), site.start()
    digest, raw = site.fix()
    for child in (one, two):
        push(site, child, digest, raw, confirm=True)
    operator = site.operator(two)
    operator.ask(Status())
    stop(two)
    site.operator(one).ask(Revert(digest))
    os.kill(two.pid, signal.SIGCONT)
    (row,) = operator.ask(Status()).result["patches"]
    assert row["state"] == "reverted"
    # pushed again to this one alone, it is in: not "in already" and then taken out
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    # nothing must come of it: there is no event to wait for, only the time of its next look
    time.sleep(1.5 * Settings().follow_s)
    assert two.tell("cart.vat()") == 2
    assert one.tell("cart.vat()") == 1


ASGI = """
import os
from shop import cart
from zdpatch import agent

agent.start("shop", release="1.4", home=os.environ["SHOP_HOME"], now=True)


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(cart.vat()).encode()})
"""
PLAIN = """
import json, os, signal, sys
spec = json.loads(sys.argv[1])
sys.path.insert(0, spec["tree"])
from shop import cart
from zdpatch import agent

def told(number, frame):
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)

signal.signal(signal.SIGTERM, told)
agent.start("shop", release="1.4", home=spec["home"], now=True)
print(json.dumps("ready"), flush=True)
while True:
    signal.pause()
"""


def serve(site: Site, kind: str) -> Any:  # noqa: ANN401 - a Child
    """A service that lets SIGTERM kill it in the end."""
    if kind == "plain":
        script = site.root / "plain.py"
        script.write_text(PLAIN)
        return site.start(command=[sys.executable, str(script)])
    (site.tree / "asgi.py").write_text(ASGI)
    code = "import sys, uvicorn; print('0', flush=True); "
    code += "uvicorn.run('asgi:app', uds=sys.argv[1], lifespan='off', log_level='error')"
    command = [sys.executable, "-c", code, str(site.root / "uvicorn.sock")]
    env = {"PYTHONPATH": f"{site.tree}:{os.environ.get('PYTHONPATH', '')}"}
    return site.start(command=command, env={**env, "SHOP_HOME": str(site.home)})


@pytest.mark.parametrize("kind", ["uvicorn", "plain"])
def test_an_end_that_was_asked_for_is_no_crash(site: Site, kind: str) -> None:
    """A server that shuts down and lets SIGTERM kill it does not count against its patch."""
    digest, raw = site.fix()
    for round_ in range(3):
        child = serve(site, kind)
        door = child.door()
        operator = site.operator(door)
        if round_ == 0:
            operator.ask(Stage(digest), raw)
            operator.ask(Apply(digest, trial_s=600))
        (row,) = operator.ask(Status()).result["patches"]
        assert (row["state"], row["wanted"]) == ("trial", "trial")
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(timeout=20) == -signal.SIGTERM
    after = site.start()
    assert after.tell("cart.vat()") == 2
    assert after.tell("handle.status()")["warnings"] == []


def test_what_listens_to_signals_is_left_alone(site: Site) -> None:
    """A descriptor that the application set for signals stays; ours is per process."""
    child = site.start()
    child.door()
    assert child.tell("signal.set_wakeup_fd(-1)") >= 0
    child.tell("reader, writer = os.pipe2(os.O_NONBLOCK)")
    assert child.tell("signal.set_wakeup_fd(writer)") == -1
    child.tell("handle.stop()")
    child.tell("handle = start()")
    assert child.tell("signal.set_wakeup_fd(-1) == writer")


def test_told_and_goes_on() -> None:
    """A process that takes the signal for something else can crash again, after a while."""
    code = """
import os, signal, sys, tempfile
from pathlib import Path
from zdpatch.agent.told import Told, was_told
signal.signal(signal.SIGTERM, lambda *_: None)
told, file = Told(), Path(tempfile.mkdtemp()) / "told" / "1"
told.write_to(file)
for base in (1000, 2000):
    assert not was_told(file)
    for _ in range(100):
        signal.raise_signal(signal.SIGTERM)
    assert was_told(file)
    told.tend(base, 60)
    told.tend(base + 59, 60)
    assert was_told(file)
    told.tend(base + 75, 60)
told.close()
assert not file.exists() and signal.set_wakeup_fd(-1) == -1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_told_where_the_slot_is_taken() -> None:
    """An event loop has the descriptor for signals: what raises the signal itself leaves word."""
    code = """
import os, signal, sys, tempfile
from pathlib import Path
from zdpatch.agent.told import Told, was_told
before = signal.raise_signal
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
told, file = Told(), Path(tempfile.mkdtemp()) / "told" / "1"
told.write_to(file)
assert not was_told(file)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
assert was_told(file)
told.close()
assert not file.exists() and signal.raise_signal is before
assert signal.set_wakeup_fd(-1) == writer
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
