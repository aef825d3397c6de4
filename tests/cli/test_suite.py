"""`zdpatch test` and the pytest plugin tell a hot-patched process from a fresh one, with a real
pytest in processes of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Ran

ROOT = Path(__file__).parents[2]
PLUGIN = "zdpatch.agent.pytest_plugin"
OLD = """
RATE = 2


class Cart:
    def __init__(self):
        self.items = []

    def total(self):
        return sum(self.items)
"""
NEW = OLD.replace("RATE = 2", "RATE = 3").replace("(self.items)", "(self.items) * RATE")
SUITE = """
from shop.cart import Cart, RATE
from helper import TWICE

def test_total():
    cart = Cart()
    cart.items = [1, 2]
    assert cart.total() == 9

def test_rate():
    assert RATE == 3

def test_always_wrong():
    assert False
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two versions of a module, and a suite for the new one."""
    for name, text in (("old", OLD), ("new", NEW)):
        package = tmp_path / name / "shop"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "cart.py").write_text(text)
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "suite" / "helper.py").write_text("from shop import cart\nTWICE = cart.RATE * 2\n")
    (tmp_path / "suite" / "test_cart.py").write_text(SUITE)
    path = [str(ROOT / "src"), str(tmp_path / "old"), str(tmp_path / "suite")]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(tmp_path / "suite")
    return tmp_path


def write(project: Path, text: str) -> None:
    """Another new version."""
    (project / "new/shop/cart.py").write_text(text)


def suite(cli: Cli, *arguments: str) -> Ran:
    """`zdpatch test` over the two versions."""
    return cli("test", "--from", "../old", "--to", "../new", *arguments)


def test_a_patched_process_that_is_like_a_fresh_one(cli: Cli, project: Path) -> None:
    """Exit 0; a test that fails in both is named and does not count."""
    ran = suite(cli, "--json")
    assert ran.code == 0
    assert ran.json["agree"] is True
    assert ran.json["passed"] == 2
    assert ran.json["failed_in_both"] == ["test_cart.py::test_always_wrong"]
    assert ran.json["applied"]["start"]["functions"] == 1
    assert ran.json["stale"] == {}
    assert ran.json["refused_when_collected"] == {}
    with (project / "suite/test_cart.py").open("a") as test:
        test.write("import queue\nKEPT = queue.Queue(RATE)\n")
    ran = suite(cli, "--json")
    assert ran.code == 0
    held = ran.json["refused_when_collected"]["verdicts"]
    assert [each["path"] for each in held] == ["test_cart:KEPT"]
    assert suite(cli, "--when", "collected").code == 4


def test_a_patched_process_that_is_not(cli: Cli, project: Path) -> None:
    """An object that the base made is as the base made it: a test which looks finds that."""
    write(project, NEW.replace("self.items = []", "self.items = [1]"))
    text = "from helper import CART\n\ndef test_items():\n    assert CART.items == [1]\n"
    (project / "suite/helper.py").write_text("from shop import cart\nCART = cart.Cart()\n")
    (project / "suite/test_cart.py").write_text(text)
    assert suite(cli, "--when", "start").code == 0  # the patch is in before the helper is imported
    ran = suite(cli, "--json")
    assert ran.code == 4
    ends = {"live": "failed", "fresh": "passed", "when": "collected"}
    assert ran.json["differ"] == {"test_cart.py::test_items": ends}


def test_what_a_module_took_from_the_base_is_not_compared_and_told(cli: Cli, project: Path) -> None:
    """A test that is skipped, or cannot be imported, where names are the base's."""
    write(project, NEW + "\n\ndef added():\n    return 1\n")
    (project / "suite/test_cart.py").write_text("""
import pytest
from shop import cart

@pytest.mark.skipif(not hasattr(cart, "added"), reason="the base")
def test_added():
    assert cart.added() == 1

def test_both():
    assert cart.Cart().total() == 0
""")
    text = "from shop.cart import added\n\ndef test_it():\n    assert added() == 1\n"
    (project / "suite/test_added.py").write_text(text)
    apart = ["test_added.py::test_it", "test_cart.py::test_added"]
    ran = suite(cli, "--when", "collected", "--json")
    assert ran.code == 0
    assert ran.json["not_compared"] == apart
    assert ran.json["passed"] == 1
    assert "not compared: test_added.py::test_it" in suite(cli, "--when", "collected").out
    assert suite(cli, "--json").json["not_compared"] == []
    ran = suite(cli, "--when", "collected", "--", "test_added.py")
    assert ran.code == 2
    assert "nothing was compared" in ran.err


def test_a_patched_process_that_dies(cli: Cli, project: Path) -> None:
    """It is no bad usage: a fresh one lives."""
    write(project, NEW.replace("(self.items)", "(self.items) + getattr(self, 'x', 0)"))
    (project / "suite/test_cart.py").write_text("""
import os
from shop import cart
TOTAL = cart.Cart.total.__code__

def test_total():
    if cart.Cart.total.__code__ is not TOTAL:
        os._exit(0)
""")
    ran = suite(cli, "--json")
    assert ran.code == 4
    assert ran.json["differ"]["(the run)"]["live"] == "died with 0"


def test_both_runs_have_one_order(cli: Cli, project: Path) -> None:
    """What depends on the order of tests, or of a set, does so in both."""
    tests = "\n".join(f"def test_{n}(): COUNT.append({n})" for n in range(9))
    (project / "suite/test_cart.py").write_text(f"""
COUNT = []
{tests}
def test_last():
    path = {str(project / "orders")!r}
    open(path, "a").write(f"{{COUNT}} {{list({{*'abcdefgh'}})}}\\n")
""")
    assert suite(cli, "--", "-p", "pytest_randomly").code == 0
    orders = (project / "orders").read_text().splitlines()
    assert len(orders) == 3
    assert len(set(orders)) == 1


@pytest.mark.parametrize("when", ["start", "collected"])
def test_workers_of_xdist_are_what_is_told(cli: Cli, project: Path, when: str) -> None:
    """They run the tests, not the process which leads them."""
    (project / "suite/test_cart.py").write_text(SUITE.replace("Cart, RATE", "Cart"))
    (project / "suite/helper.py").write_text("TWICE = 2\n")
    xdist = ("--", "-p", "xdist", "-n", "2")
    ran = suite(cli, "--when", when, "--json", *xdist)
    assert ran.code == 0
    assert ran.json["applied"][when]["functions"] == 1
    write(project, NEW.replace("class Cart:", "class Cart(dict):"))
    ran = suite(cli, "--when", when, "--json", *xdist)
    assert ran.code == 4
    assert ran.json["error"]["verdicts"][0]["path"] == "shop.cart:Cart"


def test_a_refused_patch(cli: Cli, project: Path) -> None:
    """Exit 4, with the verdict of the process."""
    write(project, NEW.replace("class Cart:", "class Cart(dict):"))
    ran = suite(cli, "--json")
    assert ran.code == 4
    assert ran.json["error"]["verdicts"][0]["path"] == "shop.cart:Cart"


def test_a_suite_without_tests(cli: Cli, project: Path) -> None:
    """Nothing was compared: that is no agreement."""
    ran = suite(cli, "--", "-k", "no_such_test")
    assert ran.code == 2
    assert "nothing was compared" in ran.err


def test_a_pytest_that_does_not_start(cli: Cli, project: Path) -> None:
    """The error says so and shows the command."""
    ran = suite(cli, "--", "--no-such-option")
    assert ran.code == 2
    assert "without a result" in ran.err


def test_an_interpreter_that_is_none(cli: Cli, project: Path) -> None:
    """The error says so, and that nothing was done."""
    for python in ("no-such-python", str(project)):
        ran = suite(cli, "--python", python)
        assert ran.code == 2
        assert f"{python} cannot be started" in ran.err


def test_a_suite_that_hangs_is_ended(cli: Cli, project: Path) -> None:
    """The limit ends pytest and what it started."""
    (project / "suite/test_cart.py").write_text("import threading\nthreading.Event().wait()\n")
    ran = suite(cli, "--limit", "3")
    assert ran.code == 2
    assert "3 s" in ran.err


def test_a_bundle(cli: Cli, project: Path) -> None:
    """The very bytes that will be pushed can be tested."""
    made = cli(
        "build", "--from", "../old", "--to", "../new", "--app", "shop", "-o", "../fix.zdp",
    )  # fmt: skip
    assert made.code == 0
    assert cli("test", "../fix.zdp").code == 0
    assert cli("test", "../fix.zdp", "--from", "../old").code == 2


def test_the_fixture_takes_the_patch_back(project: Path) -> None:
    """`hot_patch` patches the process of the test, and the next test runs the base again."""
    (project / "suite/test_cart.py").write_text("""
import pytest
from shop.cart import Cart
from zdpatch.patcher.errors import Refused

CART = Cart()
CART.items = [1, 2]

@pytest.mark.parametrize("again", [1, 2])
def test_patched(hot_patch, again):
    assert CART.total() == 3
    applied = hot_patch("../old", "../new")
    assert (applied.functions, CART.total()) == (1, 9)
    with pytest.raises(Refused):
        hot_patch({"shop/cart.py": "X = 1\\n"}, {"shop/cart.py": "X = 2\\n"})

def test_not_patched():
    assert CART.total() == 3
""")
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["one", "xdist"])
def test_the_plugin_alone(cli: Cli, project: Path, workers: tuple[str, ...]) -> None:
    """`pytest --zdpatch` runs a suite in the patched process, workers of xdist too."""
    made = cli(
        "build", "--from", "../old", "--to", "../new", "--app", "shop", "-o", "../fix.zdp",
    )  # fmt: skip
    assert made.code == 0
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "--zdpatch", "../fix.zdp"]
    command += ["--zdpatch-report", "../report.json", *workers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    outcomes = json.loads((project / "report.json").read_text())["outcomes"]
    assert sorted(outcomes.values()) == ["failed", "passed", "passed"]
    (project / "broken.zdp").write_bytes(b"no bundle")
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "--zdpatch", "../broken.zdp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "ZDP-102" in done.stderr
