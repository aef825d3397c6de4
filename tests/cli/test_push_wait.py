"""A push that waits says how the trial ended; an interrupted one leaves nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Fleet
    from zdpatch.agent.messages import Request


def test_wait_until_nobody_is_left(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """When every process ends during the trial, that is said: exit 9."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:

        def end(_request: Request) -> bytes:
            child.kill()
            child.wait()
            return b""

        fleet.add_for(child).script["status"] = end
        ran = cli("push", bundle, "--yes", "--wait", "--json")
    assert (ran.code, ran.error["code"]) == (9, "ZDP-305")
    assert "ended" in ran.error["cause"]


def test_wait_until_confirmed(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--wait ends with 0 when somebody confirms."""
    agent = fleet.add()
    asked = threading.Event()

    def status(request: Request) -> object:
        if asked.is_set():
            agent.put(next(iter(agent.patches)), "confirmed")
        asked.set()
        return agent.on_status(request)

    agent.script["status"] = status  # type: ignore[assignment]
    ran = cli("push", bundle, "--yes", "--wait", "--json")
    assert ran.code == 0
    assert ran.json["targets"][0]["patch_state"] == "confirmed"


def test_wait_sees_the_revert(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--wait ends with 6 when the trial ran out."""
    agent = fleet.add()

    def status(request: Request) -> object:
        agent.put(next(iter(agent.patches)), "reverted")
        return agent.on_status(request)

    agent.script["status"] = status  # type: ignore[assignment]
    ran = cli("push", bundle, "--yes", "--wait", "--json")
    assert ran.code == 6
    assert ran.error["code"] == "ZDP-501"


def test_wait_survives_a_recycled_worker(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """A worker that ends during the trial is no failure while another one keeps the patch."""
    agent = fleet.add()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        recycled = fleet.add_for(child)

        def end(_request: Request) -> bytes:
            child.kill()
            child.wait()
            agent.put(next(iter(agent.patches)), "confirmed")
            return b""

        recycled.script["status"] = end
        ran = cli("push", bundle, "--yes", "--wait", "--json")
    assert ran.code == 0
    outcomes = {target["agent"]: target["outcome"] for target in ran.json["targets"]}
    assert outcomes == {agent.name: "applied", recycled.name: "ended"}


def test_wait_runs_out_of_time(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """--wait with --timeout ends with 8 while the trial goes on."""
    fleet.add()
    ran = cli("push", bundle, "--yes", "--wait", "--timeout", "0.5s", "--json")
    assert ran.code == 8
    assert ran.json["targets"][0]["patch_state"] == "trial"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_detaches(cli: Cli, fleet: Fleet, bundle: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM while waiting detaches: exit 130, the trial goes on."""
    agent = fleet.add()
    waiting = threading.Event()

    def status(request: Request) -> object:
        waiting.set()
        return agent.on_status(request)

    agent.script["status"] = status  # type: ignore[assignment]
    command = [sys.executable, "-m", "zdpatch.cli.main", "push", str(bundle), "--yes", "--wait"]
    with subprocess.Popen(
        command,
        env={**os.environ, "ZDPATCH_HOME": str(cli.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert waiting.wait(20)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Detached" in err
    assert "zdpatch confirm FIX-1" in out
    assert agent.states == ["trial"]


def test_interrupt_waits_for_the_apply(cli: Cli, fleet: Fleet, bundle: Path) -> None:
    """Ctrl-C while the targets apply does not leave some with and some without."""
    quick, slow = fleet.add(), fleet.add()
    begun = threading.Event()
    go_on = threading.Event()

    def apply(request: Request) -> object:
        begun.set()
        go_on.wait(20)
        return slow.on_apply(request)

    slow.script["apply"] = apply  # type: ignore[assignment]
    command = [sys.executable, "-m", "zdpatch.cli.main", "push", str(bundle), "--yes"]
    env = {**os.environ, "ZDPATCH_HOME": str(cli.home)}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert begun.wait(20)
        process.send_signal(signal.SIGINT)
        go_on.set()
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert (quick.states, slow.states) == (["trial"], ["trial"])
