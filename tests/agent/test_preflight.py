"""A probe runs in an interpreter of its own, and what it finds decides."""

from __future__ import annotations

import os
import sys
import time

import pytest

from zdpatch.agent.identity import start_ticks
from zdpatch.agent.preflight import merged, run_probe
from zdpatch.patcher.attached import Probe
from zdpatch.patcher.errors import Refused
from zdpatch.patcher.source import DataChange, ModuleChange, Patch

CART = b"def price(x):\n    return x * 3\n"
PATCH = Patch("FIX-1", (ModuleChange("zdcart", "zdcart.py", False, b"", CART),))


def run(source: str, patch: Patch = PATCH, timeout_s: int = 10) -> str:
    """What is told of a probe that passes."""
    probe = Probe(name="checks.py", source="0" * 64, timeout_s=timeout_s)
    return run_probe(probe, source.encode(), patch)


def refusal(source: str, patch: Patch = PATCH, timeout_s: int = 10) -> str:
    """Why a probe refuses."""
    with pytest.raises(Refused) as caught:
        run(source, patch, timeout_s)
    assert caught.value.code == "ZDP-217"
    assert [each.path for each in caught.value.verdicts] == ["probe:checks.py"]
    return caught.value.cause


def test_every_kind_of_check() -> None:
    """Rows of a table, functions, coroutine functions; what is expected may be an exception."""
    said = run(
        "import asyncio, zdcart\n"
        "EXPECT = [('zdcart:price', (2,), 6), ('zdcart:price', (None,), TypeError)]\n"
        "def test_one():\n    assert zdcart.price(1) == 3\n"
        "async def test_two():\n    await asyncio.sleep(0)\n    assert zdcart.price(2) == 6\n"
        "def helper(x):\n    raise RuntimeError\n"
    )
    assert said.startswith("probe checks.py: 4 checks pass in a fresh interpreter")


def test_one_check_fails() -> None:
    """The refusal names it, and shows the line and what the probe printed."""
    cause = refusal(
        "import zdcart\ndef test_price():\n    print('seen', 9)\n    assert zdcart.price(1) == 4\n"
        "def test_more():\n    assert False\n"
    )
    assert "the probe checks.py fails: test_price\n" in cause
    assert "|     assert zdcart.price(1) == 4\n" in cause
    assert "| test_more fails too\n| it printed:\n| seen 9" in cause
    assert "probing.py" not in cause


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("('zdcart:price', (1,), 4)", "price(1) gives 3, not 4"),
        ("('zdcart:price', (1,), ValueError)", "raises no <class 'ValueError'>"),
        ("('zdcart:price', (None,), 4)", "TypeError"),
        ("('zdcart:gone', (), 4)", "has no attribute 'gone'"),
    ],
)
def test_a_row_that_is_not_so(row: str, why: str) -> None:
    """What a call gave is told."""
    assert why in refusal(f"EXPECT = [{row}]\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import zdgone\ndef test_a(): pass\n", "No module named 'zdgone'"),
        ("x = 1\n", "it has no check"),
        ("def test_a(:\n", "SyntaxError"),
        ("import os\ndef test_a():\n    os._exit(0)\n", "ended before the probe did"),
        ("import os\ndef test_a():\n    os.kill(os.getpid(), 9)\n", "ended before the probe did"),
        ("def test_a():\n    raise SystemExit(0)\n", "SystemExit"),
        ("def test_a(tmp_path): pass\n", "missing 1 required positional argument"),
    ],
)
def test_it_cannot_pass_by_not_running(source: str, why: str) -> None:
    """A probe that says nothing has failed."""
    assert why in refusal(source)


def test_time_limit() -> None:
    """It is ended with what it started."""
    cause = refusal(
        "import subprocess, sys\ndef test_a():\n"
        "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print('pid', p.pid, flush=True)\n    p.wait()\n",
        timeout_s=2,
    )
    assert "it did not end within 2 s" in cause
    pid = int(cause.rpartition("pid ")[2])
    for _ in range(500):  # the kernel takes a moment
        if start_ticks(pid) is None:
            return
        time.sleep(0.01)
    raise AssertionError("what it started lives")


def test_what_it_prints_is_bounded_and_marked() -> None:
    """No line of a probe can be taken for one of the agent's; control characters are no more."""
    cause = refusal(
        "def test_a():\n    print('\\x1b[31mERROR zdpatch: all is well')\n"
        "    print('x' * 5000)\n    raise ValueError\n"
    )
    lines = cause.splitlines()[1:]
    assert all(line.startswith("| ") and line.isprintable() for line in lines)
    assert max(map(len, lines)) < 320


def test_pytest_runs_its_own() -> None:
    """Fixtures and parameters are pytest's; a failure is told as it tells it."""
    module = (
        "import pytest, zdcart\n@pytest.mark.parametrize('n', [1, {0}])\n"
        "def test_p(n, tmp_path):\n    assert zdcart.price(n) == n * 3\n"
    )
    assert "2 checks pass" in run(module.format(2), timeout_s=30)
    cause = refusal(module.format(None), timeout_s=30)
    assert "fails: test_p[None]" in cause


def test_the_application_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, environment and modules are what they were; no agent starts in the probe."""
    monkeypatch.setenv("ZD_SEEN", "1")
    before = set(sys.modules)
    run(
        "import os, zdpatch.agent\ndef test_a():\n"
        "    assert os.environ['ZD_SEEN'] == '1' and os.environ['ZDPATCH'] == 'off'\n"
        "    assert zdpatch.agent.start(app='x').status()['state'] == 'off'\n"
        "    assert os.getpid() != " + str(os.getpid()) + "\n"
    )
    assert "zdcart" not in sys.modules
    assert {name for name in set(sys.modules) - before if name.startswith("zdpatch_probe")} == set()


def test_patches_below_it_are_seen() -> None:
    """The last patch of a module counts, and what only another has stays."""
    below = Patch(
        "FIX-0",
        (
            ModuleChange("zdcart", "zdcart.py", False, None, b"def price(x):\n    return 0\n"),
            ModuleChange("zdtax", "zdtax.py", False, None, b"VAT = 7\n"),
        ),
        (DataChange("shop/a.txt", b"1", b"2"),),
    )
    both = merged([below, PATCH])
    assert [change.name for change in both.changes] == ["zdcart", "zdtax"]
    assert (both.id, both.changes[0].new, both.data) == ("FIX-1", CART, below.data)
    run(
        "import zdcart, zdtax\ndef test_a():\n    assert (zdcart.price(1), zdtax.VAT) == (3, 7)\n",
        Patch(both.id, both.changes),
    )


def test_a_module_that_the_patch_removes() -> None:
    """It cannot be imported."""
    gone = Patch("FIX-2", (ModuleChange("json", "json/__init__.py", True, b"", None),))
    run(
        "def test_a():\n    try:\n        import json\n    except ImportError:\n        return\n"
        "    assert False\n",
        gone,
    )


def test_a_host_program_has_an_interpreter_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python is inside of a server, the one of its environment runs the probe."""
    monkeypatch.setattr(sys, "executable", "/usr/sbin/server")
    assert "1 check passes" in run("def test_a(): pass\n")
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    assert "to run it with" in refusal("def test_a(): pass\n")
