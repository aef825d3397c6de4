"""Children that are no forks do not have the patches of their parent, and it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.protocol import Apply, Plan, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

# How a service makes a child; a daemon ends with it, whatever a test finds.
CHILD = (
    "worker = __import__('multiprocessing').get_context('{method}')"
    ".Process(target={target}, args=({argument},), daemon=True)"
)
# What the child executes: the service is its main module under the name that multiprocessing gives.
WITH_AGENT = "import __mp_main__, time; handle = __mp_main__.start(); time.sleep(99)"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_children(site: Site, method: str) -> None:
    """Named by plan and status while they live; a fork has what its parent has."""
    child = site.start()
    operator = site.operator(child)
    child.tell(CHILD.format(method=method, target="time.sleep", argument=99))
    child.tell("worker.start()")
    pids = [] if method == "fork" else [child.tell("worker.pid")]
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    said = " ".join(operator.ask(Plan(digest)).result["notices"])
    assert ("run the base" in said) == bool(pids)
    assert operator.ask(Status()).result["children"] == []  # no patch is in yet
    assert operator.ask(Apply(digest)).code == "ok"
    told = operator.ask(Status()).result
    assert told["children"] == pids
    assert ("run the base" in " ".join(told["warnings"])) == bool(pids)
    child.tell("worker.terminate()")
    child.tell("worker.join()")
    assert operator.ask(Status()).result["children"] == []


def test_a_child_with_an_agent(site: Site) -> None:
    """It has what is wanted, as any process that starts."""
    child = site.start()
    operator = site.operator(child)
    child.tell(CHILD.format(method="spawn", target="exec", argument=repr(WITH_AGENT)))
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    child.tell("worker.start()")
    site.eventually(lambda: len(site.agents()) == 2)
    assert operator.ask(Status()).result["children"] == []


def test_the_start_method(site: Site) -> None:
    """Before there is any child, what multiprocessing would do is said."""
    child = site.start()
    operator = site.operator(child)
    child.tell("__import__('multiprocessing').set_start_method('spawn')")
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    said = operator.ask(Plan(digest)).result["notices"]
    assert "its start method is spawn here" in said[-1]
    operator.ask(Apply(digest))
    told = operator.ask(Status()).result
    assert (told["children"], "start method is spawn" in told["warnings"][-1]) == ([], True)
