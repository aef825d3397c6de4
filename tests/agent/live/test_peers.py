"""Only the service's user, root and the operators' group get an answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.protocol import Apply, History, Stage
from zdpatch.agent.transport import Peer, admits

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users"),
]

NOBODY = 65534
OPERATORS = 61234  # a group that no user database knows

ASK = """
import os, sys, json
uid, gid, groups, endpoint = json.loads(sys.argv[1])
import zmq
from zdpatch.agent import messages, protocol
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
context = zmq.Context()
socket = context.socket(zmq.DEALER)
socket.setsockopt(zmq.LINGER, 0)
socket.connect(endpoint)
socket.send_multipart(messages.encode_request(protocol.Hello(), b"m" * 16))
print("answer" if socket.poll(1500) else "silence")
socket.close()
context.term()
"""


def ask(endpoint: str, uid: int, gid: int, groups: list[int]) -> str:
    """ "answer" or "silence" for that user."""
    spec = json.dumps([uid, gid, groups, endpoint])
    done = subprocess.run(
        [sys.executable, "-c", ASK, spec], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def test_nobody_is_refused(open_site: Site) -> None:
    """Without a group only the service's user and root get an answer, even on an open socket."""
    site = open_site
    door = site.start().door()
    assert ask(door.endpoint, 0, 0, []) == "answer"
    assert ask(door.endpoint, NOBODY, NOBODY, []) == "silence"
    place = Path(door.endpoint.removeprefix("ipc://")).parent
    for path in (site.home, site.home / "agents", place):
        path.chmod(0o755)
    (place / "s").chmod(0o777)
    assert ask(door.endpoint, NOBODY, NOBODY, []) == "silence"
    assert ask(door.endpoint, 0, 0, []) == "answer"


def test_the_operators_group(open_site: Site) -> None:
    """Members of ZDPATCH_GROUP, primary or supplementary, get an answer; others do not."""
    site = open_site
    child = site.start(env={"ZDPATCH_GROUP": str(OPERATORS)})
    door = child.door()
    assert ask(door.endpoint, NOBODY, OPERATORS, []) == "answer"
    assert ask(door.endpoint, NOBODY, NOBODY, [OPERATORS]) == "answer"
    assert ask(door.endpoint, NOBODY, NOBODY, []) == "silence"
    place = Path(door.endpoint.removeprefix("ipc://")).parent
    modes = {name: path.stat().st_mode & 0o777 for name, path in _paths(site, place).items()}
    assert modes == {
        "home": 0o710,
        "agents": 0o750,
        "own": 0o750,
        "socket": 0o660,
        "file": 0o640,
        "app": 0o700,
    }
    for path in (site.home, site.home / "agents", place):
        path.chmod(0o755)
    (place / "s").chmod(0o777)
    assert ask(door.endpoint, NOBODY, NOBODY, []) == "silence"


def _paths(site: Site, place: Path) -> dict[str, Path]:
    return {
        "home": site.home,
        "agents": site.home / "agents",
        "own": place,
        "socket": place / "s",
        "file": place / "agent.json",
        "app": site.home / "apps" / "shop",
    }


def test_a_service_that_is_not_root(open_site: Site) -> None:
    """A service of another user has its home, and answers root and its own user."""
    site = open_site
    os.chown(site.home, NOBODY, NOBODY)
    os.chown(site.home / "trust.json", NOBODY, NOBODY)
    child = site.start(uid=NOBODY)
    door = child.door()
    assert ask(door.endpoint, NOBODY, NOBODY, []) == "answer"
    assert ask(door.endpoint, 65533, 65533, []) == "silence"
    operator = site.operator(child)
    digest, raw = site.fix()
    assert operator.ask(Stage(digest), raw).code == "ok"
    assert operator.ask(Apply(digest)).agent.user == "nobody"
    assert {row["user"] for row in operator.ask(History(audit=True)).result["rows"]} == {"root"}


def test_who_is_admitted() -> None:
    """Root and this user always; a group only when one is configured."""
    me = os.geteuid()
    assert admits(Peer(0, 0, 1), None)
    assert admits(Peer(me, 5, 1), None)
    assert not admits(Peer(NOBODY, 5, 1), None)
    assert admits(Peer(NOBODY, 5, 1), 5)
    assert not admits(Peer(NOBODY, 6, 2**22 + 1), 5)
