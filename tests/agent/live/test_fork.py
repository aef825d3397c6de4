"""Each process has an agent of its own, whichever way it came into being."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from zdpatch.agent.protocol import Apply, Hello, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = pytest.mark.e2e


def push(site: Site, agent: Any, digest: str, raw: bytes, *, confirm: bool = True) -> Any:  # noqa: ANN401
    """Stage and apply in one process."""
    operator = site.operator(agent)
    operator.ask(Stage(digest), raw)
    return operator.ask(Apply(digest, confirm=confirm))


def test_a_child_has_its_own_agent(site: Site) -> None:
    """A child forked from a process with a running agent answers by itself, and can be patched."""
    parent = site.start()
    parent.door()
    pid = parent.tell("fork()")
    door = site.door(pid)
    assert door.agent != parent.door().agent
    assert site.operator(door).ask(Hello()).agent.pid == pid
    digest, raw = site.fix()
    assert push(site, door, digest, raw).code == "ok"
    site.eventually(lambda: site.sees(pid) == "2")
    assert parent.tell("cart.vat()") == 1
    assert push(site, parent, digest, raw).code == "ok"
    assert parent.tell("cart.vat()") == 2
    parent.tell(f"os.kill({pid}, 9)")


def test_patches_stay_in_the_child(site: Site) -> None:
    """What runs in the parent runs in the child from its first instruction, and can be reverted."""
    parent = site.start()
    digest, raw = site.fix()
    push(site, parent, digest, raw, confirm=False)
    pid = parent.tell("fork()")
    site.eventually(lambda: site.sees(pid))
    assert site.sees(pid) == "2"
    operator = site.operator(site.door(pid))
    (row,) = operator.ask(Status()).result["patches"]
    assert (row["state"], row["until"] is not None) == ("trial", True)
    assert operator.ask(Revert(digest)).result["state"] == "reverted"
    site.eventually(lambda: site.sees(pid) == "1")
    assert parent.tell("cart.vat()") == 2
    parent.tell(f"os.kill({pid}, 9)")


def test_a_fork_before_the_thread(site: Site) -> None:
    """Children forked in the second before the parent's socket opens get theirs."""
    parent = site.start(now=False)
    pids = parent.tell("[fork() for _ in range(4)]")
    doors = [site.door(pid) for pid in pids]
    assert {site.operator(door).ask(Hello()).agent.pid for door in doors} == set(pids)
    assert site.door(parent.pid).pid == parent.pid
    for pid in pids:
        parent.tell(f"os.kill({pid}, 9)")


def test_short_children_stay_silent(site: Site) -> None:
    """Children that end at once leave neither socket nor journal rows, and no crash to count."""
    parent = site.start()
    digest, raw = site.fix()
    push(site, parent, digest, raw, confirm=False)
    assert parent.tell("[short() for _ in range(6)]") == [0] * 6
    assert [agent.pid for agent in site.agents()] == [parent.pid]
    assert site.operator(parent).ask(Status()).result["warnings"] == []
    parent.kill()
    assert site.start().tell("cart.vat()") == 2


def test_fork_while_the_agent_works(site: Site) -> None:
    """Forks in the middle of requests never hang a child, and each child answers."""
    parent = site.start()
    operator = site.operator(parent)
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    pids: list[int] = []
    for _ in range(6):
        operator.ask(Apply(digest))
        pids.append(parent.tell("fork()"))
        operator.ask(Revert(digest))
    for pid in pids:
        assert site.operator(site.door(pid)).ask(Hello()).agent.pid == pid
        parent.tell(f"os.kill({pid}, 9)")


MP = """
import json, multiprocessing, os, sys
spec = json.loads(sys.argv[1])
sys.path.insert(0, spec["tree"])
from shop import cart
from zdpatch import agent

def work(pipe, start):
    if start:
        agent.start("shop", release="1.4", home=spec["home"], now=True)
    pipe.send(os.getpid())
    while pipe.recv() != "end":
        pipe.send(cart.vat())

def main():
    agent.start("shop", release="1.4", home=spec["home"])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        method = line.strip()
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        child = context.Process(target=work, args=(theirs, method != "fork"))
        child.start()
        print(json.dumps(ours.recv()), flush=True)
        while (command := sys.stdin.readline().strip()) != "end":
            ours.send(command)
            print(json.dumps(ours.recv()), flush=True)
        ours.send("end")
        child.join()
        print(json.dumps(child.exitcode), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(site: Site, method: str) -> None:
    """Children of multiprocessing are patched, end by themselves, and count as no crash."""
    script = site.root / "program.py"
    script.write_text(MP)
    parent = site.start(command=[sys.executable, "-W", "ignore", str(script)])
    digest, raw = site.fix()
    for _ in range(3):
        pid = parent.tell(method)
        answer = push(site, site.door(pid), digest, raw, confirm=False)
        assert (answer.code, answer.result["state"]) == ("ok", "trial")
        assert parent.tell("look") == 2
        assert parent.tell("end") == 0
    site.eventually(lambda: {agent.pid for agent in site.agents()} == {parent.pid})
    assert site.start().tell("cart.vat()") == 2


POOL = """
import json, multiprocessing, os, sys
spec = json.loads(sys.argv[1])
sys.path.insert(0, spec["tree"])
from shop import cart
from zdpatch import agent

def main():
    agent.start("shop", release="1.4", home=spec["home"], now=True)
    print(json.dumps("ready"), flush=True)
    while sys.stdin.readline():
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(json.dumps(pool.apply(os.getpid)), flush=True)
            sys.stdin.readline()
            vat = pool.apply(cart.vat)
        print(json.dumps(vat), flush=True)

main()
"""


def test_workers_that_are_ended_at_will(site: Site) -> None:
    """A pool ends its workers by a signal that nobody handles: no crash of what is on trial."""
    script = site.root / "program.py"
    script.write_text(POOL)
    parent = site.start(command=[sys.executable, "-W", "ignore", str(script)])
    digest, raw = site.fix()
    push(site, parent, digest, raw, confirm=False)
    for _ in range(4):
        site.door(parent.tell("pool"))
        assert parent.tell("end") == 2
    (row,) = site.operator(parent).ask(Status()).result["patches"]
    assert (row["state"], row["wanted"]) == ("trial", "trial")
    assert site.operator(parent).ask(Status()).result["warnings"] == []


CRASH = """
import json, multiprocessing, os, sys, time
spec = json.loads(sys.argv[1])
sys.path.insert(0, spec["tree"])
from shop import cart
from zdpatch import agent

agent.start("shop", release="1.4", home=spec["home"], now=True)
print(json.dumps("ready"), flush=True)
while sys.stdin.readline():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print(json.dumps(child.pid), flush=True)
    child.join()
    print(json.dumps(child.exitcode), flush=True)
"""


def test_workers_that_crash_still_count(site: Site) -> None:
    """A worker that nobody ends at will, as a server's, is a crash when it is killed."""
    script = site.root / "program.py"
    script.write_text(CRASH)
    parent = site.start(command=[sys.executable, "-W", "ignore", str(script)])
    digest, raw = site.fix()
    push(site, parent, digest, raw, confirm=False)
    for _ in range(2):
        pid = parent.tell("go")
        site.door(pid)
        os.kill(pid, 9)
        assert parent.read() == -9
    site.door(parent.tell("go"))
    (row,) = site.operator(parent).ask(Status()).result["patches"]
    assert row["wanted"] == "quarantined"


DAEMON = """
import json, os, sys
spec = json.loads(sys.argv[1])
sys.path.insert(0, spec["tree"])
from shop import cart
from zdpatch import agent
handle = agent.start("shop", release="1.4", home=spec["home"], now=True)
if os.fork():
    os._exit(0)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""


def test_going_into_the_background(site: Site) -> None:
    """A service that forks away from its first process after the start has not crashed."""
    script = site.root / "program.py"
    script.write_text(DAEMON)
    digest, raw = site.fix()
    for start in range(4):
        service = site.start(command=[sys.executable, "-W", "ignore", str(script)])
        door = site.door(service.tell("os.getpid()"))
        if not start:
            push(site, door, digest, raw, confirm=False)
        assert service.tell("cart.vat()") == 2
        (row,) = site.operator(door).ask(Status()).result["patches"]
        assert (row["state"], row["wanted"]) == ("trial", "trial")
        assert service.tell("handle.status()['warnings']") == []
        service.end()
        site.eventually(lambda: not site.agents())


WSGI = """
import os
from shop import cart
from zdpatch import agent
agent.start("shop", release="1.4", home=os.environ["SHOP_HOME"])

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {cart.vat()}".encode()]
"""


def get(path: str) -> list[str]:
    """Pid and vat from one worker."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer.split(b"\r\n\r\n")[1].decode().split()


def reachable(path: str) -> bool:
    """Whether a worker answers."""
    try:
        return bool(get(path))
    except OSError:
        return False


def test_gunicorn_preload(site: Site) -> None:
    """Started in the master before the fork: workers are patched, and new ones come up patched."""
    (site.tree / "wsgi.py").write_text(WSGI)
    listening = str(site.root / "g.sock")
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "-w", "2"]
    command += ["-b", f"unix:{listening}", "--chdir", str(site.tree), "wsgi:app", "--env"]
    master = _gunicorn(site, command, listening)
    site.eventually(lambda: len(site.agents()) == 3)
    agents = site.agents()
    digest, raw = site.fix()
    for door in agents:
        assert push(site, door, digest, raw).code == "ok"
    site.eventually(lambda: get(listening)[1] == "2")
    old = {door.pid for door in agents}
    worker = next(pid for pid in old if pid != master.pid)
    os.kill(worker, 9)
    fresh = site.eventually(lambda: next((a for a in site.agents() if a.pid not in old), None))
    (row,) = site.operator(fresh).ask(Status()).result["patches"]
    assert row["state"] == "confirmed"
    assert {get(listening)[1] for _ in range(20)} == {"2"}


def _gunicorn(site: Site, command: list[str], listening: str) -> Any:  # noqa: ANN401
    env = {**os.environ, "SHOP_HOME": str(site.home)}
    master = subprocess.Popen(
        [*command[:-1], "--log-level", "error"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    site.others.append(master)
    site.eventually(lambda: reachable(listening))
    return master
