"""Under gevent's monkey patching the agent is a real thread, and the application never waits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.protocol import Apply, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = [
    pytest.mark.e2e,
]

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import json, sys, time
import gevent
from gevent.fileobject import FileObject
from shop import cart
from zdpatch import agent

spec = json.loads(sys.argv[1])
handle = agent.start("shop", release="1.4", home=spec["home"], now=True)
gaps, last = [], time.monotonic()

def tick():
    global last
    while True:
        gevent.sleep(0.01)
        now = time.monotonic()
        gaps.append(now - last)
        last = now

gevent.spawn(tick)
print(json.dumps("ready"), flush=True)
for line in FileObject(sys.stdin):
    print(json.dumps(eval(line)), flush=True)
"""


def test_a_push_under_gevent(site: Site) -> None:
    """A patch goes in and out while greenlets run; an idle agent lets them run."""
    script = site.root / "green.py"
    script.write_text(PROGRAM)
    child = site.start(command=[sys.executable, str(script)], env={"PYTHONPATH": python_path(site)})
    operator = site.operator(child)
    digest, raw = site.fix()
    assert operator.ask(Stage(digest), raw).code == "ok"
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    assert child.tell("cart.vat()") == 2
    child.tell("gaps.clear()")
    child.tell("gevent.sleep(1)")
    # a thread of gevent's that waits for its socket would stop them all for as long as it waits
    assert child.tell("len(gaps)") > 20
    assert operator.ask(Revert(digest)).code == "ok"
    assert child.tell("cart.vat()") == 1
    assert operator.ask(Status()).result["patches"][0]["state"] == "reverted"
    assert child.end() == 0


def test_a_greenlet_that_does_not_leave_old_code_keeps_the_patch_out(site: Site) -> None:
    """No thread runs it while it waits, and it would go on with old code for ever."""
    old = b"import gevent\ndef vat():\n    while True:\n        gevent.sleep(0.01)\n"
    new = old.replace(b"0.01", b"0.02")
    (site.tree / "shop" / "cart.py").write_bytes(old)
    script = site.root / "green.py"
    script.write_text(PROGRAM)
    child = site.start(command=[sys.executable, str(script)], env={"PYTHONPATH": python_path(site)})
    operator = site.operator(child)
    digest, raw = site.patch(old, new)
    assert child.tell("bool(gevent.spawn(cart.vat).join(0.05))") is False
    assert operator.ask(Stage(digest), raw).code == "ok"
    answer = operator.ask(Apply(digest, confirm=True))
    assert answer.code == "ZDP-205"
    assert "greenlet" in answer.cause
    assert child.end() == 0


def python_path(site: Site) -> str:
    """The tree, and what this interpreter was given."""
    return ":".join([str(site.tree), *sys.path])
